//! Rows of named fields, whatever the format of the file that they come from.

use std::sync::Arc;

use anyhow::Result;

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
    /// Rows to pass over,
    skip: usize,
    /// and those to give after that.
    left: usize,
}

/// A row's number and its fields.
pub(super) type Fields = (usize, Vec<String>);

impl Rows {
    pub(super) fn new(columns: Vec<String>, fields: impl Iterator<Item = Result<Fields>> + Send + 'static) -> Self {
        Self { columns: columns.into(), fields: Box::new(fields), skip: 0, left: usize::MAX }
    }

    /// Begins behind so many rows, and ends after so many others.
    pub(super) fn part(self, skip: usize, limit: usize) -> Self {
        Self { skip, left: limit, ..self }
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
        let mut row = self.fields.next();
        while self.skip > 0 && matches!(row, Some(Ok(_))) {
            self.skip -= 1;
            row = self.fields.next();
        }
        if !matches!(row, Some(Ok(_))) {
            self.left = 0;
        }
        row.map(|row| row.map(|(number, fields)| Row { number, fields, columns: self.columns.clone() }))
    }
}
