//! The lines of a text file, one at a time.

use std::io::{BufRead, Read};
use std::path::Path;

use anyhow::{Result, bail};

use super::decoding::{Text, failed};
use crate::spec::Source;
use crate::support::Hinted;

/// Of a first line that is longer than this, nobody knows whether a line feed comes at last.
const LONGEST_START: u64 = 1 << 26;

/// Reads lines in a source's encoding. Lines end with a line feed, with or without a carriage return before it; or with
/// a carriage return alone, where the encoding says so. Ends after an error.
pub(super) struct Lines {
    text: Text,
    number: usize,
    failed: bool,
}

/// A line of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: usize,
    /// As it stands in the file, with what ends it.
    whole: String,
    /// How much of it isn't its end.
    length: usize,
}

impl Line {
    /// The line without what ends it.
    pub(super) fn text(&self) -> &str {
        &self.whole[..self.length]
    }

    /// The line with what ends it; only the last line of a file may have no end.
    pub(super) fn whole(&self) -> &str {
        &self.whole
    }
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Text::open`].
    pub(super) fn open(source: &Source, file: &Path) -> Result<Self> {
        Ok(Self { text: Text::open(source, file)?, number: 0, failed: false })
    }

    /// The file's name, for messages.
    pub(super) fn path(&self) -> &Path {
        self.text.path()
    }

    /// The next line; after an error there is none.
    pub(super) fn read(&mut self) -> Option<Result<Line>> {
        if self.failed {
            return None;
        }
        let line = self.line();
        self.failed = line.is_err();
        line.transpose()
    }

    fn line(&mut self) -> Result<Option<Line>> {
        let end = self.text.encoding().line_end();
        let mut bytes = Vec::new();
        if self.number == 0 {
            self.text.by_ref().take(LONGEST_START).read_until(end, &mut bytes).map_err(failed)?;
            if end == b'\n' && !bytes.ends_with(b"\n") && bytes.contains(&b'\r') {
                bail!(Hinted::with(
                    format!("{}: lines end with a carriage return (CR) alone", self.path().display()),
                    format!("read it with `encoding: {}`, or save it with line feeds", self.text.encoding().with_cr()),
                ));
            }
        }
        if !bytes.ends_with(&[end]) {
            self.text.read_until(end, &mut bytes).map_err(failed)?;
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        // A line is whole characters, as `Text` gives all of a file's before it fails.
        let whole = String::from_utf8(bytes)?;
        if end == b'\r' && whole.contains('\n') {
            let (path, row, encoding) = (self.path().display(), self.number, self.text.encoding());
            bail!(Hinted::with(
                format!(
                    "{path}: row {row}: there is a line feed, and lines are said to end with a carriage return alone"
                ),
                format!("set `encoding: {encoding}`, without `+cr`"),
            ));
        }
        let content = whole.strip_suffix(char::from(end)).unwrap_or(&whole);
        let is_ended = content.len() < whole.len();
        let content = if is_ended && end == b'\n' { content.strip_suffix('\r').unwrap_or(content) } else { content };
        Ok(Some(Line { number: self.number, length: content.len(), whole }))
    }
}

/// The lines of a text file, with their numbers, from 1.
///
/// # Errors
/// If the file can't be read, or isn't in the source's encoding; while iterating, where that's so.
pub fn lines(source: &Source, file: &Path) -> Result<impl Iterator<Item = Result<(usize, String)>>> {
    Lines::open(source, file)
}

impl Iterator for Lines {
    /// The line's number, from 1, and its text without what ends it.
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.read()?.map(|mut line| {
            line.whole.truncate(line.length);
            (line.number, line.whole)
        }))
    }
}
