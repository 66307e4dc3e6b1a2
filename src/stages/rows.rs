//! Labelled rows out of a recipe's files.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use crate::{batch::Example, data, objectives::Classifier, recipe::spec::Source};

/// A row of a data file.
pub(super) struct LabelledRow {
    /// The row within its file, from 1.
    pub number: u32,
    /// What the template takes from it, by which it's found again elsewhere.
    pub text: String,
    /// Its label, as an index.
    pub label: usize,
    /// What the model sees of it.
    pub examples: Vec<Example>,
}

/// What the examples of a row are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    /// One example with its gold label.
    Learn,
    /// As many as it takes to score every label.
    Judge,
}

/// Reads all rows of a source. Errors name the file and the row.
pub(super) fn read(
    source: &Source,
    files: &[PathBuf],
    classifier: &Classifier,
    purpose: Use,
) -> Result<Vec<LabelledRow>> {
    let mut rows = Vec::new();
    for file in files {
        let reader = data::rows(source, file)?;
        let columns = reader.columns().to_vec();
        for row in reader {
            rows.push((file, row?));
        }
        ensure!(!rows.is_empty(), "{} has no rows; it has the columns {}", file.display(), columns.join(", "));
    }
    let one = |(id, (file, row)): (usize, &(&PathBuf, data::Row))| -> Result<LabelledRow> {
        let lookup = |column: &str| row.get(column).map(str::to_owned);
        let read = || -> Result<LabelledRow> {
            let label = classifier.label(&lookup)?;
            let examples = match purpose {
                Use::Learn => vec![classifier.example(&lookup, label, id as u64)?],
                Use::Judge => classifier.inference(&lookup, id as u64)?,
            };
            Ok(LabelledRow { number: row.number as u32, text: classifier.text(&lookup)?, label, examples })
        };
        read().with_context(|| format!("{}: row {}", file.display(), row.number))
    };
    rows.par_iter().enumerate().map(one).collect()
}
