//! .tsv and .csv: fields between delimiters, with or without quotes.

use std::path::Path;

use anyhow::{Result, bail};

use super::row::Rows;
use crate::data::lines::Lines;
use crate::spec::{Format, Source};
use crate::support::Hinted;

/// A quoted field that runs over more lines than this is taken for a stray quote.
const LONGEST_FIELD: usize = 10_000;

pub(super) fn open(source: &Source, format: Format, file: &Path) -> Result<Rows> {
    let csv = format == Format::Csv;
    let mut records = Records {
        lines: Lines::open(source, file)?,
        delimiter: source.delimiter.unwrap_or(if csv { ',' } else { '\t' }),
        quoting: source.quoting.unwrap_or(csv),
        splits: usize::MAX,
    };
    let columns = match &source.columns {
        Some(columns) => {
            if source.header == Some(true) {
                records.next().transpose()?;
            }
            if !records.quoting {
                records.splits = columns.len();
            }
            columns.clone()
        }
        None if source.header == Some(false) => {
            let message = format!("{}: without a header line the columns need names", file.display());
            bail!(Hinted::with(message, "give them as `columns: […]`"))
        }
        None => match records.next() {
            Some(header) => header?.1,
            None => bail!("{}: the file is empty; it should begin with a header line", file.display()),
        },
    };
    let name = file.display().to_string();
    let expected = columns.clone();
    let rows = records.map(move |record| {
        let (number, fields) = record?;
        if fields.len() != expected.len() {
            let (found, wanted) = (count(fields.len(), "field"), count(expected.len(), "column"));
            bail!("{name}: row {number}: {found} for {wanted} ({})", expected.join(", "));
        }
        Ok((number, fields))
    });
    Ok(Rows::new(columns, rows))
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

struct Records {
    lines: Lines,
    delimiter: char,
    quoting: bool,
    /// The most fields that a line without quotes is split into.
    splits: usize,
}

impl Records {
    fn read(&mut self) -> Result<Option<(usize, Vec<String>)>> {
        let (number, line) = loop {
            match self.lines.next().transpose()? {
                None => return Ok(None),
                Some((_, line)) if line.trim().is_empty() => {}
                Some(line) => break line,
            }
        };
        if !self.quoting {
            return Ok(Some((number, line.splitn(self.splits, self.delimiter).map(String::from).collect())));
        }
        let mut splitter = Splitter::default();
        splitter.line(&line, self.delimiter);
        let mut lines = 1;
        while splitter.quoted {
            lines += 1;
            match self.lines.next().transpose()? {
                Some((_, line)) if lines <= LONGEST_FIELD => {
                    splitter.field.push('\n');
                    splitter.line(&line, self.delimiter);
                }
                _ => {
                    let file = self.lines.path().display();
                    bail!(Hinted::with(
                        format!("{file}: row {number}: unclosed quote"),
                        "if quotes are part of the text, set `quoting: false`",
                    ))
                }
            }
        }
        Ok(Some((number, splitter.fields)))
    }
}

impl Iterator for Records {
    type Item = Result<(usize, Vec<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Takes a record apart as RFC 4180 has it; a quote within an unquoted field is an ordinary character.
#[derive(Default)]
struct Splitter {
    fields: Vec<String>,
    field: String,
    quoted: bool,
}

impl Splitter {
    /// Reads one line; `quoted` is set if the record continues in the next.
    fn line(&mut self, line: &str, delimiter: char) {
        let mut start = !self.quoted;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            let at_start = std::mem::take(&mut start);
            if self.quoted {
                if character != '"' {
                    self.field.push(character);
                } else if characters.next_if_eq(&'"').is_some() {
                    self.field.push('"');
                } else {
                    self.quoted = false;
                }
            } else if character == '"' && at_start {
                self.quoted = true;
            } else if character == delimiter {
                self.fields.push(std::mem::take(&mut self.field));
                start = true;
            } else {
                self.field.push(character);
            }
        }
        if !self.quoted {
            self.fields.push(std::mem::take(&mut self.field));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(lines: &[&str]) -> Vec<String> {
        let mut splitter = Splitter::default();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                splitter.field.push('\n');
            }
            splitter.line(line, ',');
        }
        assert!(!splitter.quoted);
        splitter.fields
    }

    #[test]
    fn quotes_hide_delimiters_line_breaks_and_doubled_quotes() {
        assert_eq!(split(&[r#"a,"b,c","d""e","#]), ["a", "b,c", "d\"e", ""]);
        assert_eq!(split(&["1,\"first", "", "third\",x"]), ["1", "first\n\nthird", "x"]);
    }

    #[test]
    fn quotes_within_a_field_are_text() {
        assert_eq!(split(&[r#"5" disk,say "hi""#]), ["5\" disk", "say \"hi\""]);
    }
}
