//! What is done to a good request, and the numbers that decide it.

use serde_json::{Map, Value, json};

use crate::corpus::{Corpus, Draft};

/// Random numbers that a seed repeats (xorshift64*).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// The request with up to three things wrong; one in six stays good.
pub(crate) fn mutated(rng: &mut Rng, base: &Draft, corpus: &Corpus) -> Draft {
    let mut draft = base.clone();
    if rng.below(6) == 0 {
        return draft;
    }
    for _ in 0..=rng.below(3) {
        match rng.below(12) {
            0..=4 => body(rng, &mut draft, corpus),
            5..=7 => path(rng, &mut draft),
            8 => draft.method = (*rng.pick(METHODS)).to_owned(),
            9 | 10 => query(rng, &mut draft),
            _ => header(rng, &mut draft),
        }
    }
    draft
}

const METHODS: &[&str] = &["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"];

/// Segments that mean nothing, or could mean two things.
const SEGMENTS: &[&str] = &[
    "..",
    ".",
    "",
    "%2e%2e",
    "%2F",
    "%5c",
    "%zz",
    "%",
    "%2",
    "%00",
    "%0a",
    "%ff",
    "%c3%28",
    "%c3%a4",
    "%F0%9F%98%80",
    "%252e%252e",
    "%20",
    "providers",
    "subscriptions",
    "resourceGroups",
    "null",
    "-1",
    "x'--",
    "a:b",
    "*",
    "%25",
    "~",
    "default",
    "$filter",
    "(x)",
    ";",
    "@",
    "=",
];

fn path(rng: &mut Rng, draft: &mut Draft) {
    let mut parts: Vec<String> = draft.path.split('/').skip(1).map(str::to_owned).collect();
    let at = rng.below(parts.len().max(1));
    match rng.below(9) {
        0 => parts.insert(at, (*rng.pick(SEGMENTS)).to_owned()),
        1 if !parts.is_empty() => parts[at] = (*rng.pick(SEGMENTS)).to_owned(),
        2 if parts.len() > 1 => drop(parts.remove(at)),
        3 if !parts.is_empty() => parts.insert(at, parts[at].clone()),
        4 => parts.push((*rng.pick(SEGMENTS)).to_owned()),
        5 if !parts.is_empty() => parts[at] = parts[at].to_uppercase(),
        6 => parts.iter_mut().for_each(|part| *part = part.to_lowercase()),
        7 if !parts.is_empty() => parts[at] = "x".repeat([91, 300, 9 * 1024][rng.below(3)]),
        _ => parts.truncate(at + 1),
    }
    draft.path = format!("/{}", parts.join("/"));
}

const VERSIONS: &[&str] = &[
    "2021-01-01",
    "2026-06-01",
    "2024-04-01-preview",
    "2020-12-31",
    "latest",
    "",
    "2021-13-45",
    "9999-12-31",
    "%00",
    "2021-01-01%202021-01-01",
];

const FILTERS: &[&str] = &[
    "atScope()",
    "atScope(",
    "principalId%20eq%20'x'",
    "x%20eq%20'",
    "type%20eq%20'CustomRole'%20and%20atScope()",
    "'",
    "%27%27%27",
    "%f0%9f",
    "startDate%20eq%20'2021-01-01T00:00:00Z'%20and%20endDate%20eq%20'x'",
    "startDate%20ge%20'9999-99-99'",
    "%00",
    "a%20or%20b",
    "%C3%A4%20eq%20'1'",
    "appId%20eq%20''",
    "servicePrincipalNames/any(c:c%20eq%20'x')",
];

fn query(rng: &mut Rng, draft: &mut Draft) {
    match rng.below(6) {
        0 => draft.query = format!("api-version={}", rng.pick(VERSIONS)),
        1 => draft.query = String::new(),
        2 => draft.query.push_str(&format!("&$filter={}", rng.pick(FILTERS))),
        3 => {
            let token = *rng.pick(&["x", "", "%00", "AAAA", "LTE", "9223372036854775807_x", "-1", "////", "e30="]);
            draft.query.push_str(&format!("&$skipToken={token}"));
        }
        4 => draft.query = draft.query.replace("api-version", "API-VERSION&&=&a&%zz=%zz&api-version"),
        _ => draft.query.push_str(&format!("&x={}", "y".repeat(2_000))),
    }
}

const HEADERS: &[(&str, &[u8])] = &[
    ("If-Match", b"*"),
    ("If-Match", b"\"x\", W/\"y\", z"),
    ("If-None-Match", b"*"),
    ("If-None-Match", b"\xff\xfe"),
    ("x-ms-deleted-vault-id", b"00000000-0000-0000-0000-000000000000"),
    ("x-ms-deleted-vault-id", b"/subscriptions/x"),
    ("x-ms-authorization-auxiliary", b"Bearer x, y;EncryptedBearer z"),
    ("x-ms-client-request-id", b"\xc3\xa4"),
    ("x-ms-return-client-request-id", b"true"),
    ("Content-Type", b"text/html; charset=utf-16"),
    ("Content-Encoding", b"gzip"),
    ("Accept", b"image/png"),
    ("Authorization", b"Bearer x.y.z"),
    ("Authorization", b"Basic \xff"),
    ("Authorization", b""),
    ("X-HTTP-Method-Override", b"DELETE"),
    ("Range", b"bytes=0-1"),
];

fn header(rng: &mut Rng, draft: &mut Draft) {
    let (name, value) = *rng.pick(HEADERS);
    draft.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    draft.headers.push((name.to_owned(), value.to_vec()));
}

fn body(rng: &mut Rng, draft: &mut Draft, corpus: &Corpus) {
    let parsed = draft.body.as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let Some(mut value) = parsed else {
        draft.body = rng.pick(corpus.all()).body.clone();
        return;
    };
    let text = match rng.below(14) {
        0 => return draft.body = rng.pick(corpus.all()).body.clone(),
        1 => return draft.body = None,
        2 => return draft.body = Some(broken(rng, &value.to_string())),
        3 => twice(rng, &value),
        _ => {
            change(rng, &mut value);
            value.to_string()
        }
    };
    draft.body = Some(text.into_bytes());
}

/// No JSON any more, or none that is text.
fn broken(rng: &mut Rng, text: &str) -> Vec<u8> {
    let at = rng.below(text.len());
    let mut bytes = text.as_bytes().to_vec();
    match rng.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at] = 0xff,
        2 => bytes.insert(at, 0),
        3 => return text.replacen('"', "\"\\ud800", 3).into_bytes(),
        4 => return format!("{text}{text}").into_bytes(),
        _ => return b"\xEF\xBB\xBF\xEF\xBB\xBF".to_vec(),
    }
    bytes
}

/// A member stands there twice.
fn twice(rng: &mut Rng, value: &Value) -> String {
    let names: Vec<&String> = value.as_object().map(|members| members.keys().collect()).unwrap_or_default();
    if names.is_empty() {
        return format!("[{value},{value}]");
    }
    let name = *rng.pick(&names);
    let text = value.to_string();
    format!("{{\"{name}\":{},{}", rng.pick(&["null", "[]", "3", "\"x\"", "{}"]), &text[1..])
}

/// Changes one thing somewhere inside.
fn change(rng: &mut Rng, value: &mut Value) {
    let goes_deeper = rng.below(4) != 0;
    match value {
        Value::Object(members) if !members.is_empty() => {
            let names: Vec<String> = members.keys().cloned().collect();
            let name = rng.pick(&names);
            if goes_deeper && (members[name].is_object() || members[name].is_array()) {
                change(rng, &mut members[name]);
            } else {
                change_member(rng, members, name);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.below(items.len());
            match rng.below(5) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                2 => items[at] = odd(rng),
                3 => items.clear(),
                _ => change(rng, &mut items[at]),
            }
        }
        other => *other = odd(rng),
    }
}

fn change_member(rng: &mut Rng, members: &mut Map<String, Value>, name: &str) {
    match rng.below(7) {
        0 => drop(members.remove(name)),
        1 => {
            let value = members.remove(name).unwrap_or_default();
            members.insert(format!("{name}x"), value);
        }
        2 => {
            let value = members.remove(name).unwrap_or_default();
            members.insert(if rng.below(2) == 0 { name.to_uppercase() } else { name.to_lowercase() }, value);
        }
        3 => {
            drop(members.insert((*rng.pick(&["", "\u{0}", "tags", "properties", "$schema", "ä"])).to_owned(), odd(rng)))
        }
        _ => drop(members.insert(name.to_owned(), odd(rng))),
    }
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "x",
    "null",
    "\u{0}",
    "\u{202e}abc",
    "äöü",
    "../../etc/passwd",
    "/subscriptions/x",
    "/",
    "//",
    "P0D",
    "P1Y2M10DT2H30M",
    "P99999999999999D",
    "PT-5M",
    "R/2021-01-01T00:00:00+00:00/P1D",
    "R/x/PT0S",
    "R/9999-12-31T23:59:59Z/P9999Y",
    "2021-02-30T25:61:61Z",
    "9999-12-31T23:59:59.9999999Z",
    "-0001-01-01T00:00:00Z",
    "00000000-0000-0000-0000-000000000000",
    "VaultStore",
    "OperationalStore",
    "Locked",
    "AlwaysOn",
    "Off",
    "UTC",
    "W. Europe Standard Time",
    "Mars/Olympus",
    "DROP TABLE jobs; --",
    "%s%n",
    "{0}",
    "{scope}",
    "*",
    "a/b",
    "\\",
    "😀",
];

/// A value that nobody expects there.
fn odd(rng: &mut Rng) -> Value {
    match rng.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!([]),
        3 => json!({}),
        4 => json!(-1),
        5 => json!(u64::MAX),
        6 => json!(1e308),
        7 => json!(0.1),
        8 => json!(i64::MIN),
        9 if rng.below(4) == 0 => json!("x".repeat(1024 * 1024)),
        10 => {
            // Deeper than what is read.
            let mut value = json!(1);
            for _ in 0..200 {
                value = if rng.below(2) == 0 { json!([value]) } else { json!({ "properties": value }) };
            }
            value
        }
        11 => json!(vec![json!("x"); 3_000]),
        _ => json!(rng.pick(TEXTS)),
    }
}
