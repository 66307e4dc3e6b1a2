//! Rows of named fields out of .txt, .tsv, .csv, .jsonl and .parquet files.

mod columnar;
mod delimited;
mod jsonl;
mod row;

use std::path::Path;

use anyhow::{Result, bail};

use super::encoding::Encoding;
use super::lines::Lines;
use crate::spec::{Format, Source};
use crate::support::Hinted;

pub use row::{Row, Rows};

/// Opens one file of a source. Lines without any text are passed over.
///
/// # Errors
/// If the file can't be read or its format is unknown; while iterating, if a row isn't UTF-8 or has too few or too
/// many fields. Messages name the file and the row.
pub fn rows(source: &Source, file: &Path) -> Result<Rows> {
    nested_rows(source, file, &[])
}

/// As [`rows`], but that these columns may hold lists and objects where the format has them; their fields are JSON.
///
/// # Errors
/// As [`rows`].
pub fn nested_rows(source: &Source, file: &Path, nested: &[&str]) -> Result<Rows> {
    let rows = match format(source, file)? {
        Format::Txt => text(source, file)?,
        format @ (Format::Tsv | Format::Csv) => delimited::open(source, format, file)?,
        Format::Jsonl => jsonl::open(source, file, nested)?,
        Format::Parquet => columnar::open(file)?,
    };
    if let Some(twice) = duplicate(rows.columns()) {
        bail!("{}: duplicate column {twice:?}", file.display());
    }
    Ok(rows.limited(source.limit.unwrap_or(usize::MAX)))
}

/// The names of a file's columns; reads only its start.
pub fn header(source: &Source, file: &Path) -> Result<Vec<String>> {
    Ok(rows(source, file)?.columns().to_vec())
}

/// The format that the source names, or that the file's extension implies.
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
            format!("{name}: unknown format; supported are .txt, .tsv, .csv, .jsonl and .parquet"),
            "set it with `format: txt`, `tsv`, `csv`, `jsonl` or `parquet`",
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
            let message = format!("{name}: `{field}` doesn't apply to format {known}");
            bail!(Hinted::with(message, "set `format: tsv` or `format: csv`"));
        }
    }
    if format == Format::Parquet && source.encoding.parse() != Ok(Encoding::default()) {
        let message = format!("{name}: `encoding` doesn't apply to format parquet");
        bail!(Hinted::with(message, "leave it out; Parquet's texts are UTF-8"));
    }
    Ok(format)
}

fn text(source: &Source, file: &Path) -> Result<Rows> {
    let lines = Lines::open(source, file)?.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty()));
    Ok(Rows::new(vec!["text".into()], lines.map(|line| line.map(|(number, text)| (number, vec![text])))))
}

fn duplicate(columns: &[String]) -> Option<&String> {
    columns
        .iter()
        .enumerate()
        .find(|(index, name)| columns.iter().take(*index).any(|other| other == *name))
        .map(|x| x.1)
}
