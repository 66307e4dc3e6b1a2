//! Takes lines apart into fields, as Python's `csv` and pandas do where both agree.

use anyhow::{Result, bail};

use super::super::physical::{Line, PhysicalLines};
use crate::support::Hinted;

/// A quoted field that runs over more lines than this is taken for a stray quote.
const LONGEST_FIELD: usize = 10_000;

/// How a line is split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) delimiter: char,
    /// Whether fields may stand in double quotes, with quotes in them doubled.
    pub(super) quotes: bool,
    /// What takes the next character's meaning from it.
    pub(super) escape: Option<char>,
    /// The most fields that a line without quotes is split into; the last takes the rest.
    pub(super) most: usize,
    /// Whether `\"` is refused, since it isn't said what it means.
    pub(super) doubts_backslashes: bool,
    /// Whether there's one column, so that a line of spaces is a row.
    pub(super) has_one_column: bool,
}

/// One record of a file.
pub(super) struct Record {
    /// The line where it begins.
    pub(super) number: usize,
    pub(super) fields: Vec<String>,
    /// How many fields each of its lines would have if quotes had no meaning; of records on several lines only.
    pub(super) pieces: Vec<usize>,
}

/// What was seen of quotes, to tell which meaning they have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// The line of the first field in quotes.
    pub(super) quoted: Option<usize>,
    /// Quotes within fields that aren't in quotes: no program that quotes fields leaves those bare.
    bare_quotes: bool,
    /// Quotes around fields that need none.
    needless: bool,
    /// Bare fields that aren't numbers.
    bare_text: bool,
    /// Doubled quotes in fields that are in quotes.
    doubled: bool,
    /// Something that the first version of this reader read otherwise.
    pub(super) is_revised: bool,
}

impl Evidence {
    /// Whether a program may have written these quotes: where they're needed, or around all fields but numbers.
    pub(super) fn is_written(self) -> bool {
        !(self.bare_quotes || self.needless && self.bare_text)
    }

    /// Whether one did: nobody but a program doubles quotes.
    pub(super) fn is_surely_written(self) -> bool {
        self.is_written() && self.doubled
    }
}

/// Reads records; empty lines, and of several columns lines of spaces and tabs alone, are passed over.
pub(super) struct Records {
    lines: PhysicalLines,
    pub(super) dialect: Dialect,
    pub(super) evidence: Evidence,
    /// A line that was read and not taken apart.
    held: Option<Line>,
    /// What ends lines outside of quotes: a carriage return alone, or a line feed.
    ends_in_return: Option<bool>,
}

impl Records {
    pub(super) fn new(lines: PhysicalLines, dialect: Dialect) -> Self {
        Self { lines, dialect, evidence: Evidence::default(), held: None, ends_in_return: None }
    }

    /// The next line that isn't blank, as it will be taken apart next.
    pub(super) fn peek(&mut self) -> Result<Option<&str>> {
        while self.held.is_none() {
            match self.lines.next().transpose()? {
                None => return Ok(None),
                Some(line) if self.is_blank(&line.text) => self.ends(line.number, line.end)?,
                Some(line) => {
                    self.evidence.is_revised |= line.end == "\r" || line.text.trim().is_empty();
                    self.held = Some(line);
                }
            }
        }
        Ok(self.held.as_ref().map(|line| line.text.as_str()))
    }

    /// A line in which there's nothing; one with delimiters has empty fields.
    fn is_blank(&self, line: &str) -> bool {
        if self.dialect.has_one_column {
            return line.is_empty();
        }
        line.chars().all(|character| (character == ' ' || character == '\t') && character != self.dialect.delimiter)
    }

    fn read(&mut self) -> Result<Option<Record>> {
        self.peek()?;
        let Some(Line { number, text, mut end }) = self.held.take() else { return Ok(None) };
        let Dialect { delimiter, quotes, escape, most, .. } = self.dialect;
        if !quotes && escape.is_none() {
            self.ends(number, end)?;
            let fields = text.splitn(most, delimiter).map(String::from).collect();
            return Ok(Some(Record { number, fields, pieces: Vec::new() }));
        }
        let mut splitter = Splitter { dialect: self.dialect, ..Splitter::default() };
        let mut pieces = Vec::new();
        let mut continues = self.split(&mut splitter, (number, number), &text)?;
        if continues {
            pieces.push(text.split(delimiter).count());
        }
        let mut lines = 1;
        while continues {
            splitter.field.push_str(end);
            self.evidence.is_revised |= end != "\n";
            lines += 1;
            match self.lines.next().transpose()? {
                Some(line) if lines <= LONGEST_FIELD => {
                    if !self.is_blank(&line.text) {
                        pieces.push(line.text.split(delimiter).count());
                    }
                    continues = self.split(&mut splitter, (number, line.number), &line.text)?;
                    end = line.end;
                }
                _ if splitter.state == State::Quoted => {
                    let message = format!("{}: row {number}: unclosed quote", self.lines.path().display());
                    bail!(Hinted::with(message, "if quotes are part of the text, set `quoting: false`"))
                }
                _ => {
                    let file = self.lines.path().display();
                    bail!("{file}: row {number}: nothing follows the character that escapes the next one")
                }
            }
        }
        self.ends(number, end)?;
        if splitter.evidence.quoted.is_some() {
            self.evidence.quoted = self.evidence.quoted.or(Some(number));
        }
        let Evidence { bare_quotes, needless, bare_text, doubled, is_revised, .. } = &mut self.evidence;
        *bare_quotes |= splitter.evidence.bare_quotes;
        *needless |= splitter.evidence.needless;
        *bare_text |= splitter.evidence.bare_text;
        *doubled |= splitter.evidence.doubled;
        *is_revised |= end == "\r";
        Ok(Some(Record { number, fields: splitter.fields, pieces }))
    }

    /// Notes what ends a line outside of quotes: pandas and Python's `csv` take a carriage return alone for the end of one,
    /// but not alike where other lines end with a line feed.
    fn ends(&mut self, number: usize, end: &str) -> Result<()> {
        let ends_in_return = end == "\r";
        if end.is_empty() || *self.ends_in_return.get_or_insert(ends_in_return) == ends_in_return {
            return Ok(());
        }
        let message = "some lines end with a carriage return (CR) alone, and some with a line feed";
        let message = format!("{}: row {number}: {message}", self.lines.path().display());
        bail!(Hinted::with(message, "take the carriage returns out, or put fields that have some in quotes"))
    }

    /// Takes one line of a record apart; whether that goes on in the next.
    fn split(&self, splitter: &mut Splitter, (number, line): (usize, usize), text: &str) -> Result<bool> {
        let Err(fault) = splitter.line(text) else { return Ok(splitter.state.continues()) };
        let file = self.lines.path().display();
        let of_line = if line == number { String::new() } else { format!(" of line {line}") };
        Err(match fault {
            Fault::BehindQuote { column } => Hinted::with(
                format!("{file}: row {number}: text behind a closing quote, at column {column}{of_line}"),
                "if quotes are part of the text, set `quoting: false`; quotes within a quoted field are doubled, or \
                 escaped by a character that `escape` names",
            ),
            Fault::Backslash { column } => Hinted::with(
                format!("{file}: row {number}: a backslash before a quote, at column {column}{of_line}"),
                r#"if it escapes the quote, set `escape: "\\"`; if it's text, set `quoting: true`"#,
            ),
        }
        .into())
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Where in a field a line is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Start,
    Bare,
    Quoted,
    /// Behind the quote that closes a field.
    Closed,
    /// A line's end is the character that was escaped, in a bare field.
    EscapedEnd,
    /// The same, in a quoted one.
    EscapedQuotedEnd,
}

impl State {
    fn continues(self) -> bool {
        matches!(self, Self::Quoted | Self::EscapedEnd | Self::EscapedQuotedEnd)
    }
}

enum Fault {
    BehindQuote { column: usize },
    Backslash { column: usize },
}

/// Takes a record apart as RFC 4180 has it; a quote within an unquoted field is an ordinary character.
struct Splitter {
    dialect: Dialect,
    fields: Vec<String>,
    field: String,
    state: State,
    is_quoted: bool,
    evidence: Evidence,
}

impl Default for Splitter {
    fn default() -> Self {
        let dialect = Dialect {
            delimiter: ',',
            quotes: true,
            escape: None,
            most: usize::MAX,
            doubts_backslashes: false,
            has_one_column: false,
        };
        Self {
            dialect,
            fields: Vec::new(),
            field: String::new(),
            state: State::Start,
            is_quoted: false,
            evidence: Evidence::default(),
        }
    }
}

impl Splitter {
    /// Reads one line.
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        self.state = match self.state {
            State::EscapedEnd => State::Bare,
            State::EscapedQuotedEnd | State::Quoted => State::Quoted,
            _ => State::Start,
        };
        let Dialect { delimiter, quotes, escape, doubts_backslashes, .. } = self.dialect;
        let mut before = '\0';
        let mut characters = line.chars().enumerate().peekable();
        while let Some((at, character)) = characters.next() {
            if Some(character) == escape && self.state != State::Closed {
                let is_quoted = self.state == State::Quoted;
                match characters.next() {
                    Some((_, next)) => {
                        self.field.push(next);
                        self.state = if is_quoted { State::Quoted } else { State::Bare };
                    }
                    None => {
                        self.state = if is_quoted { State::EscapedQuotedEnd } else { State::EscapedEnd };
                        return Ok(());
                    }
                }
                before = '\0';
                continue;
            }
            match self.state {
                State::Quoted if character != '"' => self.field.push(character),
                State::Quoted if characters.next_if(|(_, next)| *next == '"').is_some() => self.field.push('"'),
                State::Quoted => self.state = State::Closed,
                State::Start if character == '"' && quotes => {
                    self.state = State::Quoted;
                    self.is_quoted = true;
                }
                _ if character == delimiter => self.finish(),
                State::Closed => return Err(Fault::BehindQuote { column: at + 1 }),
                _ => {
                    if character == '"' && quotes {
                        self.evidence.bare_quotes = true;
                        if before == '\\' && doubts_backslashes {
                            return Err(Fault::Backslash { column: at });
                        }
                    }
                    self.field.push(character);
                    self.state = State::Bare;
                }
            }
            before = character;
        }
        if !self.state.continues() {
            self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) {
        let (delimiter, field) = (self.dialect.delimiter, std::mem::take(&mut self.field));
        if std::mem::take(&mut self.is_quoted) {
            self.evidence.quoted = Some(0);
            let needs = |character: char| character == delimiter || matches!(character, '"' | '\n' | '\r');
            self.evidence.needless |= !field.is_empty() && !field.contains(needs);
            self.evidence.doubled |= field.contains('"');
        } else if !self.evidence.bare_text {
            self.evidence.bare_text = !field.is_empty() && field.trim().parse::<f64>().is_err();
        }
        self.fields.push(field);
        self.state = State::Start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(lines: &[&str], escape: Option<char>) -> Vec<String> {
        let mut splitter = Splitter::default();
        splitter.dialect.escape = escape;
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                splitter.field.push('\n');
            }
            assert!(splitter.line(line).is_ok(), "{line}");
        }
        assert!(!splitter.state.continues());
        splitter.fields
    }

    #[test]
    fn quotes_hide_delimiters_line_breaks_and_doubled_quotes() {
        assert_eq!(split(&[r#"a,"b,c","d""e","#], None), ["a", "b,c", "d\"e", ""]);
        assert_eq!(split(&["1,\"first", "", "third\",x"], None), ["1", "first\n\nthird", "x"]);
    }

    #[test]
    fn quotes_within_a_field_are_text() {
        assert_eq!(split(&[r#"5" disk,say "hi""#], None), ["5\" disk", "say \"hi\""]);
    }

    #[test]
    fn escaped_characters_have_no_meaning() {
        assert_eq!(split(&[r#"a\,b,"c\"d\\",x\"#, "y"], Some('\\')), ["a,b", "c\"d\\", "x\ny"]);
    }
}
