//! Looks at a whole file for what its quotes mean.

use anyhow::Result;

use super::records::{Evidence, Records};

/// What was seen of a file, read as if quotes enclosed fields.
pub(super) struct Survey {
    /// Whether that gives rows that all have the same number of fields.
    is_regular: bool,
    /// Whether lines have the same number of fields if quotes are text.
    pub(super) is_regular_without: bool,
    /// The first row whose quotes join lines that could be rows.
    joined: Option<usize>,
    /// The first row with a quote behind a backslash, which may escape it.
    escaped: Option<usize>,
    pub(super) evidence: Evidence,
}

/// What quotes mean in a file of which it isn't said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meaning {
    /// They enclose fields.
    Enclosing,
    /// Nothing.
    Text,
    /// This row would be read in two ways.
    Either { row: usize },
}

impl Survey {
    /// Reads a file from its start. `columns` are those that the source gives, and whether the last takes the rest of a
    /// line. With `until_irregular` it ends as soon as quotes can't be text.
    ///
    /// # Errors
    /// None but what can't be read anyway.
    pub(super) fn of(mut records: Records, columns: Option<(usize, bool)>, until_irregular: bool) -> Result<Self> {
        let delimiter = records.dialect.delimiter;
        let (mut is_regular, mut is_regular_without, mut joined) = (true, true, None);
        let (mut escaped, mut number, doubts) = (None, 0, records.dialect.escape.is_none());
        let mut fields = columns.map(|(columns, _)| columns);
        let takes_rest = columns.is_some_and(|(_, takes_rest)| takes_rest);
        let mut pieces = fields;
        loop {
            let line = match records.peek() {
                Ok(Some(line)) => {
                    if doubts && line.contains("\\\"") {
                        escaped = escaped.or(Some(number + 1));
                    }
                    line.split(delimiter).count()
                }
                Ok(None) => break,
                Err(_) => {
                    is_regular = false;
                    break;
                }
            };
            let Some(Ok(record)) = records.next() else {
                is_regular = false;
                break;
            };
            if record.fields.len() != *fields.get_or_insert(record.fields.len()) {
                is_regular = false;
                break;
            }
            number = record.number;
            let wanted = *pieces.get_or_insert(line);
            let fits = |&found: &usize| found == wanted || takes_rest && found > wanted;
            let even = fits(&line) && record.pieces.iter().all(fits);
            is_regular_without &= even;
            if even && record.pieces.len() > 1 {
                joined = joined.or(Some(record.number));
            }
            if until_irregular && !is_regular_without {
                break;
            }
        }
        Ok(Self { is_regular, is_regular_without, joined, escaped, evidence: records.evidence })
    }

    /// What the quotes of a .tsv mean: text, unless all of them enclose fields and either nothing else is possible, or they
    /// are as programs write them.
    pub(super) fn meaning(&self) -> Meaning {
        match (self.joined, self.evidence.quoted) {
            _ if !self.is_regular => self.escaped.map_or(Meaning::Text, |row| Meaning::Either { row }),
            _ if !self.is_regular_without => Meaning::Enclosing,
            (Some(row), _) if !self.evidence.is_surely_written() => Meaning::Either { row },
            (_, Some(row)) if !self.evidence.is_written() => Meaning::Either { row },
            _ => Meaning::Enclosing,
        }
    }
}
