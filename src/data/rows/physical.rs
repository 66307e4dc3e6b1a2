//! The lines of a table in a text file with the ends that they have: LF, CRLF, or CR alone.

use std::{io::BufRead, path::Path};

use anyhow::{Result, bail};

use crate::{
    data::decoding::{Text, failed},
    spec::Source,
    support::Hinted,
};

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
    text: Text,
    number: usize,
    failed: bool,
}

impl PhysicalLines {
    pub(super) fn open(source: &Source, file: &Path) -> Result<Self> {
        Ok(Self { text: Text::open(source, file)?, number: 0, failed: false })
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &Path {
        self.text.path()
    }

    fn read(&mut self) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        let end = loop {
            let available = self.text.fill_buf().map_err(failed)?;
            if available.is_empty() {
                if bytes.is_empty() {
                    return Ok(None);
                }
                break "";
            }
            match available.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
                None => {
                    bytes.extend_from_slice(available);
                    let length = available.len();
                    self.text.consume(length);
                }
                Some(at) => {
                    let is_return = available.get(at) == Some(&b'\r');
                    bytes.extend_from_slice(available.get(..at).unwrap_or_default());
                    self.text.consume(at + 1);
                    break if is_return { self.after_return() } else { "\n" };
                }
            }
        };
        self.number += 1;
        if self.text.encoding().line_end() == b'\r' && end.ends_with('\n') {
            let (path, row, encoding) = (self.path().display(), self.number, self.text.encoding());
            bail!(Hinted::with(
                format!(
                    "{path}: row {row}: there is a line feed, and lines are said to end with a carriage return alone"
                ),
                format!("set `encoding: {encoding}`, without `+cr`"),
            ));
        }
        Ok(Some(Line { number: self.number, text: String::from_utf8(bytes)?, end }))
    }

    fn after_return(&mut self) -> &'static str {
        // Where that ends lines, a line feed is a mistake. What can't be decoded behind it is told when it's read.
        let may_be_both = self.text.encoding().line_end() == b'\n';
        if may_be_both && self.text.fill_buf().is_ok_and(|next| next.first() == Some(&b'\n')) {
            self.text.consume(1);
            return "\r\n";
        }
        "\r"
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
