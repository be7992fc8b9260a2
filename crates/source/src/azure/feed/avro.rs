//! Avro object container files, as the feed has them ("Object Container Files" of the specification, 1.8.2): a header that holds the
//! schema and a marker, and blocks that end with the marker. Files grow, so they are taken apart here, block by block, and only whole blocks
//! are handed to the decoder.
//!
//! What is read was written by the endpoint, and may be damaged: no length in it is believed before it has been compared with what there is.

use std::io::Read as _;
use std::ops::ControlFlow;

use apache_avro::types::Value;
use bytes::Bytes;

/// What a marker takes.
pub(super) const MARKER_BYTES: usize = 16;
/// A header that takes more is none: schemas of the feed have some 5 KiB.
pub(super) const MOST_HEADER_BYTES: u64 = 1 << 20;
/// A block that takes more is none: endpoints append at most 100 MiB at once, and the feed's blocks are far smaller.
const MOST_BLOCK_BYTES: u64 = 32 << 20;
/// What the decoder may take for one block or one value.
const MOST_DECODED_BYTES: usize = 64 << 20;

/// The start of a file.
#[derive(Debug)]
pub(in crate::azure) struct Header {
    bytes: Bytes,
    marker: [u8; MARKER_BYTES],
    is_compressed: bool,
}

/// A whole block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it begins, in the bytes that were looked at.
    pub(super) start: usize,
    /// Where it ends, behind its marker.
    pub(super) end: usize,
    /// Records in it.
    pub(super) records: u64,
}

/// The blocks in a piece of a file.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) whole: Vec<Frame>,
    /// What the block behind them takes in all, if its own head is there to tell.
    pub(super) next_bytes: Option<u64>,
}

impl Header {
    /// Reads the header of a file that starts like this; `None` if it does not end in there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(start: &Bytes) -> Result<Option<Self>, String> {
        match Self::parse(start) {
            Ok(header) => Ok(Some(header)),
            Err(Trouble::Short) => Ok(None),
            Err(Trouble::Wrong(reason)) => Err(reason),
        }
    }

    fn parse(start: &Bytes) -> Result<Self, Trouble> {
        let mut rest = Rest(start);
        if rest.take(4)? != b"Obj\x01" {
            return Err(wrong("it is no Avro file"));
        }
        let (mut codec, mut schema) = (None, None);
        loop {
            let mut entries = rest.long()?;
            if entries == 0 {
                break;
            }
            if entries < 0 {
                rest.long()?;
                entries = entries.checked_neg().ok_or_else(|| wrong("a length in its header is impossible"))?;
            }
            for _ in 0..entries {
                let key = rest.sized()?;
                let value = rest.sized()?;
                match key {
                    b"avro.codec" => codec = Some(value),
                    b"avro.schema" => schema = Some(value),
                    _ => {}
                }
            }
        }
        let is_compressed = match codec {
            None | Some(b"null" | b"") => false,
            Some(b"deflate") => true,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(Trouble::Wrong(format!("it is compressed by {other}, which is not understood")));
            }
        };
        check_schema(schema.unwrap_or_default()).map_err(Trouble::Wrong)?;
        let marker = rest.take(MARKER_BYTES)?.try_into().map_err(|_| Trouble::Short)?;
        let length = start.len() - rest.0.len();
        Ok(Self { bytes: start.slice(..length), marker, is_compressed })
    }

    /// Bytes of the file before its first block.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Where the last marker ends in `bytes`.
    pub(super) fn last_end(&self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(MARKER_BYTES).rposition(|part| part == self.marker).map(|at| at + MARKER_BYTES)
    }

    /// Whether `bytes` start with the marker: so does whatever stands before a block.
    pub(super) fn is_before(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.marker)
    }

    /// The whole blocks at the start of `bytes`, which begin where one begins.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn frames(&self, bytes: &[u8]) -> Result<Frames, String> {
        let mut frames = Frames::default();
        let mut start = 0;
        while start < bytes.len() {
            match self.frame(&bytes[start..]) {
                Ok((length, records)) => {
                    let end = start + length;
                    frames.whole.push(Frame { start, end, records });
                    start = end;
                }
                Err(Trouble::Short) => {
                    frames.next_bytes = head_of(&bytes[start..]).ok().map(|(head, _, size)| block_bytes(head, size));
                    break;
                }
                Err(Trouble::Wrong(reason)) => return Err(reason),
            }
        }
        Ok(frames)
    }

    /// Length and number of records of the block that `bytes` start with.
    fn frame(&self, bytes: &[u8]) -> Result<(usize, u64), Trouble> {
        let (head, records, size) = head_of(bytes)?;
        // Every record takes a byte at least.
        if size > MOST_BLOCK_BYTES || (!self.is_compressed && records > size) || records > MOST_DECODED_BYTES as u64 {
            return Err(wrong("a block's length is impossible"));
        }
        let length = usize::try_from(block_bytes(head, size)).map_err(|_| Trouble::Short)?;
        let block = bytes.get(..length).ok_or(Trouble::Short)?;
        if !block.ends_with(&self.marker) {
            return Err(wrong("a block does not end with the file's marker"));
        }
        Ok((length, records))
    }

    /// Hands the records of whole blocks to `each`, until that has enough.
    ///
    /// # Errors
    /// What is wrong with a record, or what `each` says.
    pub(super) fn records(
        &self,
        blocks: &[u8],
        mut each: impl FnMut(&Value) -> Result<ControlFlow<()>, String>,
    ) -> Result<(), String> {
        apache_avro::util::max_allocation_bytes(MOST_DECODED_BYTES);
        let reader = apache_avro::Reader::new(self.bytes[..].chain(blocks)).map_err(|error| error.to_string())?;
        for record in reader {
            if each(&record.map_err(|error| error.to_string())?)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A block with its head, its data and its marker.
fn block_bytes(head: u64, size: u64) -> u64 {
    head.saturating_add(size).saturating_add(MARKER_BYTES as u64)
}

/// Length of a block's head, its number of records, and the size of its data.
fn head_of(bytes: &[u8]) -> Result<(u64, u64, u64), Trouble> {
    let mut rest = Rest(bytes);
    let (records, size) = (rest.long()?, rest.long()?);
    let head = (bytes.len() - rest.0.len()) as u64;
    match (u64::try_from(records), u64::try_from(size)) {
        (Ok(records), Ok(size)) => Ok((head, records, size)),
        _ => Err(wrong("a block's length is impossible")),
    }
}

/// Records that hold records of their own kind could be nested without end, and the decoder follows them. The feed has none.
fn check_schema(schema: &[u8]) -> Result<(), String> {
    let schema: serde_json::Value =
        serde_json::from_slice(schema).map_err(|_| "its header has no schema that can be read".to_owned())?;
    match holds_itself(&schema, &mut Vec::new()) {
        true => Err("its schema has records that hold themselves".to_owned()),
        false => Ok(()),
    }
}

fn holds_itself<'a>(schema: &'a serde_json::Value, around: &mut Vec<&'a str>) -> bool {
    match schema {
        serde_json::Value::String(name) => around.contains(&last_part(name)),
        serde_json::Value::Array(union) => union.iter().any(|one| holds_itself(one, around)),
        serde_json::Value::Object(members) => {
            let name = members.get("name").and_then(|name| name.as_str()).map(last_part);
            let fields = members.get("fields").and_then(|fields| fields.as_array());
            // A field has a name, too, but it is no type's.
            let is_record = fields.is_some();
            if let Some(name) = name.filter(|_| is_record) {
                around.push(name);
            }
            let holds = ["type", "items", "values"]
                .iter()
                .filter_map(|member| members.get(*member))
                .chain(fields.into_iter().flatten())
                .any(|inner| holds_itself(inner, around));
            if is_record && name.is_some() {
                around.pop();
            }
            holds
        }
        _ => false,
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Why something could not be read.
enum Trouble {
    /// It is not there as a whole.
    Short,
    Wrong(String),
}

fn wrong(reason: &str) -> Trouble {
    Trouble::Wrong(reason.to_owned())
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Trouble> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Trouble::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number in Avro's zigzag code, at most ten bytes.
    fn long(&mut self) -> Result<i64, Trouble> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.take(1)? else { return Err(Trouble::Short) };
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(wrong("a number in it has no end"))
    }

    fn sized(&mut self) -> Result<&'a [u8], Trouble> {
        let length = self.long()?;
        match u64::try_from(length) {
            Ok(length) if length <= MOST_HEADER_BYTES => self.take(length as usize),
            _ => Err(wrong("a length in its header is impossible")),
        }
    }
}
