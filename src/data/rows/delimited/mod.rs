//! .tsv and .csv: fields between delimiters, with or without quotes.
//!
//! A file is read as pandas and Python's `csv` read it where both agree. Where they don't, where their reading would make
//! fewer rows out of lines that are rows by themselves, or where it isn't said whether quotes enclose fields or are text,
//! the file is refused, with the row and the setting that decides.

mod records;
mod survey;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use self::{
    records::{Dialect, Record, Records},
    survey::{Meaning, Survey},
};
use super::{
    physical::PhysicalLines,
    places::places,
    row::{Fields, Rows},
};
use crate::{
    spec::{Format, Source},
    support::Hinted,
};

/// Opens a file, for all of its columns or for some.
pub(super) fn open(source: &Source, format: Format, file: &Path, wanted: Option<&[String]>) -> Result<Rows> {
    let mut table = Table::open(source, format, file)?;
    let columns = table.columns.clone();
    let Some(wanted) = wanted else {
        if let Some(twice) = duplicate(&columns, None) {
            bail!("{}: duplicate column {twice:?}", file.display());
        }
        return Ok(Rows::new(columns, std::iter::from_fn(move || table.read().transpose())));
    };
    if let Some(twice) = duplicate(&columns, Some(wanted)) {
        bail!("{}: duplicate column {twice:?}", file.display());
    }
    let places = places(file, &columns, wanted)?;
    let rows = std::iter::from_fn(move || {
        let choose = |(number, mut fields): Fields| {
            let field = |&place: &usize| fields.get_mut(place).map(std::mem::take).unwrap_or_default();
            (number, places.iter().map(field).collect())
        };
        table.read().map(|row| row.map(choose)).transpose()
    });
    Ok(Rows::new(wanted.to_vec(), rows))
}

/// The names of its columns.
pub(super) fn columns(source: &Source, format: Format, file: &Path) -> Result<Vec<String>> {
    Ok(Table::open(source, format, file)?.columns)
}

/// Whether a file is read otherwise than by the first version of this reader, or refused now.
pub(super) fn is_revised(source: &Source, format: Format, file: &Path) -> bool {
    let Ok(mut table) = Table::open(source, format, file) else { return true };
    loop {
        match table.read() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return true,
        }
    }
    let evidence = table.records.evidence;
    evidence.is_revised || (format == Format::Tsv && source.quoting.is_none() && evidence.quoted.is_some())
}

fn duplicate<'a>(columns: &'a [String], wanted: Option<&[String]>) -> Option<&'a String> {
    let mut names = columns.iter().enumerate().filter(|(_, name)| wanted.is_none_or(|wanted| wanted.contains(name)));
    names.find(|(index, name)| columns.iter().take(*index).any(|other| other == *name)).map(|found| found.1)
}

/// What a file's quotes mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Quotes {
    /// It's said, or it has turned out.
    Known,
    /// They enclose fields, as in all .csv; looked at again where they join lines.
    Assumed,
    /// Not known before there's a field that begins with one.
    Unknown,
}

/// A file that is read, its header line behind it.
struct Table {
    source: Source,
    file: PathBuf,
    records: Records,
    columns: Vec<String>,
    /// Names of the columns that the source gives, and no header line.
    given: Option<usize>,
    quotes: Quotes,
}

impl Table {
    fn open(source: &Source, format: Format, file: &Path) -> Result<Self> {
        let csv = format == Format::Csv;
        let quotes = match (source.quoting, csv) {
            (Some(_), _) => Quotes::Known,
            (None, true) => Quotes::Assumed,
            (None, false) => Quotes::Unknown,
        };
        let dialect = Dialect {
            delimiter: source.delimiter.unwrap_or(if csv { ',' } else { '\t' }),
            quotes: source.quoting.unwrap_or(csv),
            escape: source.escape,
            most: usize::MAX,
            doubts_backslashes: source.quoting.is_none() && source.escape.is_none(),
            has_one_column: false,
        };
        let given = source.columns.as_ref().map(Vec::len);
        let records = Records::new(PhysicalLines::open(source, file)?, dialect);
        let mut table = Self { source: source.clone(), file: file.into(), records, columns: Vec::new(), given, quotes };
        match &source.columns {
            Some(columns) => {
                if source.header == Some(true) {
                    table.record()?;
                }
                table.columns.clone_from(columns);
                table.records.dialect.most = columns.len();
            }
            None if source.header == Some(false) => {
                let message = format!("{}: without a header line the columns need names", file.display());
                bail!(Hinted::with(message, "give them as `columns: […]`"))
            }
            None => match table.record()? {
                Some(header) => table.columns = header.fields,
                None => bail!("{}: the file is empty; it should begin with a header line", file.display()),
            },
        }
        table.records.dialect.has_one_column = table.columns.len() == 1;
        Ok(table)
    }

    fn read(&mut self) -> Result<Option<Fields>> {
        let Some(record) = self.record()? else { return Ok(None) };
        if record.fields.len() != self.columns.len() {
            return Err(self.ragged(&record));
        }
        if self.quotes == Quotes::Assumed && record.pieces.len() > 1 {
            self.look_at_joined(&record)?;
        }
        Ok(Some((record.number, record.fields)))
    }

    fn record(&mut self) -> Result<Option<Record>> {
        if self.quotes == Quotes::Unknown {
            let delimiter = self.records.dialect.delimiter;
            let begins = |line: &str| line.contains('"') && line.split(delimiter).any(|field| field.starts_with('"'));
            if self.records.peek()?.is_some_and(begins) {
                self.decide()?;
            }
        }
        self.records.next().transpose()
    }

    /// Whether quotes enclose the fields of a .tsv, by the whole file: where one doesn't, they are text in all of it.
    fn decide(&mut self) -> Result<()> {
        self.quotes = Quotes::Known;
        match self.survey(false)?.meaning() {
            Meaning::Text => {}
            Meaning::Enclosing => self.records.dialect.quotes = true,
            Meaning::Either { row } => bail!(Hinted::with(
                format!("{}: row {row}: it can't be told whether quotes enclose fields", self.file.display()),
                "set `quoting: true` if they do (with `escape` if a character escapes them), and `quoting: false` if \
                 quotes are part of the text",
            )),
        }
        Ok(())
    }

    /// Quotes that join lines of which each could be a row: if that's so of all lines of the file, nothing shows which of
    /// the two is meant.
    fn look_at_joined(&mut self, record: &Record) -> Result<()> {
        let even = record.pieces.iter().all(|&fields| fields == self.columns.len());
        if !even {
            return Ok(());
        }
        self.quotes = Quotes::Known;
        let survey = self.survey(true)?;
        let evidence = survey.evidence;
        let is_written = evidence.is_surely_written() || self.columns.len() == 1 && evidence.is_written();
        if survey.is_regular_without && !is_written {
            let (file, row, lines) = (self.file.display(), record.number, record.pieces.len());
            bail!(Hinted::with(
                format!("{file}: row {row}: quotes join {lines} lines, each of which could be a row of its own"),
                "set `quoting: true` if they enclose one field, and `quoting: false` if quotes are part of the text",
            ));
        }
        Ok(())
    }

    fn survey(&self, until_irregular: bool) -> Result<Survey> {
        // Quotes behind backslashes are among those that show what quotes mean.
        let dialect = Dialect { quotes: true, most: usize::MAX, doubts_backslashes: false, ..self.records.dialect };
        let columns = self.given.map(|columns| (columns, self.quotes_may_be_text()));
        Survey::of(Records::new(PhysicalLines::open(&self.source, &self.file)?, dialect), columns, until_irregular)
    }

    /// Whether lines are split as if quotes were text, so that the last column takes the rest.
    fn quotes_may_be_text(&self) -> bool {
        !self.records.dialect.quotes
    }

    fn ragged(&self, record: &Record) -> anyhow::Error {
        let (found, wanted) = (count(record.fields.len(), "field"), count(self.columns.len(), "column"));
        let (file, row) = (self.file.display(), record.number);
        let message = format!("{file}: row {row}: {found} for {wanted} ({})", self.columns.join(", "));
        let Dialect { quotes, escape, .. } = self.records.dialect;
        let has = |character: char| record.fields.iter().any(|field| field.contains(character));
        let hint = if quotes && has('"') {
            "if quotes are part of the text, set `quoting: false`"
        } else if !quotes && has('"') {
            "if quotes enclose fields, set `quoting: true`"
        } else if has('\\') && escape.is_none() {
            r#"if a backslash escapes the delimiter, set `escape: "\\"`"#
        } else {
            "every row needs a field for each column; `delimiter`, `quoting` and `escape` say how lines are split"
        };
        Hinted::with(message, hint).into()
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
