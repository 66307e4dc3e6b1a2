//! The elements of a JSON array, one at a time, so that the array needn't fit into memory.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::{Numbered, cut};
use crate::data::rows::physical::not_utf8;

/// Reads elements as they stand there; ends after an error.
pub(super) struct Elements {
    reader: BufReader<fs::File>,
    path: PathBuf,
    /// Elements that were read.
    number: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before the bracket.
    Start,
    Within,
    Ended,
}

impl Elements {
    /// Reads on from the array's bracket, or blanks before it.
    pub(super) fn new(reader: BufReader<fs::File>, path: &Path) -> Self {
        Self { reader, path: path.into(), number: 0, state: State::Start }
    }

    fn read(&mut self) -> Result<Option<Numbered>> {
        if self.state == State::Start {
            while self.byte()?.is_some_and(|byte| byte != b'[') {}
            self.state = State::Within;
        }
        let mut element = Vec::new();
        let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
        loop {
            let Some(byte) = self.byte()? else {
                let remedy = "the file was cut off, or something is missing in it";
                return cut(&self.path, self.number + 1, "the array isn't closed", remedy);
            };
            if in_string {
                element.push(byte);
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' => is_escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b',' if depth == 0 => return self.element(element).map(Some),
                b']' if depth == 0 => {
                    self.state = State::Ended;
                    self.nothing_follows()?;
                    if self.number == 0 && element.is_empty() {
                        return Ok(None);
                    }
                    return self.element(element).map(Some);
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'"' => in_string = true,
                _ => {}
            }
            if !(element.is_empty() && byte.is_ascii_whitespace()) {
                element.push(byte);
            }
        }
    }

    fn element(&mut self, bytes: Vec<u8>) -> Result<Numbered> {
        self.number += 1;
        match String::from_utf8(bytes) {
            Ok(text) => Ok((self.number, text)),
            Err(error) => {
                let fault = not_utf8(error.as_bytes(), error.utf8_error());
                bail!("{}: row {}: {fault}", self.path.display(), self.number)
            }
        }
    }

    fn nothing_follows(&mut self) -> Result<()> {
        while let Some(byte) = self.byte()? {
            if !byte.is_ascii_whitespace() {
                let remedy = "a file holds one array, or one object a line";
                cut(&self.path, self.number + 1, "something stands behind the array", remedy)?;
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.reader.fill_buf().with_context(|| format!("{}: failed to read", self.path.display()))?;
        let byte = byte.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
        }
        Ok(byte)
    }
}

impl Iterator for Elements {
    type Item = Result<Numbered>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let element = self.read();
        if !matches!(element, Ok(Some(_))) {
            self.state = State::Ended;
        }
        element.transpose()
    }
}
