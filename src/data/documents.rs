//! Documents, split into sentences, out of running text or out of rows.

use std::path::Path;

use anyhow::{Result, bail};
use fs_err as fs;

use super::lines::Lines;
use super::rows::{check_rows, chosen_rows, columns, format};
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
                DocumentUnit::Line => Box::new(Lines::open(file)?.map(|line| line.map(|(_, text)| text))),
                DocumentUnit::Paragraph => Box::new(Paragraphs { lines: Lines::open(file)? }),
                DocumentUnit::File => Box::new(std::iter::once(whole(file)?).map(Ok)),
            }
        }
        _ => Box::new(texts(source, file)?),
    };
    let documents = texts.map(|text| text.map(|text| Document::new(&text)));
    let documents = documents.filter(|document| !matches!(document, Ok(document) if document.sentences.is_empty()));
    Ok(Box::new(documents.take(source.limit.unwrap_or(usize::MAX))))
}

/// Looks at what of a file can be looked at without reading all of it, as [`check_rows`].
///
/// # Errors
/// As [`documents`], as far as it's read.
pub fn check_documents(source: &Source, file: &Path) -> Result<()> {
    if format(source, file)? == Format::Txt {
        return documents(source, file)?.next().transpose().map(drop);
    }
    let columns = text_columns(source, file)?;
    check_rows(source, file, &columns.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

fn texts(source: &Source, file: &Path) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
    let columns = text_columns(source, file)?;
    let rows = chosen_rows(source, file, &columns.iter().map(String::as_str).collect::<Vec<_>>(), &[])?;
    Ok(rows.map(move |row| {
        let row = row?;
        let texts = columns.iter().filter_map(|column| row.get(column));
        Ok(texts.collect::<Vec<_>>().join("\n"))
    }))
}

/// The columns that hold the text.
fn text_columns(source: &Source, file: &Path) -> Result<Vec<String>> {
    if !source.text.is_empty() {
        return Ok(source.text.clone());
    }
    let (name, columns) = (file.display(), columns(source, &[file.to_owned()], &[])?);
    let known = TEXT_COLUMNS.iter().find(|known| columns.iter().any(|column| column == *known));
    match (&columns[..], known) {
        ([], _) => Ok(Vec::new()),
        ([only], _) => Ok(vec![only.clone()]),
        (_, Some(known)) => Ok(vec![(*known).to_owned()]),
        (_, None) => bail!(Hinted::with(
            format!("{name}: can't tell which column holds the text; the columns are {}", columns.join(", ")),
            "name them with `text: [COLUMN, …]`",
        )),
    }
}

fn whole(file: &Path) -> Result<String> {
    let mut text = String::with_capacity(fs::metadata(file)?.len().try_into().unwrap_or_default());
    for line in Lines::open(file)? {
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
