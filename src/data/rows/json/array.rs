//! The elements of a JSON array, one at a time, so that the array needn't fit into memory.

use std::io::BufRead;

use anyhow::{Result, bail};

use crate::{
    data::decoding::{Text, failed},
    support::Hinted,
};

/// A row's number and its JSON.
pub(super) type Numbered = (usize, String);

/// Reads elements as they stand there; ends after an error.
pub(super) struct Elements {
    text: Text,
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
    pub(super) fn new(text: Text) -> Self {
        Self { text, number: 0, state: State::Start }
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
                return self.broken("the array isn't closed", remedy);
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
        Ok((self.number, String::from_utf8(bytes)?))
    }

    /// That the file ends before the array, or goes on behind it.
    fn broken<T>(&self, what: &str, remedy: &str) -> Result<T> {
        bail!(Hinted::with(format!("{}: row {}: {what}", self.text.path().display(), self.number + 1), remedy))
    }

    fn nothing_follows(&mut self) -> Result<()> {
        while let Some(byte) = self.byte()? {
            if !byte.is_ascii_whitespace() {
                let remedy = "a file holds one array, or one object a line";
                return self.broken("something stands behind the array", remedy);
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.text.fill_buf().map_err(failed)?.first().copied();
        if byte.is_some() {
            self.text.consume(1);
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
