//! Rows of named fields out of .txt, .tsv, .csv, .jsonl, .json, .parquet and .arrow files.

mod columnar;
mod delimited;
mod json;
mod physical;
mod places;
mod row;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::encoding::Encoding;
use super::lines::Lines;
use crate::spec::{Format, Source};
use crate::support::Hinted;

pub use row::{Row, Rows};

/// The only column of a .txt.
const TEXT: &str = "text";

/// Opens one file of a source, for all its columns but those of a Parquet or Arrow file that hold lists, structs or
/// bytes. Lines without any text are passed over.
///
/// # Errors
/// If the file can't be read or its format is unknown; while iterating, if a row isn't UTF-8 or has too few or too
/// many fields. Messages name the file and the row.
pub fn rows(source: &Source, file: &Path) -> Result<Rows> {
    opened(source, file, None, &[])
}

/// As [`rows`], for some columns only: what stands in the others isn't looked at. Those in `nested` may hold lists and
/// objects where the format has them; their fields are JSON.
///
/// # Errors
/// As [`rows`]; if a column isn't there, but for JSON, where a row that lacks a key has an empty field.
pub fn chosen_rows(source: &Source, file: &Path, columns: &[&str], nested: &[&str]) -> Result<Rows> {
    let mut wanted: Vec<String> = Vec::new();
    for &column in columns {
        if !wanted.iter().any(|other| other == column) {
            wanted.push(column.to_owned());
        }
    }
    opened(source, file, Some(&wanted), nested)
}

fn opened(source: &Source, file: &Path, wanted: Option<&[String]>, nested: &[&str]) -> Result<Rows> {
    let rows = match format(source, file)? {
        Format::Txt => text(source, file, wanted)?,
        format @ (Format::Tsv | Format::Csv) => delimited::open(source, format, file, wanted)?,
        Format::Jsonl | Format::Json => json::open(source, file, wanted, nested)?,
        format @ (Format::Parquet | Format::Arrow) => columnar::open(format, file, wanted, nested)?,
    };
    Ok(rows.part(source.skip.unwrap_or(0), source.limit.unwrap_or(usize::MAX)))
}

/// The names of the columns of a source's files, by the start of the first. Rows of JSON may have keys of their own:
/// those in `wanted` are looked for in all rows of all files.
///
/// # Errors
/// If a file can't be read as far as it's needed.
pub fn columns(source: &Source, files: &[PathBuf], wanted: &[String]) -> Result<Vec<String>> {
    let mut columns: Vec<String> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let format = format(source, file)?;
        let is_missing = wanted.iter().any(|column| !columns.contains(column));
        if index > 0 && !(is_missing && is_json(format)) {
            continue;
        }
        let found = match format {
            Format::Txt => vec![TEXT.to_owned()],
            Format::Tsv | Format::Csv => delimited::columns(source, format, file)?,
            Format::Jsonl | Format::Json => json::columns(source, file, wanted)?,
            Format::Parquet | Format::Arrow => columnar::columns(format, file)?,
        };
        columns.extend(found.into_iter().filter(|column| !columns.contains(column)).collect::<Vec<_>>());
    }
    Ok(columns)
}

/// Looks at what of a file can be looked at without reading all of it: its header or footer, how it's compressed, and its
/// first row.
///
/// # Errors
/// As [`chosen_rows`].
pub fn check_rows(source: &Source, file: &Path, columns: &[&str], nested: &[&str]) -> Result<()> {
    let format = format(source, file)?;
    if matches!(format, Format::Parquet | Format::Arrow) {
        let wanted: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
        columnar::check(format, file, Some(&wanted))?;
    }
    chosen_rows(source, file, columns, nested)?.next().transpose().map(drop)
}

/// Whether a file is read otherwise than by the first version of its reader; also where it's refused now. What was made of
/// such a file before is no longer what it gives.
pub fn is_revised(source: &Source, file: &Path) -> bool {
    match format(source, file) {
        Ok(format @ (Format::Tsv | Format::Csv)) => delimited::is_revised(source, format, file),
        Ok(Format::Jsonl | Format::Json) => json::is_revised(source, file),
        Ok(Format::Txt | Format::Parquet | Format::Arrow) | Err(_) => false,
    }
}

fn is_json(format: Format) -> bool {
    matches!(format, Format::Jsonl | Format::Json)
}

/// The format that the source names, or that the file's extension implies.
pub(super) fn format(source: &Source, file: &Path) -> Result<Format> {
    let name = file.display();
    let Some(format) = source.format.or_else(|| Format::of(file)) else {
        let packed = ["gz", "zst", "bz2", "xz", "zip"];
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if packed.contains(&extension.to_ascii_lowercase().as_str()) {
            bail!(Hinted::with(format!("{name}: the file is compressed"), "unpack it first"))
        }
        bail!(Hinted::with(
            format!(
                "{name}: unknown format; supported are .txt, .tsv, .csv, .jsonl, .json, .ndjson, .parquet, .arrow and .feather"
            ),
            "set it with `format: txt`, `tsv`, `csv`, `jsonl`, `json`, `parquet` or `arrow`",
        ))
    };
    if !matches!(format, Format::Tsv | Format::Csv) {
        let set = [
            ("columns", source.columns.is_some()),
            ("header", source.header.is_some()),
            ("delimiter", source.delimiter.is_some()),
            ("quoting", source.quoting.is_some()),
            ("escape", source.escape.is_some()),
        ];
        if let Some((field, _)) = set.iter().find(|(_, set)| *set) {
            let message = format!("{name}: `{field}` doesn't apply to format {}", format.name());
            bail!(Hinted::with(message, "set `format: tsv` or `format: csv`"));
        }
    }
    let is_columnar = matches!(format, Format::Parquet | Format::Arrow);
    if is_columnar && source.encoding.parse() != Ok(Encoding::default()) {
        let format = format.name();
        let message = format!("{name}: `encoding` doesn't apply to format {format}");
        bail!(Hinted::with(message, format!("leave it out; texts of {format} are UTF-8")));
    }
    Ok(format)
}

fn text(source: &Source, file: &Path, wanted: Option<&[String]>) -> Result<Rows> {
    let places = places::places(file, &[TEXT.to_owned()], wanted.unwrap_or(&[TEXT.to_owned()]))?.len();
    let lines = Lines::open(source, file)?.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty()));
    let rows =
        lines.map(move |line| line.map(|(number, text)| (number, if places == 1 { vec![text] } else { Vec::new() })));
    Ok(Rows::new(vec![TEXT.to_owned(); places], rows))
}
