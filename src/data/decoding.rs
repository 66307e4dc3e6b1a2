//! Text files as UTF-8, whatever they're encoded in; or the place where they aren't what they were said to be, and what
//! they seem to be. All readers of text are built on this one.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use encoding_rs::{Decoder, DecoderResult};
use fs_err as fs;

use super::encoding::{Characters, Encoding};
use super::guess::{self, Guess};
use crate::spec::Source;
use crate::support::Hinted;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 17;
/// Characters beyond ASCII that a file has to have before it's told that it is UTF-8 although the source says otherwise.
const EVIDENCE: usize = 32;
/// U+FEFF in GB18030.
const GB18030_MARK: [u8; 4] = [0x84, 0x31, 0x95, 0x33];

/// A text file, decoded as it's read: what [`BufRead`] gives is UTF-8 without a byte order mark, and otherwise as it stands
/// in the file, line ends included. A buffer may end within a character.
///
/// What can't be decoded is an error, but not before everything in front of it was read. [`failed`] makes of it what a
/// person should be told: file, row, column and what the file seems to be.
pub(super) struct Text {
    file: fs::File,
    path: PathBuf,
    encoding: Encoding,
    decoder: Decoding,
    /// What was read of the file and isn't decoded yet.
    input: Vec<u8>,
    /// Bytes of the file that were decoded.
    offset: u64,
    ended: bool,
    /// Decoded text, and how much of it was read.
    text: Vec<u8>,
    at: usize,
    place: Place,
    /// What comes after the text.
    failure: Option<Failure>,
}

/// How the rest of a file is decoded.
enum Decoding {
    Utf8,
    Latin1,
    Other {
        decoder: Box<Decoder>,
        standard: &'static encoding_rs::Encoding,
        /// Whether it was told of the file's end.
        is_done: bool,
    },
}

/// Something that can't be decoded.
#[derive(Clone, Copy)]
struct Failure {
    /// The first byte of it, if it's known.
    byte: Option<u8>,
    /// Its place in the file.
    offset: u64,
    /// Whether the file ends within a character.
    is_end: bool,
}

impl Text {
    /// Opens a file in a source's encoding.
    ///
    /// # Errors
    /// If there is no such encoding, or the file can't be read or begins like something else.
    pub(super) fn open(source: &Source, path: &Path) -> Result<Self> {
        let encoding: Encoding = source.encoding.parse()?;
        let decoder = match encoding.characters {
            Characters::Utf8 => Decoding::Utf8,
            Characters::Latin1 => Decoding::Latin1,
            Characters::Utf16 => Decoding::other(encoding_rs::UTF_16LE),
            Characters::Standard(standard) => Decoding::other(standard),
        };
        let mut text = Self {
            file: fs::File::open(path)?,
            path: path.into(),
            encoding,
            decoder,
            input: Vec::new(),
            offset: 0,
            ended: false,
            text: Vec::new(),
            at: 0,
            place: Place::default(),
            failure: None,
        };
        text.read_input()?;
        text.begin()?;
        Ok(text)
    }

    /// The file's name, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The encoding that it's read in.
    pub(super) fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// Looks at the file's start: passes over a mark, and refuses what begins like something else.
    fn begin(&mut self) -> Result<(), Hinted> {
        let start = &self.input;
        let told = |what: String, hint: &str| Err(Hinted::with(format!("{}: {what}", self.path.display()), hint));
        if let Some((kind, hint)) = guess::no_text(start) {
            return told(format!("this is {kind}, not text"), hint);
        }
        if start.starts_with(&[0xFF, 0xFE, 0, 0]) || start.starts_with(&[0, 0, 0xFE, 0xFF]) {
            return told("this is UTF-32".into(), "save it as UTF-8");
        }
        let characters = self.encoding.characters;
        let but = match characters {
            Characters::Utf8 => String::new(),
            _ => format!(", and `encoding` says `{}`", self.encoding),
        };
        match (characters, encoding_rs::Encoding::for_bom(start)) {
            (Characters::Utf8, Some((marked, length))) if marked == encoding_rs::UTF_8 => self.skip(length),
            (Characters::Standard(standard), Some((marked, length))) if marked == standard => self.skip(length),
            (Characters::Utf16, Some((marked, length))) if marked != encoding_rs::UTF_8 => {
                self.decoder = Decoding::other(marked);
                self.skip(length);
            }
            (_, Some((marked, _))) if marked == encoding_rs::UTF_8 => {
                return told(format!("this is UTF-8, as the mark at its start says{but}"), "leave `encoding` out");
            }
            (_, Some(_)) => {
                let hint = "read it with `encoding: utf-16`, or save it as UTF-8";
                return told(format!("this is UTF-16, as the mark at its start says{but}"), hint);
            }
            (_, None) if start.is_empty() => {}
            (Characters::Utf8, None) => {
                let zeros = start.iter().filter(|byte| **byte == 0).count();
                if let Some(name) = guess::utf16(start)
                    && (10 * zeros >= 3 * start.len() || sound(start).is_err())
                {
                    let hint = format!("read it with `encoding: {}`, or save it as UTF-8", name.to_ascii_lowercase());
                    return told(format!("this looks like {name}, not UTF-8"), &hint);
                }
            }
            (Characters::Utf16, None) => {
                let hint = match guess::utf16(start) {
                    Some(name) => format!("it looks like `encoding: {}`", name.to_ascii_lowercase()),
                    None => "say which it has: `utf-16le` or `utf-16be`".to_owned(),
                };
                return told("no mark at its start says in which order UTF-16's bytes are".into(), &hint);
            }
            (Characters::Standard(standard), None)
                if standard == encoding_rs::GB18030 && start.starts_with(&GB18030_MARK) =>
            {
                self.skip(GB18030_MARK.len());
            }
            (Characters::Standard(_) | Characters::Latin1, None) if self.is_utf8_after_all() => {
                return told(format!("this is UTF-8{but}"), "leave `encoding` out");
            }
            (Characters::Standard(_) | Characters::Latin1, None) => {}
        }
        Ok(())
    }

    /// Whether a file that is said to be in another encoding begins like UTF-8, and hardly by chance.
    fn is_utf8_after_all(&self) -> bool {
        let start = &self.input;
        let Ok(text) = sound(start) else { return false };
        let is_utf16 = [encoding_rs::UTF_16LE, encoding_rs::UTF_16BE].map(Characters::Standard);
        let zeros = start.iter().filter(|byte| **byte == 0).count();
        if is_utf16.contains(&self.encoding.characters) {
            return start.len() >= 2 * EVIDENCE && 10 * zeros < start.len();
        }
        text.chars().filter(|character| !character.is_ascii()).count() >= EVIDENCE
    }

    fn skip(&mut self, mark: usize) {
        self.input.drain(..mark);
        self.offset += mark as u64;
    }

    /// Reads more of the file behind what isn't decoded yet.
    fn read_input(&mut self) -> io::Result<()> {
        let had = self.input.len();
        self.input.resize(had + CHUNK, 0);
        let mut read = 0;
        while read < CHUNK && !self.ended {
            match self.file.read(&mut self.input[had + read..]) {
                Ok(0) => self.ended = true,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.input.truncate(had + read);
                    return Err(error);
                }
            }
        }
        self.input.truncate(had + read);
        Ok(())
    }

    /// Decodes more, once everything was read.
    fn refill(&mut self) -> io::Result<()> {
        self.place.pass(&self.text, self.encoding.line_end());
        self.text.clear();
        self.at = 0;
        while self.text.is_empty() && self.failure.is_none() && !self.is_done() {
            if self.input.len() < CHUNK && !self.ended {
                self.read_input()?;
            }
            self.decode();
        }
        match self.failure {
            Some(failure) if self.text.is_empty() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, self.told(failure)))
            }
            _ => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        let is_done = if let Decoding::Other { is_done, .. } = self.decoder { is_done } else { true };
        self.ended && self.input.is_empty() && is_done
    }

    fn decode(&mut self) {
        match &mut self.decoder {
            Decoding::Utf8 => {
                std::mem::swap(&mut self.text, &mut self.input);
                self.input.clear();
                if let Err(error) = std::str::from_utf8(&self.text) {
                    self.input.extend(&self.text[error.valid_up_to()..]);
                    self.text.truncate(error.valid_up_to());
                    let is_end = error.error_len().is_none();
                    if !is_end || self.ended {
                        let offset = self.offset + self.text.len() as u64;
                        self.failure = Some(Failure { byte: self.input.first().copied(), offset, is_end });
                    }
                }
                self.offset += self.text.len() as u64;
            }
            Decoding::Latin1 => {
                let mut letters = [0; 2];
                for &byte in &self.input {
                    self.text.extend(char::from(byte).encode_utf8(&mut letters).as_bytes());
                }
                self.offset += self.input.len() as u64;
                self.input.clear();
            }
            Decoding::Other { decoder, standard, is_done } => {
                let room = decoder.max_utf8_buffer_length_without_replacement(self.input.len());
                self.text.resize(room.unwrap_or(4 * CHUNK), 0);
                let (result, read, written) =
                    decoder.decode_to_utf8_without_replacement(&self.input, &mut self.text, self.ended);
                self.text.truncate(written);
                *is_done = self.ended && result == DecoderResult::InputEmpty;
                if let DecoderResult::Malformed(length, after) = result {
                    let (length, after) = (usize::from(length), usize::from(after));
                    let offset = (self.offset + read as u64).saturating_sub((length + after) as u64);
                    let byte = read.checked_sub(length + after).and_then(|at| self.input.get(at)).copied();
                    self.failure = Some(Failure { byte, offset, is_end: self.ended && read == self.input.len() });
                }
                // The standard gives controls for bytes that these encodings have no character for.
                if standard.name().starts_with("windows-")
                    && let Some(at) = self.text.windows(2).position(|pair| pair[0] == 0xC2 && pair[1] < 0xA0)
                {
                    let before = String::from_utf8_lossy(&self.text[..at]).chars().count() as u64;
                    let failure =
                        Failure { byte: Some(self.text[at + 1]), offset: self.offset + before, is_end: false };
                    self.failure = Some(failure);
                    self.text.truncate(at);
                }
                self.offset += read as u64;
                self.input.drain(..read);
            }
        }
    }

    /// What's to be said of something that can't be decoded.
    fn told(&self, failure: Failure) -> Hinted {
        let (path, Place { row, column }) = (self.path.display(), self.place);
        let is_utf8 = self.encoding.characters == Characters::Utf8;
        let name = if is_utf8 { "UTF-8".to_owned() } else { format!("`{}`", self.encoding) };
        let byte = failure.byte.map(|byte| format!("byte 0x{byte:02X} at ")).unwrap_or_default();
        let ends = if failure.is_end { "; the file ends within a character" } else { "" };
        let message = format!("{path}: row {row}: not valid {name} ({byte}column {column}{ends})");
        match guess::around(&self.path, failure.offset) {
            Some(Guess::Encoding("UTF-8")) if !is_utf8 => {
                Hinted::with(format!("{message}; it looks like UTF-8"), "leave `encoding` out")
            }
            Some(Guess::Encoding(name)) if !name.eq_ignore_ascii_case(&self.encoding.name) => {
                let hint = format!("read it with `encoding: {}`, or save it as UTF-8", name.to_ascii_lowercase());
                Hinted::with(format!("{message}; it looks like {name}"), hint)
            }
            Some(Guess::DamagedUtf8) if is_utf8 => {
                let hint = "mend the row; where it doesn't matter, `iconv -c -f UTF-8 -t UTF-8` leaves such bytes out";
                Hinted::with(format!("{message}; most of the text is UTF-8, so this place is damaged"), hint)
            }
            _ if is_utf8 => {
                let hint = "if it's in another encoding, name that, such as `encoding: gb18030`, or save it as UTF-8";
                Hinted::with(message, hint)
            }
            _ => Hinted::with(message, "name the encoding that the file has"),
        }
    }
}

impl Decoding {
    fn other(standard: &'static encoding_rs::Encoding) -> Self {
        Self::Other { decoder: Box::new(standard.new_decoder_without_bom_handling()), standard, is_done: false }
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.fill_buf()?;
        let count = text.len().min(buffer.len());
        buffer[..count].copy_from_slice(&text[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Text {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.text.len() {
            self.refill()?;
        }
        Ok(&self.text[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.text.len());
    }
}

/// What a person should be told of an error of [`Text`].
pub(super) fn failed(error: io::Error) -> anyhow::Error {
    match error.downcast::<Hinted>() {
        Ok(told) => told.into(),
        Err(error) => error.into(),
    }
}

/// Bytes as UTF-8; they may end within a character.
fn sound(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]),
        other => other,
    }
}

/// Where a text is, by its lines; both from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    row: usize,
    column: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { row: 1, column: 1 }
    }
}

impl Place {
    /// Goes on to the end of a text.
    fn pass(&mut self, text: &[u8], line_end: u8) {
        let lines = text.iter().filter(|byte| **byte == line_end).count();
        self.row += lines;
        let last = text.rsplit(|byte| *byte == line_end).next().unwrap_or_default();
        let characters = last.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        self.column = if lines == 0 { self.column + characters } else { characters + 1 };
    }
}
