//! Documents, split into sentences, out of running text or out of rows.

use std::path::Path;

use anyhow::{Result, bail};
use fs_err as fs;

use super::lines::Lines;
use super::rows::{Rows, format, rows};
use crate::data::text::sentences;
use crate::spec::{DocumentUnit, Format, Source};
use crate::support::{Hinted, text_hash};

/// One document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// Its sentences, none of them empty; put together they are the text without its line breaks.
    pub sentences: Vec<String>,
}

impl Document {
    fn new(text: &str) -> Self {
        Self { sentences: sentences(text) }
    }

    /// The text without its line breaks.
    pub fn text(&self) -> String {
        self.sentences.concat()
    }

    /// [`text_hash`] of the text.
    pub fn hash(&self) -> u64 {
        text_hash(&self.text())
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
                DocumentUnit::File => Box::new(std::iter::once(whole(source, file)?).map(Ok)),
            }
        }
        _ => Box::new(texts(source, file)?),
    };
    let documents = texts.map(|text| text.map(|text| Document::new(&text)));
    let documents = documents.filter(|document| !matches!(document, Ok(document) if document.sentences.is_empty()));
    Ok(Box::new(documents.take(source.limit.unwrap_or(usize::MAX))))
}

fn texts(source: &Source, file: &Path) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
    let rows = rows(source, file)?;
    let columns = text_columns(source, file, &rows)?;
    Ok(rows.map(move |row| {
        let row = row?;
        let texts = columns.iter().filter_map(|&column| row.fields.get(column));
        Ok(texts.map(String::as_str).collect::<Vec<_>>().join("\n"))
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
    for line in Lines::open(source, file)? {
        text.push_str(&line?.1);
        text.push('\n');
    }
    Ok(text)
}

/// Lines up to a blank one, with line breaks between them.
struct Paragraphs {
    lines: Lines,
}

impl Iterator for Paragraphs {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        for line in self.lines.by_ref() {
            match line {
                Ok((_, line)) if !line.trim().is_empty() => {
                    text.push_str(&line);
                    text.push('\n');
                }
                Ok(_) if text.is_empty() => {}
                Ok(_) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        if text.is_empty() { None } else { Some(Ok(text)) }
    }
}
