//! .jsonl and .json: objects, one a line or in an array.
//!
//! Keys are the columns. A row may lack some; what nobody asks for isn't looked at, and numbers keep the digits that they
//! have in the file. Of a key that an object has twice the last value counts, as in Python.

mod array;
mod causes;
mod numbers;

use std::{io::BufRead, path::Path};

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::{Value, value::RawValue};

use self::array::{Elements, Numbered};
use super::row::{Fields, Rows};
use crate::{
    data::{
        decoding::{Text, failed},
        lines::Lines,
    },
    spec::Source,
    support::Hinted,
};

pub(super) use numbers::is_revised;

/// Rows whose keys make up the columns; keys that only later ones have are found where they're asked for.
const HEAD: usize = 100;

/// Opens a file, for the columns of its first rows or for some. Missing keys and nulls are empty fields; lists and objects
/// are JSON in columns that may hold them (`nested`), and where all columns are read.
pub(super) fn open(source: &Source, file: &Path, wanted: Option<&[String]>, nested: &[&str]) -> Result<Rows> {
    let keys = match wanted {
        Some(wanted) => wanted.to_vec(),
        None => columns(source, file, &[])?,
    };
    let takes_all = wanted.is_none();
    let nested: Vec<bool> = keys.iter().map(|key| takes_all || nested.contains(&key.as_str())).collect();
    let (name, columns) = (file.display().to_string(), keys.clone());
    let rows = objects(source, file)?.map(move |object| {
        let (number, text) = object?;
        let object = parsed(&text).map_err(|fault| fault.within(&name, number))?;
        let field = |(key, &nested): (&String, &bool)| match object.get(key) {
            Some(value) => field(value, nested).map_err(|fault| fault.of_key(key).within(&name, number)),
            None => Ok(String::new()),
        };
        Ok::<Fields, anyhow::Error>((number, keys.iter().zip(&nested).map(field).collect::<Result<_>>()?))
    });
    Ok(Rows::new(columns, rows))
}

/// The keys of the first rows, and those of `wanted` that any row has.
///
/// # Errors
/// If the first row can't be read, or one before all that is wanted was found.
pub(super) fn columns(source: &Source, file: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let name = file.display().to_string();
    let mut columns: Vec<String> = Vec::new();
    for (index, object) in objects(source, file)?.enumerate() {
        let is_missing = |columns: &[String]| wanted.iter().any(|key| !columns.contains(key));
        if index >= HEAD && !is_missing(&columns) {
            break;
        }
        let read = object.and_then(|(number, text)| {
            let object = parsed(&text).map_err(|fault| fault.within(&name, number))?;
            Ok(object.into_keys().collect::<Vec<_>>())
        });
        match read {
            Ok(keys) => {
                for key in keys {
                    if !columns.contains(&key) && (index < HEAD || wanted.contains(&key)) {
                        columns.push(key);
                    }
                }
            }
            Err(error) if index == 0 || is_missing(&columns) => return Err(error),
            // It's reported when its row is reached, after the good rows before it.
            Err(_) => break,
        }
    }
    Ok(columns)
}

/// The objects of a file, not looked into.
fn objects(source: &Source, file: &Path) -> Result<Box<dyn Iterator<Item = Result<Numbered>> + Send>> {
    let mut reader = Text::open(source, file)?;
    // Blank lines may be more than a buffer.
    let first = loop {
        let available = reader.fill_buf().map_err(failed)?;
        match available.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(&byte) => break Some(byte),
            None if available.is_empty() => break None,
            None => {
                let length = available.len();
                reader.consume(length);
            }
        }
    };
    if first == Some(b'[') {
        return Ok(Box::new(Elements::new(reader)));
    }
    Ok(Box::new(Lines::open(source, file)?.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty()))))
}

fn parsed(text: &str) -> Result<IndexMap<String, &RawValue>, Hinted> {
    serde_json::from_str(text).map_err(|error| causes::of(text, &error))
}

/// A value as a field.
fn field(value: &RawValue, nested: bool) -> Result<String, Hinted> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_err(|_| causes::of_text()),
        Some(b'n') => Ok(String::new()),
        // Put in order, so that of a key that is there twice the last counts in here, too.
        Some(b'[' | b'{') if nested => match serde_json::from_str::<Value>(text) {
            Ok(value) => Ok(value.to_string()),
            Err(error) if error.is_syntax() => Err(causes::of_text()),
            Err(error) => Err(Hinted::new(format!("can't be read: {error}"), None)),
        },
        Some(b'[' | b'{') => Err(Hinted::new("holds an object or a list; a field is text or a number", None)),
        _ => Ok(text.to_owned()),
    }
}

/// Faults that learn where they are.
trait Placed {
    fn of_key(self, key: &str) -> Hinted;
    fn within(self, file: &str, number: usize) -> anyhow::Error;
}

impl Placed for Hinted {
    fn of_key(self, key: &str) -> Hinted {
        Self { message: format!("{key:?} {}", self.message), ..self }
    }

    fn within(self, file: &str, number: usize) -> anyhow::Error {
        Self { message: format!("{file}: row {number}: {}", self.message), ..self }.into()
    }
}
