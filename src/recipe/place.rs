//! Places in the texts that a recipe is made of: its file, and the flags on the command line.

use std::sync::Arc;

/// A run of bytes in one of the [`Texts`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span {
    /// Which text; 0 is the recipe's file.
    pub text: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes from `start` to `end` of text number `text`. Texts are far shorter than 4 GiB.
    pub(super) fn new(text: u32, start: usize, end: usize) -> Self {
        let offset = |byte| u32::try_from(byte).unwrap_or(u32::MAX);
        Self { text, start: offset(start), end: offset(end.max(start)) }
    }

    /// From the beginning of this span to the end of the other.
    pub(super) fn to(self, other: Self) -> Self {
        Self { end: other.end.max(self.start), ..self }
    }
}

/// One text, and where its lines begin.
#[derive(Debug)]
pub struct Text {
    name: String,
    body: String,
    lines: Vec<usize>,
    is_file: bool,
}

impl Text {
    /// A file's content; `name` is the path as the user gave it.
    pub(super) fn file(name: impl Into<String>, body: impl Into<String>) -> Self {
        let body = body.into();
        let lines = std::iter::once(0).chain(body.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), body, lines, is_file: true }
    }

    /// A flag as it stands on the command line.
    pub(super) fn flag(body: impl Into<String>) -> Self {
        Self { name: "command line".into(), body: body.into(), lines: vec![0], is_file: false }
    }

    /// The file's path, or `command line`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Whether lines have numbers that mean something to the user.
    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Line and column of a byte, both from 1, the column in characters as editors count it.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= byte).max(1);
        let before = self.body.get(self.lines[line - 1]..byte).unwrap_or("").trim_start_matches('\u{feff}');
        (line, before.chars().count() + 1)
    }

    /// The byte range of a line (numbered from 1), without its end.
    pub(super) fn line(&self, number: usize) -> std::ops::Range<usize> {
        let start = self.lines[number - 1];
        let end = self.lines.get(number).map_or(self.body.len(), |next| next - 1);
        start..start + self.body[start..end].trim_end_matches('\r').len()
    }

    /// What is shown of the text: all but a byte-order mark.
    pub(super) fn shown(&self) -> &str {
        self.body.trim_start_matches('\u{feff}')
    }

    /// The bytes of [`Text::shown`] under which a span's carets stand: its part of the line that it begins in, without the
    /// spaces behind the last word. Spaces by themselves are marked.
    pub(super) fn marked(&self, span: Span) -> std::ops::Range<usize> {
        let line = self.line(self.place(span.start as usize).0);
        let hidden = self.body.len() - self.shown().len();
        let start = (span.start as usize).clamp(line.start, line.end).max(hidden);
        let end = (span.end as usize).clamp(start, line.end.max(start));
        let words = self.body.get(start..end).unwrap_or("").trim_end();
        let end = if words.is_empty() { end } else { start + words.len() };
        start - hidden..end - hidden
    }

    /// How many lines there are.
    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }
}

/// The texts that spans point into; number 0 is the recipe's file.
#[derive(Clone, Debug)]
pub struct Texts(Vec<Arc<Text>>);

impl Texts {
    /// Begins with the recipe's file.
    pub(super) fn new(file: Text) -> Self {
        Self(vec![Arc::new(file)])
    }

    /// The recipe's file.
    pub fn file(&self) -> &Text {
        &self.0[0]
    }

    /// Adds a flag, and says which number it got.
    pub(super) fn push(&mut self, text: Text) -> u32 {
        self.0.push(Arc::new(text));
        u32::try_from(self.0.len() - 1).unwrap_or(0)
    }

    /// The text that a span points into.
    pub fn of(&self, span: Span) -> &Text {
        self.0.get(span.text as usize).unwrap_or(&self.0[0])
    }

    /// What stands at a span.
    pub fn slice(&self, span: Span) -> &str {
        self.of(span).body.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// The place of a part of a string value, given the value's own span: a plain, quoted or block scalar holds the
    /// part literally, so the n-th occurrence in the value is the n-th in the source. Where escapes get in the way,
    /// the whole value.
    pub(super) fn within(&self, whole: Span, value: &str, part: std::ops::Range<usize>) -> Span {
        let (Some(needle), Some(before)) = (value.get(part.clone()), value.get(..part.start)) else { return whole };
        let source = self.slice(whole);
        if needle.is_empty() || source.matches(needle).count() != value.matches(needle).count() {
            return whole;
        }
        let skip = before.matches(needle).count();
        match source.match_indices(needle).nth(skip) {
            Some((at, _)) => {
                let start = whole.start as usize + at;
                Span::new(whole.text, start, start + needle.len())
            }
            None => whole,
        }
    }
}
