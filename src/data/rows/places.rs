//! Columns that are asked for, among those of a file.

use std::path::Path;

use anyhow::Result;

use crate::support::{Hinted, suggest};

/// Where columns are among those of a file.
pub(super) fn places(file: &Path, columns: &[String], wanted: &[String]) -> Result<Vec<usize>> {
    let place = |name: &String| match columns.iter().position(|column| column == name) {
        Some(place) => Ok(place),
        None => {
            let known = columns.join(", ");
            let message = format!("{}: there is no column {name:?}; the columns are {known}", file.display());
            let near = suggest::nearest(name, columns.iter().map(String::as_str));
            let near = near.map(|near| format!("did you mean `{near}`?"));
            Err(Hinted::new(message, near.or_else(|| other_delimiter(columns))).into())
        }
    };
    wanted.iter().map(place).collect()
}

/// A hint for a column that isn't there, where the only one there is holds another delimiter.
fn other_delimiter(columns: &[String]) -> Option<String> {
    let [only] = columns else { return None };
    let delimiter = [';', '\t', '|', ','].into_iter().find(|delimiter| only.contains(*delimiter))?;
    Some(format!("if fields stand between other characters, set `delimiter: \"{}\"`", delimiter.escape_default()))
}
