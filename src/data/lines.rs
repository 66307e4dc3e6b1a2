//! The lines of a text file, one at a time, checked to be UTF-8.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

/// Reads lines without their line ends; a byte order mark at the start is skipped. Ends after an error.
pub(super) struct Lines {
    reader: BufReader<fs::File>,
    path: PathBuf,
    number: usize,
    buffer: Vec<u8>,
    failed: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 18, fs::File::open(path)?);
        let start = reader.fill_buf().with_context(|| format!("{}: failed to read", path.display()))?;
        if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
            bail!("{}: this is UTF-16; save it as UTF-8", path.display());
        }
        if start.starts_with("\u{FEFF}".as_bytes()) {
            reader.consume(3);
        }
        Ok(Self { reader, path: path.into(), number: 0, buffer: Vec::new(), failed: false })
    }

    /// The file's name, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self) -> Result<Option<(usize, String)>> {
        self.buffer.clear();
        let read = self.reader.read_until(b'\n', &mut self.buffer);
        if read.with_context(|| format!("{}: failed to read", self.path.display()))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(line) => Ok(Some((self.number, line.to_owned()))),
            Err(error) => {
                let valid = self.buffer.get(..error.valid_up_to()).unwrap_or_default();
                let column = String::from_utf8_lossy(valid).chars().count() + 1;
                let byte = self.buffer.get(error.valid_up_to()).copied().unwrap_or_default();
                let (path, row) = (self.path.display(), self.number);
                bail!("{path}: row {row}: not valid UTF-8 (byte 0x{byte:02X} at column {column})")
            }
        }
    }
}

impl Iterator for Lines {
    /// The line's number, from 1, and its text.
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read();
        self.failed = line.is_err();
        line.transpose()
    }
}
