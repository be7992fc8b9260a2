//! A workbook of one sheet, written row by row: the few parts that spreadsheets ask for, in a ZIP archive without compression.
//!
//! The sheet is the last part, so that its length and checksum can be put into its header when its end is known.

use std::io::{self, Seek, SeekFrom, Write};

/// Rows that a sheet can have.
const MOST_ROWS: u32 = 1_048_576;
/// Characters that a cell can have.
const MOST_CHARACTERS: usize = 32_767;

const SHEET: &str = "xl/worksheets/sheet1.xml";
const SHEET_BEGIN: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#;
const SHEET_END: &str = "</sheetData></worksheet>";

/// The parts before the sheet.
const PARTS: &[(&str, &str)] = &[
    (
        "[Content_Types].xml",
        r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    ),
    (
        "xl/workbook.xml",
        r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Jobs" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    ),
    (
        "xl/_rels/workbook.xml.rels",
        r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
    ),
];

/// A part of the archive.
struct Entry {
    name: &'static str,
    begins_at: u64,
    bytes: u64,
    crc: Crc,
}

/// A workbook that is being written. Without [`Workbook::finish`] it is no workbook.
pub(super) struct Workbook<W> {
    out: W,
    done: Vec<Entry>,
    sheet: Entry,
    rows: u32,
}

impl<W: Write + Seek> Workbook<W> {
    /// Begins one whose first row names the columns. `out` must be empty.
    pub(super) fn begin(mut out: W, columns: &[&str]) -> io::Result<Self> {
        let mut done = Vec::new();
        for (name, text) in PARTS {
            let mut entry = begin_entry(&mut out, name)?;
            entry.add(&mut out, text.as_bytes())?;
            end_entry(&mut out, &entry)?;
            done.push(entry);
        }
        let sheet = begin_entry(&mut out, SHEET)?;
        let mut book = Self { out, done, sheet, rows: 0 };
        book.sheet.add(&mut book.out, SHEET_BEGIN.as_bytes())?;
        book.row(columns)?;
        Ok(book)
    }

    /// Adds a row. What a sheet cannot hold any more is left out.
    pub(super) fn row(&mut self, cells: &[impl AsRef<str>]) -> io::Result<()> {
        if self.rows == MOST_ROWS {
            return Ok(());
        }
        self.rows += 1;
        let mut text = String::from("<row>");
        for cell in cells {
            text.push_str(r#"<c t="inlineStr"><is><t xml:space="preserve">"#);
            push_escaped(&mut text, cell.as_ref());
            text.push_str("</t></is></c>");
        }
        text.push_str("</row>");
        self.sheet.add(&mut self.out, text.as_bytes())
    }

    /// Ends it and returns what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.sheet.add(&mut self.out, SHEET_END.as_bytes())?;
        end_entry(&mut self.out, &self.sheet)?;
        self.done.push(self.sheet);
        let directory_at = self.out.stream_position()?;
        for entry in &self.done {
            let mut header = Vec::new();
            header.extend(0x0201_4b50_u32.to_le_bytes());
            header.extend(VERSION.to_le_bytes());
            header.extend(entry.common()?);
            // No comment, first disk, no attributes.
            header.extend([0; 10]);
            header.extend(short(entry.begins_at)?.to_le_bytes());
            header.extend(entry.name.as_bytes());
            self.out.write_all(&header)?;
        }
        let directory_bytes = self.out.stream_position()? - directory_at;
        let count = u16::try_from(self.done.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut end = Vec::new();
        end.extend(0x0605_4b50_u32.to_le_bytes());
        end.extend([0; 4]);
        end.extend([count, count].concat());
        end.extend(short(directory_bytes)?.to_le_bytes());
        end.extend(short(directory_at)?.to_le_bytes());
        end.extend([0; 2]);
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The version of the format that is needed to read it: 2.0.
const VERSION: u16 = 20;
/// 1 January 1980: the first day of ZIP archives; the same content gives the same bytes.
const DATE: u16 = 0x0021;

impl Entry {
    fn add(&mut self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        self.crc.add(bytes);
        self.bytes += bytes.len() as u64;
        out.write_all(bytes)
    }

    /// What the header in front of a part and the one in the directory have in common.
    fn common(&self) -> io::Result<Vec<u8>> {
        let name_bytes = u16::try_from(self.name.len()).map_err(io::Error::other)?;
        let bytes = short(self.bytes)?.to_le_bytes();
        let mut common = Vec::new();
        // Version, flags, method (stored), time.
        for number in [VERSION, 0, 0, 0, DATE] {
            common.extend(number.to_le_bytes());
        }
        common.extend(self.crc.value().to_le_bytes());
        common.extend([bytes, bytes].concat());
        common.extend(name_bytes.to_le_bytes());
        common.extend([0; 2]);
        Ok(common)
    }
}

/// A length or place; larger ones would need another form of archive.
fn short(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a workbook cannot have 4 GiB"))
}

fn write_header(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    out.write_all(&0x0403_4b50_u32.to_le_bytes())?;
    out.write_all(&entry.common()?)?;
    out.write_all(entry.name.as_bytes())
}

fn begin_entry(out: &mut (impl Write + Seek), name: &'static str) -> io::Result<Entry> {
    let entry = Entry { name, begins_at: out.stream_position()?, bytes: 0, crc: Crc::new() };
    write_header(out, &entry)?;
    Ok(entry)
}

/// Writes the header once more, now that length and checksum are known.
fn end_entry(out: &mut (impl Write + Seek), entry: &Entry) -> io::Result<()> {
    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(entry.begins_at))?;
    write_header(out, entry)?;
    out.seek(SeekFrom::Start(end))?;
    Ok(())
}

/// Text of a cell as XML; characters that XML cannot hold are left out.
fn push_escaped(text: &mut String, cell: &str) {
    for character in cell.chars().take(MOST_CHARACTERS) {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\t' | '\n' => text.push(character),
            '\u{FFFE}' | '\u{FFFF}' => {}
            _ if character.is_control() => {}
            _ => text.push(character),
        }
    }
}

/// The checksum of ZIP archives.
#[derive(Clone, Copy)]
struct Crc(u32);

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

impl Crc {
    fn new() -> Self {
        Self(u32::MAX)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let index = (self.0 as u8 ^ byte) as usize;
            self.0 = (self.0 >> 8) ^ CRC_TABLE[index];
        }
    }

    fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_zip_archives() {
        let mut crc = Crc::new();
        crc.add(b"12345");
        crc.add(b"6789");
        assert_eq!(crc.value(), 0xCBF4_3926);
    }

    fn number(bytes: &[u8], at: usize, length: usize) -> usize {
        bytes[at..at + length].iter().rev().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
    }

    #[test]
    fn every_part_is_found_through_the_directory() {
        let mut book = Workbook::begin(Cursor::new(Vec::new()), &["Name", "Status"]).unwrap();
        book.row(&["a & <b>\u{1}", "Completed"]).unwrap();
        let bytes = book.finish().unwrap().into_inner();
        let end = bytes.len() - 22;
        assert_eq!(bytes[end..end + 4], *b"PK\x05\x06");
        let (count, mut at) = (number(&bytes, end + 10, 2), number(&bytes, end + 16, 4));
        let mut parts = Vec::new();
        for _ in 0..count {
            assert_eq!(bytes[at..at + 4], *b"PK\x01\x02");
            let (length, name_bytes, begins_at) =
                (number(&bytes, at + 24, 4), number(&bytes, at + 28, 2), number(&bytes, at + 42, 4));
            let name = &bytes[at + 46..at + 46 + name_bytes];
            assert_eq!(bytes[begins_at..begins_at + 4], *b"PK\x03\x04");
            assert_eq!(bytes[begins_at + 4..begins_at + 30], bytes[at + 6..at + 32], "both headers say the same");
            let content = &bytes[begins_at + 30 + name_bytes..][..length];
            let mut crc = Crc::new();
            crc.add(content);
            assert_eq!(crc.value() as usize, number(&bytes, at + 16, 4));
            parts.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(content.to_vec()).unwrap()));
            at += 46 + name_bytes;
        }
        assert_eq!(at, end);
        assert_eq!(parts.len(), PARTS.len() + 1);
        let (name, sheet) = parts.last().unwrap();
        assert_eq!(name, SHEET);
        assert!(sheet.contains(">Status<") && sheet.contains(">a &amp; &lt;b&gt;<"), "{sheet}");
        assert!(sheet.ends_with(SHEET_END));
    }
}
