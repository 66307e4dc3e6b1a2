//! The lines of a text file with the ends that they have: LF, CRLF, or CR alone.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::support::Hinted;

/// How files begin that are no text, and what they are.
const FOREIGN: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "compressed with gzip", "unpack it first (`gunzip`)"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first (`unzstd`)"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it first (`unxz`)"),
    (b"BZh", "compressed with bzip2", "unpack it first (`bunzip2`)"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first; of a spreadsheet, save its table as CSV"),
    (b"PAR1", "a Parquet file", "set `format: parquet`, or name it .parquet"),
    (b"ARROW1", "an Arrow file", "set `format: arrow`, or name it .arrow"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "set `format: arrow`, or name it .arrow"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file with `git lfs pull`"),
];

/// Opens a text file; a byte order mark at its start is skipped.
pub(super) fn open_text(path: &Path) -> Result<BufReader<fs::File>> {
    let mut reader = BufReader::with_capacity(1 << 18, fs::File::open(path)?);
    let start = reader.fill_buf().with_context(|| format!("{}: failed to read", path.display()))?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        bail!("{}: this is UTF-16; save it as UTF-8", path.display());
    }
    if let Some((_, what, remedy)) = FOREIGN.iter().find(|(magic, ..)| start.starts_with(magic)) {
        bail!(Hinted::with(format!("{}: this is {what}", path.display()), *remedy));
    }
    if start.starts_with("\u{FEFF}".as_bytes()) {
        reader.consume(3);
    }
    Ok(reader)
}

/// One line.
pub(super) struct Line {
    /// From 1.
    pub number: usize,
    pub text: String,
    /// What ends it; nothing at the end of a file that doesn't end with its last line.
    pub end: &'static str,
}

/// Reads lines; ends after an error.
pub(super) struct PhysicalLines {
    reader: BufReader<fs::File>,
    path: PathBuf,
    number: usize,
    buffer: Vec<u8>,
    failed: bool,
}

impl PhysicalLines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { reader: open_text(path)?, path: path.into(), number: 0, buffer: Vec::new(), failed: false })
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) -> Result<Option<Line>> {
        self.buffer.clear();
        let end = loop {
            let available = self.reader.fill_buf().with_context(|| format!("{}: failed to read", self.path.display()))?;
            if available.is_empty() {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                break "";
            }
            match available.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
                None => {
                    self.buffer.extend_from_slice(available);
                    let length = available.len();
                    self.reader.consume(length);
                }
                Some(at) => {
                    let is_return = available.get(at) == Some(&b'\r');
                    self.buffer.extend_from_slice(available.get(..at).unwrap_or_default());
                    self.reader.consume(at + 1);
                    break if is_return { self.after_return()? } else { "\n" };
                }
            }
        };
        self.number += 1;
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some(Line { number: self.number, text: text.to_owned(), end })),
            Err(error) => bail!("{}: row {}: {}", self.path.display(), self.number, not_utf8(&self.buffer, error)),
        }
    }

    fn after_return(&mut self) -> Result<&'static str> {
        let next = self.reader.fill_buf().with_context(|| format!("{}: failed to read", self.path.display()))?;
        if next.first() == Some(&b'\n') {
            self.reader.consume(1);
            return Ok("\r\n");
        }
        Ok("\r")
    }
}

impl Iterator for PhysicalLines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read();
        self.failed = line.is_err();
        line.transpose()
    }
}

/// What is wrong with bytes that aren't UTF-8.
pub(super) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> String {
    let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let column = String::from_utf8_lossy(valid).chars().count() + 1;
    let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    format!("not valid UTF-8 (byte 0x{byte:02X} at column {column})")
}
