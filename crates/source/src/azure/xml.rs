//! Reading the answers to List Containers and List Blobs as a stream of events: no tree is built, and nothing is kept of
//! elements that are not asked for. Azure's and Azurite's spellings are both understood.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobkeep_vault::{BlobEntry, BlobKind, ContainerEntry, Timestamp};
use percent_encoding::percent_decode;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::clock::parse_http_date;

/// A blob takes about this much in a listing, and rarely less.
const BLOB_BYTES: usize = 700;

/// A page of blobs.
#[derive(Debug, Default)]
pub(crate) struct BlobPage {
    pub(crate) entries: Vec<BlobEntry>,
    /// What the names of further blobs begin with, up to the delimiter that was asked for.
    pub(crate) prefixes: Vec<String>,
    /// The marker of the next page.
    pub(crate) next: Option<String>,
}

/// A page of containers, and the marker of the next one.
pub(crate) type ContainerPage = (Vec<ContainerEntry>, Option<String>);

/// Calls `on` with the path (element names, outermost first) and the text of each element that has no children, and when
/// an element closes. Ends with the first error of `on`.
pub(super) fn walk(body: &[u8], mut on: impl FnMut(Step<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut reader = Reader::from_reader(body);
    reader.config_mut().check_end_names = true;
    let mut depth = 0_usize;
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut text = String::new();
    let mut is_leaf = false;
    let mut is_encoded = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                set_name(&mut names, depth, &start);
                depth += 1;
                text.clear();
                is_leaf = true;
                is_encoded = has_encoded_mark(&start);
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::CData(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                Some(character) => text.push(character),
                None => text.push_str(match &*reference {
                    b"amp" => "&",
                    b"lt" => "<",
                    b"gt" => ">",
                    b"quot" => "\"",
                    b"apos" => "'",
                    _ => return Err("an unknown entity".to_owned()),
                }),
            },
            Event::End(_) => {
                depth = depth.checked_sub(1).ok_or("an element ends that never started")?;
                let path = &names[..=depth];
                if is_leaf {
                    on(Step::Leaf { path, text: &text, is_encoded })?;
                }
                on(Step::End { path })?;
                is_leaf = false;
            }
            Event::Empty(start) => {
                set_name(&mut names, depth, &start);
                let path = &names[..=depth];
                on(Step::Leaf { path, text: "", is_encoded: false })?;
                on(Step::End { path })?;
                is_leaf = false;
            }
            Event::Eof if depth == 0 => return Ok(()),
            Event::Eof => return Err("it ends too early".to_owned()),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Puts the name of an element into the path. Its buffers are used again and again: a page has a hundred thousand elements.
fn set_name(names: &mut Vec<Vec<u8>>, depth: usize, start: &BytesStart<'_>) {
    if names.len() == depth {
        names.push(Vec::new());
    }
    names[depth].clear();
    names[depth].extend_from_slice(start.name().as_ref());
}

pub(super) enum Step<'a> {
    Leaf { path: &'a [Vec<u8>], text: &'a str, is_encoded: bool },
    End { path: &'a [Vec<u8>] },
}

fn has_encoded_mark(start: &BytesStart<'_>) -> bool {
    start.attributes().flatten().any(|attribute| attribute.key.as_ref() == b"Encoded" && &*attribute.value == b"true")
}

fn decoded(text: &str, is_encoded: bool) -> String {
    match is_encoded {
        true => percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned(),
        false => text.to_owned(),
    }
}

fn some(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

/// A value that must not be guessed: a length that reads as zero would make an empty blob of a full one.
fn needed<T>(value: Option<T>, of: &str, name: &[u8], text: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{of:?} has {text:?} as its {}", String::from_utf8_lossy(name)))
}

/// The same for a value that an endpoint may leave out or empty.
fn if_given<T>(read: impl FnOnce(&str) -> Option<T>, of: &str, name: &[u8], text: &str) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { needed(read(text), of, name, text).map(Some) }
}

/// An ETag without its quotes.
pub(crate) fn plain_etag(text: &str) -> String {
    text.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// What is known of one blob while its element is read.
#[derive(Default)]
struct BlobDraft {
    entry: BlobEntry,
    size_bytes: Option<u64>,
    modified_at: Option<Timestamp>,
    blob_type: String,
    is_sealed: bool,
    sequence_number: i64,
    is_tier_inferred: bool,
    is_folder: bool,
    tag_key: String,
    version_id: Option<String>,
    is_current_version: bool,
}

impl BlobDraft {
    fn leaf(&mut self, path: &[Vec<u8>], text: &str, is_encoded: bool) -> Result<(), String> {
        let [first, below @ ..] = path else { return Ok(()) };
        match (first.as_slice(), below) {
            (b"Name", []) => self.entry.name = decoded(text, is_encoded),
            (b"VersionId", []) => self.version_id = some(text),
            (b"IsCurrentVersion", []) => self.is_current_version = text == "true",
            (b"Properties", [name]) => self.property(name, text)?,
            (b"Metadata", [name]) => self.metadata(name, text),
            (b"Tags", [_, _, name]) if name == b"Key" => self.tag_key = text.to_owned(),
            (b"Tags", [_, _, name]) if name == b"Value" => {
                self.entry.tags.push((std::mem::take(&mut self.tag_key), text.to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn property(&mut self, name: &[u8], text: &str) -> Result<(), String> {
        let entry = &mut self.entry;
        let of = &entry.name;
        match name {
            b"Creation-Time" => entry.created_at = if_given(parse_http_date, of, name, text)?.unwrap_or_default(),
            b"Last-Modified" => self.modified_at = Some(needed(parse_http_date(text), of, name, text)?),
            b"Etag" | b"ETag" => entry.etag = plain_etag(text),
            b"Content-Length" => self.size_bytes = Some(needed(text.parse().ok(), of, name, text)?),
            b"Content-Type" => entry.headers.content_type = some(text),
            b"Content-Encoding" => entry.headers.content_encoding = some(text),
            b"Content-Language" => entry.headers.content_language = some(text),
            b"Content-Disposition" => entry.headers.content_disposition = some(text),
            b"Cache-Control" => entry.headers.cache_control = some(text),
            b"Content-MD5" => entry.content_md5 = md5_from_base64(text),
            b"BlobType" => self.blob_type = text.to_owned(),
            b"Sealed" => self.is_sealed = text == "true",
            b"x-ms-blob-sequence-number" => {
                self.sequence_number = if_given(|text| text.parse().ok(), of, name, text)?.unwrap_or_default();
            }
            b"AccessTier" => entry.tier = some(text),
            b"AccessTierInferred" => self.is_tier_inferred = text == "true",
            b"LegalHold" => entry.immutability.legal_hold = text == "true",
            b"ImmutabilityPolicyUntilDate" => {
                entry.immutability.until = if_given(parse_http_date, of, name, text)?;
            }
            b"ImmutabilityPolicyMode" => entry.immutability.mode = some(text),
            b"EncryptionScope" => entry.encryption_scope = some(text),
            b"ResourceType" => self.is_folder = text == "directory",
            _ => {}
        }
        Ok(())
    }

    fn metadata(&mut self, name: &[u8], text: &str) {
        let name = String::from_utf8_lossy(name);
        if name.eq_ignore_ascii_case("hdi_isfolder") && text.eq_ignore_ascii_case("true") {
            self.is_folder = true;
        }
        self.entry.metadata.push((name.into_owned(), text.to_owned()));
    }

    /// `None` for the marks that accounts with a hierarchical namespace keep for folders: they hold nothing.
    fn finish(mut self, container: &str) -> Result<Option<BlobEntry>, String> {
        if self.is_folder && self.size_bytes.unwrap_or_default() == 0 {
            return Ok(None);
        }
        let entry = &mut self.entry;
        let missing = |what: &str| format!("{:?} has no {what}", entry.name);
        if entry.name.is_empty() {
            return Err("a blob has no name".to_owned());
        }
        let size_bytes = self.size_bytes.ok_or_else(|| missing("Content-Length"))?;
        let modified_at = self.modified_at.ok_or_else(|| missing("Last-Modified"))?;
        (entry.size_bytes, entry.modified_at) = (size_bytes, modified_at);
        container.clone_into(&mut entry.container);
        entry.kind = match self.blob_type.as_str() {
            "AppendBlob" => BlobKind::Append { sealed: self.is_sealed },
            "PageBlob" => BlobKind::Page { sequence_number: self.sequence_number },
            _ => BlobKind::Block,
        };
        if self.is_tier_inferred {
            entry.tier = None;
        }
        // Only the current one of several versions is marked. A blob that was last written while no versions were kept has no version id at all.
        match self.is_current_version {
            true => entry.current_version = self.version_id,
            false => entry.version = self.version_id,
        }
        if entry.created_at.0 == 0 {
            entry.created_at = entry.modified_at;
        }
        entry.metadata.sort();
        entry.tags.sort();
        Ok(Some(self.entry))
    }
}

/// Reads one page of List Blobs.
///
/// # Errors
/// What is wrong with the document.
pub(crate) fn parse_blobs(body: &[u8], container: &str) -> Result<BlobPage, String> {
    // A vector that grows by doubling would take up to three times its size for a moment.
    let entries = Vec::with_capacity(body.len() / BLOB_BYTES);
    let mut page = BlobPage { entries, ..BlobPage::default() };
    let mut draft = BlobDraft::default();
    let mut is_listing = false;
    walk(without_bom(body), |step| {
        match step {
            Step::Leaf { path: [_, marker], text, .. } if marker == b"NextMarker" => page.next = some(text),
            Step::Leaf { path: [_, blobs, blob, rest @ ..], text, is_encoded }
                if blobs == b"Blobs" && blob == b"Blob" =>
            {
                draft.leaf(rest, text, is_encoded)?;
            }
            Step::Leaf { path: [_, blobs, prefix, name], text, is_encoded }
                if blobs == b"Blobs" && prefix == b"BlobPrefix" && name == b"Name" =>
            {
                page.prefixes.push(decoded(text, is_encoded));
            }
            Step::End { path: [_, list, blob] } if list == b"Blobs" && blob == b"Blob" => {
                page.entries.extend(std::mem::take(&mut draft).finish(container)?);
            }
            Step::End { path: [root] } => is_listing = root == b"EnumerationResults",
            _ => {}
        }
        Ok(())
    })?;
    if is_listing { Ok(page) } else { Err("it is no list of blobs".to_owned()) }
}

/// Reads one page of List Containers.
///
/// # Errors
/// What is wrong with the document.
pub(crate) fn parse_containers(body: &[u8]) -> Result<ContainerPage, String> {
    let (mut containers, mut next) = (Vec::new(), None);
    let mut draft = ContainerEntry::default();
    let mut is_listing = false;
    walk(without_bom(body), |step| {
        match step {
            Step::Leaf { path: [_, marker], text, .. } if marker == b"NextMarker" => next = some(text),
            Step::Leaf { path: [_, _, container, rest @ ..], text, .. } if container == b"Container" => {
                container_leaf(&mut draft, rest, text)?;
            }
            Step::End { path: [_, _, container] } if container == b"Container" => {
                let mut entry = std::mem::take(&mut draft);
                entry.metadata.sort();
                containers.push(entry);
            }
            Step::End { path: [root] } => is_listing = root == b"EnumerationResults",
            _ => {}
        }
        Ok(())
    })?;
    if is_listing { Ok((containers, next)) } else { Err("it is no list of containers".to_owned()) }
}

fn container_leaf(draft: &mut ContainerEntry, path: &[Vec<u8>], text: &str) -> Result<(), String> {
    let [first, below @ ..] = path else { return Ok(()) };
    match (first.as_slice(), below) {
        (b"Name", []) => draft.name = text.to_owned(),
        (b"Metadata", [name]) => {
            draft.metadata.push((String::from_utf8_lossy(name).into_owned(), text.to_owned()));
        }
        (b"Properties", [name]) => match name.as_slice() {
            b"Etag" | b"ETag" => draft.etag = plain_etag(text),
            b"Last-Modified" => {
                draft.modified_at = if_given(parse_http_date, &draft.name, name, text)?.unwrap_or_default();
            }
            b"PublicAccess" => draft.public_access = some(text),
            b"HasLegalHold" => draft.has_legal_hold = text == "true",
            b"HasImmutabilityPolicy" => draft.has_immutability_policy = text == "true",
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

/// MD5 in base64, as headers and listings have it.
pub(crate) fn md5_from_base64(text: &str) -> Option<[u8; 16]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// The document behind its byte order mark.
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Text with the five characters escaped that XML knows by name.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AZURE: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
        ServiceEndpoint=\"https://acc.blob.core.windows.net/\" ContainerName=\"photos\"><MaxResults>2</MaxResults><Blobs>\
        <Blob><Name>a &amp; b/&lt;x&gt;&#228;.txt</Name><Properties><Creation-Time>Sun, 06 Nov 1994 08:49:37 GMT</Creation-Time>\
        <Last-Modified>Thu, 29 Feb 2024 23:59:59 GMT</Last-Modified><Etag>0x8D1</Etag><Content-Length>11</Content-Length>\
        <Content-Type>text/plain</Content-Type><Content-Encoding /><Content-Language /><Content-CRC64 />\
        <Content-MD5>XrY7u+Ae7tCTyyK7j1rNww==</Content-MD5><Cache-Control>no-cache</Cache-Control><Content-Disposition />\
        <BlobType>BlockBlob</BlobType><AccessTier>Cool</AccessTier><LeaseStatus>unlocked</LeaseStatus>\
        <ServerEncrypted>true</ServerEncrypted><EncryptionScope>scope1</EncryptionScope><TagCount>2</TagCount>\
        <ImmutabilityPolicyUntilDate>Thu, 29 Feb 2024 23:59:59 GMT</ImmutabilityPolicyUntilDate>\
        <ImmutabilityPolicyMode>unlocked</ImmutabilityPolicyMode><LegalHold>true</LegalHold></Properties>\
        <Metadata><Zeta>1</Zeta><alpha>two &amp; three</alpha></Metadata><Tags><TagSet><Tag><Key>z</Key><Value>1</Value></Tag>\
        <Tag><Key>a b</Key><Value></Value></Tag></TagSet></Tags><OrMetadata /></Blob>\
        <Blob><Name Encoded=\"true\">odd%01%EF%BF%BF%25</Name><Properties><Etag>0x8D2</Etag><Content-Length>512</Content-Length>\
        <Last-Modified>Thu, 01 Jan 1970 00:00:01 GMT</Last-Modified><x-ms-blob-sequence-number>7</x-ms-blob-sequence-number>\
        <BlobType>PageBlob</BlobType></Properties></Blob></Blobs><NextMarker>2!76!x</NextMarker></EnumerationResults>";

    const AZURITE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><EnumerationResults \
        ServiceEndpoint=\"http://127.0.0.1:10000/devstoreaccount1\" ContainerName=\"c\"><Prefix/><Marker/><MaxResults>5000</MaxResults>\
        <Delimiter/><Blobs><Blob><Name>log</Name><Properties><Creation-Time>Thu, 01 Jan 1970 00:00:02 GMT</Creation-Time>\
        <Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified><Etag>\"0x1\"</Etag><Content-Length>0</Content-Length>\
        <Content-Type>application/octet-stream</Content-Type><BlobType>AppendBlob</BlobType><Sealed>true</Sealed>\
        <AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred></Properties></Blob>\
        <Blob><Name>dir</Name><Properties><Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType></Properties>\
        <Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>\
        <Blob><Name>notdir</Name><Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified><Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType></Properties>\
        <Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob></Blobs><NextMarker/></EnumerationResults>";

    #[test]
    fn a_page_of_azure_is_read_with_every_property() {
        let BlobPage { entries: blobs, next, .. } = parse_blobs(AZURE.as_bytes(), "photos").unwrap();
        assert_eq!(next.as_deref(), Some("2!76!x"));
        let [block, page] = blobs.as_slice() else { panic!("two blobs") };
        assert_eq!((block.container.as_str(), block.name.as_str()), ("photos", "a & b/<x>ä.txt"));
        assert_eq!(
            (block.created_at, block.modified_at),
            (Timestamp(784_111_777_000_000), Timestamp(1_709_251_199_000_000))
        );
        assert_eq!((block.etag.as_str(), block.size_bytes, block.kind), ("0x8D1", 11, BlobKind::Block));
        assert_eq!(block.headers.content_type.as_deref(), Some("text/plain"));
        assert_eq!(block.headers.content_encoding, None);
        assert_eq!(block.headers.cache_control.as_deref(), Some("no-cache"));
        assert_eq!(block.content_md5, md5_from_base64("XrY7u+Ae7tCTyyK7j1rNww=="));
        assert_eq!(block.metadata, [("Zeta".into(), "1".into()), ("alpha".into(), "two & three".into())]);
        assert_eq!(block.tags, [("a b".into(), String::new()), ("z".into(), "1".into())]);
        assert_eq!((block.tier.as_deref(), block.encryption_scope.as_deref()), (Some("Cool"), Some("scope1")));
        assert!(block.immutability.legal_hold);
        assert_eq!(block.immutability.mode.as_deref(), Some("unlocked"));
        assert_eq!(block.immutability.until, Some(Timestamp(1_709_251_199_000_000)));
        assert_eq!(page.name, "odd\u{1}\u{ffff}%");
        assert_eq!(page.kind, BlobKind::Page { sequence_number: 7 });
        assert_eq!(page.created_at, Timestamp(1_000_000), "an endpoint that does not say when it was made");
    }

    #[test]
    fn a_page_of_azurite_is_read_too() {
        let BlobPage { entries: blobs, next, .. } = parse_blobs(AZURITE.as_bytes(), "c").unwrap();
        assert_eq!(next, None);
        assert_eq!(blobs.iter().map(|blob| blob.name.as_str()).collect::<Vec<_>>(), ["log", "notdir"]);
        assert_eq!(blobs[0].etag, "0x1");
        assert_eq!(blobs[0].kind, BlobKind::Append { sealed: true });
        assert_eq!(blobs[0].tier, None, "an inferred tier was not set");
    }

    #[test]
    fn a_row_is_a_version_unless_it_is_marked_as_the_current_one() {
        let row = |version: &str, rest: &str| {
            format!(
                "<Blob><Name>a</Name>{version}{rest}<Properties><Last-Modified>Thu, 01 Jan 1970 00:00:03 GMT</Last-Modified>\
                 <Content-Length>1</Content-Length></Properties></Blob>"
            )
        };
        let rows = [
            row("<VersionId>2026-11-23T07:00:00.0000001Z</VersionId>", ""),
            row("<VersionId>2026-11-23T07:00:00.0000002Z</VersionId>", "<IsCurrentVersion>true</IsCurrentVersion>"),
            row("", ""),
        ];
        let text = format!("<EnumerationResults><Blobs>{}</Blobs><NextMarker/></EnumerationResults>", rows.concat());
        let entries = parse_blobs(text.as_bytes(), "c").unwrap().entries;
        let told = |entry: &BlobEntry| (entry.version.clone(), entry.current_version.clone());
        assert_eq!(told(&entries[0]), (Some("2026-11-23T07:00:00.0000001Z".into()), None));
        assert_eq!(told(&entries[1]), (None, Some("2026-11-23T07:00:00.0000002Z".into())));
        assert_eq!(told(&entries[2]), (None, None), "written while no versions were kept");
    }

    #[test]
    fn containers_are_read() {
        let text = "<EnumerationResults><Containers><Container><Name>photos</Name><Properties><Last-Modified>Thu, 01 Jan 1970 \
            00:00:03 GMT</Last-Modified><Etag>\"0x1\"</Etag><PublicAccess>blob</PublicAccess><HasLegalHold>false</HasLegalHold>\
            <HasImmutabilityPolicy>true</HasImmutabilityPolicy></Properties><Metadata><k>v</k></Metadata></Container>\
            <Container><Name>z</Name></Container></Containers><NextMarker>/acc/z</NextMarker></EnumerationResults>";
        let (containers, next) = parse_containers(text.as_bytes()).unwrap();
        assert_eq!(next.as_deref(), Some("/acc/z"));
        assert_eq!(
            containers[0],
            ContainerEntry {
                name: "photos".into(),
                etag: "0x1".into(),
                modified_at: Timestamp(3_000_000),
                metadata: vec![("k".into(), "v".into())],
                public_access: Some("blob".into()),
                has_legal_hold: false,
                has_immutability_policy: true,
            }
        );
        assert_eq!(containers[1].name, "z");
    }

    #[test]
    fn a_length_or_date_that_makes_no_sense_is_an_error_and_never_zero() {
        let spoilt = [
            ("<Content-Length>11<", "<Content-Length>eleven<"),
            ("<Content-Length>11<", "<Content-Length>-1<"),
            ("<Content-Length>11<", "<Content-Length><"),
            ("<Content-Length>11</Content-Length>", ""),
            ("<Last-Modified>Thu, 29 Feb 2024 23:59:59 GMT<", "<Last-Modified>yesterday<"),
            ("<Last-Modified>Thu, 29 Feb 2024 23:59:59 GMT</Last-Modified>", ""),
            ("<Creation-Time>Sun, 06 Nov", "<Creation-Time>Sun, 06 Nev"),
            ("<ImmutabilityPolicyUntilDate>Thu,", "<ImmutabilityPolicyUntilDate>"),
            ("<x-ms-blob-sequence-number>7<", "<x-ms-blob-sequence-number>seven<"),
            ("<Name>a &amp; b/&lt;x&gt;&#228;.txt</Name>", "<Name />"),
        ];
        for (right, wrong) in spoilt {
            assert!(AZURE.contains(right), "{right}");
            let error = parse_blobs(AZURE.replacen(right, wrong, 1).as_bytes(), "photos").unwrap_err();
            assert!(error.contains(" has "), "{wrong}: {error}");
        }
        let error = parse_blobs(AZURE.replace(">512<", ">a lot<").as_bytes(), "photos").unwrap_err();
        assert!(error.contains("odd") && error.contains("a lot") && error.contains("Content-Length"), "{error}");
        let container = "<EnumerationResults><Containers><Container><Name>z</Name><Properties><Last-Modified>x</Last-Modified>\
            </Properties></Container></Containers></EnumerationResults>";
        assert!(parse_containers(container.as_bytes()).is_err());
    }

    #[test]
    fn half_a_page_or_another_document_is_no_page() {
        for cut in [10, 200, 900, AZURE.len() - 3] {
            let cut = (cut..).find(|at| AZURE.is_char_boundary(*at)).unwrap();
            assert!(parse_blobs(&AZURE.as_bytes()[..cut], "c").is_err(), "{cut}");
        }
        assert!(parse_blobs(b"", "c").is_err());
        assert!(parse_blobs(b"<html></html>", "c").is_err());
        assert!(parse_blobs(b"<Error><Code>x</Code></Error>", "c").is_err());
    }
}
