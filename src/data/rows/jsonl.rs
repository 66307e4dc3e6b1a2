//! .jsonl: a JSON object a line.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use indexmap::IndexMap;
use serde_json::Value;

use super::row::{Fields, Rows};
use crate::data::lines::Lines;
use crate::spec::Source;

/// Lines whose keys make up the columns: later lines may leave keys out, and keys that only they have are not read.
const HEAD: usize = 100;

/// Missing keys and nulls are empty fields; numbers and booleans become text, and so do the lists and objects of the
/// columns named, as JSON.
pub(super) fn open(source: &Source, file: &Path, nested: &[&str]) -> Result<Rows> {
    let nested: Vec<String> = nested.iter().map(|&column| column.to_owned()).collect();
    let name = file.display().to_string();
    let mut columns: Vec<String> = Vec::new();
    for object in objects(name.clone(), Lines::open(source, file)?).take(HEAD) {
        // An error here is reported when its row is reached, after the good rows before it.
        let Ok((_, object)) = object else { break };
        columns.extend(object.into_iter().map(|(key, _)| key).filter(|key| !columns.contains(key)).collect::<Vec<_>>());
    }
    let keys = columns.clone();
    let rows = objects(name.clone(), Lines::open(source, file)?).map(move |object| {
        let (number, mut object) = object?;
        let fields = keys.iter().map(|key| match object.swap_remove(key) {
            Some(value @ (Value::Array(_) | Value::Object(_))) if nested.contains(key) => Ok(value.to_string()),
            Some(value) => scalar(value).ok_or_else(|| {
                anyhow!("{name}: row {number}: {key:?} holds an object or a list; a field is text or a number")
            }),
            None => Ok(String::new()),
        });
        Ok::<Fields, anyhow::Error>((number, fields.collect::<Result<_>>()?))
    });
    Ok(Rows::new(columns, rows))
}

fn objects(name: String, lines: Lines) -> impl Iterator<Item = Result<(usize, IndexMap<String, Value>)>> {
    lines.filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty())).map(move |line| {
        let (number, line) = line?;
        match serde_json::from_str(&line) {
            Ok(object) => Ok((number, object)),
            Err(error) if error.is_data() => bail!("{name}: row {number}: not a JSON object"),
            Err(error) => bail!("{name}: row {number}: not valid JSON at column {}: {error}", error.column()),
        }
    })
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
