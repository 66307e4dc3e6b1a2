//! Documents out of running text or out of rows: each is a text as it stands in its file.

use std::io::Read;
use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Result, bail};
use fs_err as fs;

use super::decoding::{Text, failed};
use super::lines::Lines;
use super::rows::{check_rows, chosen_rows, columns, format};
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
    counted_documents(source, file, Arc::default())
}

/// As [`documents`]; the rows of a table that were read so far are counted, those without text, too.
///
/// # Errors
/// As [`documents`].
pub fn counted_documents(source: &Source, file: &Path, read: Arc<AtomicU64>) -> Result<Documents> {
    let format = format(source, file)?;
    let texts: Box<dyn Iterator<Item = Result<String>> + Send> = match format {
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
        _ => Box::new(texts(source, file)?.inspect(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
        })),
    };
    let documents = texts.filter(|text| !matches!(text, Ok(text) if text.trim().is_empty()));
    let documents = documents.map(|text| Ok(Document { text: text? }));
    // Rows of a table were passed over as such.
    let skip = source.skip.filter(|_| format == Format::Txt).unwrap_or(0);
    Ok(Box::new(documents.skip(skip).take(source.limit.unwrap_or(usize::MAX))))
}

/// Looks at what of a file can be looked at without reading all of it, as [`check_rows`].
///
/// # Errors
/// As [`documents`], as far as it's read.
pub fn check_documents(source: &Source, file: &Path) -> Result<()> {
    if format(source, file)? == Format::Txt {
        return documents(source, file).map(drop);
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
        // A column without text is no blank line.
        Ok(texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("\n"))
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
