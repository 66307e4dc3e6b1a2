//! Rows of named fields out of .txt, .tsv, .csv, .jsonl and .parquet files.

mod columnar;
mod delimited;
mod jsonl;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::lines::Lines;
use crate::spec::{Format, Source};
use crate::support::Hinted;

/// One row of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands, counted from 1: the line of a text file (a header line counts), the row of a Parquet file.
    pub number: usize,
    /// The fields, in the order of the columns.
    pub fields: Vec<String>,
    columns: Arc<[String]>,
}

impl Row {
    /// The field in a column, if there is such a column.
    pub fn get(&self, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.fields.get(index).map(String::as_str)
    }
}

/// A file's rows, read as they're asked for; ends after an error.
pub struct Rows {
    columns: Arc<[String]>,
    fields: Box<dyn Iterator<Item = Result<Fields>> + Send>,
    left: usize,
}

/// A row's number and its fields.
type Fields = (usize, Vec<String>);

impl Rows {
    fn new(columns: Vec<String>, fields: impl Iterator<Item = Result<Fields>> + Send + 'static) -> Self {
        Self { columns: columns.into(), fields: Box::new(fields), left: usize::MAX }
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let row = self.fields.next();
        if !matches!(row, Some(Ok(_))) {
            self.left = 0;
        }
        row.map(|row| row.map(|(number, fields)| Row { number, fields, columns: self.columns.clone() }))
    }
}

/// Opens one file of a source. Lines without any text are passed over.
///
/// # Errors
/// If the file can't be read or its format can't be told; while iterating, if a row isn't UTF-8 or has too few or too
/// many fields. Messages name the file and the row.
pub fn rows(source: &Source, file: &Path) -> Result<Rows> {
    nested_rows(source, file, &[])
}

/// As [`rows`], but that these columns may hold lists and objects where the format has them; their fields are JSON.
///
/// # Errors
/// As [`rows`].
pub fn nested_rows(source: &Source, file: &Path, nested: &[&str]) -> Result<Rows> {
    let mut rows = match format(source, file)? {
        Format::Txt => text(file)?,
        format @ (Format::Tsv | Format::Csv) => delimited::open(source, format, file)?,
        Format::Jsonl => jsonl::open(file, nested)?,
        Format::Parquet => columnar::open(file)?,
    };
    if let Some(twice) = duplicate(&rows.columns) {
        bail!("{}: two columns are called {twice:?}", file.display());
    }
    rows.left = source.limit.unwrap_or(usize::MAX);
    Ok(rows)
}

/// The names of a file's columns; reads only its start.
pub fn header(source: &Source, file: &Path) -> Result<Vec<String>> {
    Ok(rows(source, file)?.columns().to_vec())
}

/// The format that the source names, or that the file's extension tells.
pub(super) fn format(source: &Source, file: &Path) -> Result<Format> {
    let name = file.display();
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let format = match (source.format, extension.as_str()) {
        (Some(format), _) => format,
        (None, "txt") => Format::Txt,
        (None, "tsv") => Format::Tsv,
        (None, "csv") => Format::Csv,
        (None, "jsonl") => Format::Jsonl,
        (None, "parquet") => Format::Parquet,
        (None, _) => bail!(Hinted::with(
            format!("{name}: can't tell the format from the name; known are .txt, .tsv, .csv, .jsonl and .parquet"),
            "say which it is with `format: txt`, `tsv`, `csv`, `jsonl` or `parquet`",
        )),
    };
    if !matches!(format, Format::Tsv | Format::Csv) {
        let set = [
            ("columns", source.columns.is_some()),
            ("header", source.header.is_some()),
            ("delimiter", source.delimiter.is_some()),
            ("quoting", source.quoting.is_some()),
        ];
        if let Some((field, _)) = set.iter().find(|(_, set)| *set) {
            let known = format!("{format:?}").to_lowercase();
            let message = format!("{name}: `{field}` has no meaning in format {known}");
            bail!(Hinted::with(message, "set `format: tsv` or `format: csv`"));
        }
    }
    Ok(format)
}

fn text(file: &Path) -> Result<Rows> {
    let lines = Lines::open(file)?.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty()));
    Ok(Rows::new(vec!["text".into()], lines.map(|line| line.map(|(number, text)| (number, vec![text])))))
}

fn duplicate(columns: &[String]) -> Option<&String> {
    columns
        .iter()
        .enumerate()
        .find(|(index, name)| columns.iter().take(*index).any(|other| other == *name))
        .map(|x| x.1)
}
