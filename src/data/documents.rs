//! Documents out of running text or out of rows: each is a text as it stands in its file.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail};
use fs_err as fs;

use super::decoding::{Text, failed};
use super::lines::Lines;
use super::rows::{Rows, format, rows};
use crate::data::text::{sentence_ends, sentences};
use crate::spec::{DocumentUnit, Format, Source};
use crate::support::{Hinted, text_hash};

/// One document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// What stands in the file, with the line ends between its lines and all white space.
    pub text: String,
}

impl Document {
    /// Its sentences, which put together are the text.
    pub fn sentences(&self) -> impl Iterator<Item = &str> {
        sentences(&self.text)
    }

    /// Where each of its sentences ends, in bytes.
    pub fn sentence_ends(&self) -> Vec<usize> {
        sentence_ends(&self.text)
    }

    /// [`text_hash`] of the text.
    pub fn hash(&self) -> u64 {
        text_hash(&self.text)
    }
}

/// A file's documents, read as they're asked for; ends after an error.
pub type Documents = Box<dyn Iterator<Item = Result<Document>> + Send>;

/// The columns that are taken for the text of a corpus where the recipe names none.
const TEXT_COLUMNS: [&str; 4] = ["text", "text_a", "sentence", "content"];

/// Opens one file of a source; documents without text are passed over.
///
/// # Errors
/// As [`rows`]; also if the columns that hold the text aren't there, or are ambiguous.
pub fn documents(source: &Source, file: &Path) -> Result<Documents> {
    let texts: Box<dyn Iterator<Item = Result<String>> + Send> = match format(source, file)? {
        Format::Txt => {
            if !source.text.is_empty() {
                bail!("{}: `text` names columns, and a .txt file has none", file.display());
            }
            match source.document {
                DocumentUnit::Line => Box::new(Lines::open(source, file)?.map(|line| line.map(|(_, text)| text))),
                DocumentUnit::Paragraph => Box::new(Paragraphs { lines: Lines::open(source, file)? }),
                DocumentUnit::File => Box::new(std::iter::once(whole(source, file))),
            }
        }
        _ => Box::new(texts(source, file)?),
    };
    let documents = texts.filter(|text| !matches!(text, Ok(text) if text.trim().is_empty()));
    let documents = documents.map(|text| Ok(Document { text: text? }));
    Ok(Box::new(documents.take(source.limit.unwrap_or(usize::MAX))))
}

fn texts(source: &Source, file: &Path) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
    let rows = rows(source, file)?;
    let columns = text_columns(source, file, &rows)?;
    Ok(rows.map(move |row| {
        let row = row?;
        let texts = columns.iter().filter_map(|&column| row.fields.get(column)).map(String::as_str);
        // A column without text is no blank line.
        Ok(texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("\n"))
    }))
}

/// Indices of the columns that hold the text.
fn text_columns(source: &Source, file: &Path, rows: &Rows) -> Result<Vec<usize>> {
    let (name, columns) = (file.display(), rows.columns());
    let index = |name: &str| columns.iter().position(|column| column == name);
    let known = || columns.join(", ");
    if !source.text.is_empty() {
        let find = |column: &String| match index(column) {
            Some(index) => Ok(index),
            None => bail!("{name}: there is no column {column:?}; the columns are {}", known()),
        };
        return source.text.iter().map(find).collect();
    }
    if columns.len() == 1 {
        return Ok(vec![0]);
    }
    match TEXT_COLUMNS.iter().find_map(|name| index(name)) {
        Some(index) => Ok(vec![index]),
        None if columns.is_empty() => Ok(Vec::new()),
        None => bail!(Hinted::with(
            format!("{name}: can't tell which column holds the text; the columns are {}", known()),
            "name them with `text: [COLUMN, …]`",
        )),
    }
}

fn whole(source: &Source, file: &Path) -> Result<String> {
    let mut text = String::with_capacity(fs::metadata(file)?.len().try_into().unwrap_or_default());
    Text::open(source, file)?.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Lines up to a blank one. The end of the last of them is the end of the document, and no part of it.
struct Paragraphs {
    lines: Lines,
}

impl Iterator for Paragraphs {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        let mut length = 0;
        while let Some(line) = self.lines.read() {
            match line {
                Ok(line) if !line.text().trim().is_empty() => {
                    length = text.len() + line.text().len();
                    text.push_str(line.whole());
                }
                Ok(_) if text.is_empty() => {}
                Ok(_) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        text.truncate(length);
        if text.is_empty() { None } else { Some(Ok(text)) }
    }
}
