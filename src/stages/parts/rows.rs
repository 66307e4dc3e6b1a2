//! Rows out of a recipe's files, each made into what a stage needs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use crate::{data, learning::objectives::Classifier, network::batch::Example, spec::Source, stages::Field};

/// The field with the files of training rows.
pub(in crate::stages) const TRAIN: Field = Field("data.train.path");
/// The field with the files of dev rows.
pub(in crate::stages) const DEV: Field = Field("data.dev.path");

/// Makes something of every row of a source's files, in their order, on all cores. `make` is given a number that is
/// the row's own and the row; the columns `nested` may hold lists.
///
/// # Errors
/// Files without rows; and errors of `make`, which are told with file and row.
pub(in crate::stages) fn read<T: Send>(
    source: &Source,
    files: &[PathBuf],
    nested: &[&str],
    make: impl Fn(u64, &data::Row) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    read_placed(source, files, nested, |id, _, row| make(id, row))
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::stages) struct RowPlace {
    /// The number of its file, from 1.
    pub file: u32,
    /// Which of the file's rows it is, from 1; a header is none, nor are lines without anything.
    pub row: u32,
}

/// As [`read`], with the place of each row.
fn read_placed<T: Send>(
    source: &Source,
    files: &[PathBuf],
    nested: &[&str],
    make: impl Fn(u64, RowPlace, &data::Row) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for (number, file) in (1..).zip(files) {
        let reader = data::nested_rows(source, file, nested)?;
        let columns = reader.columns().to_vec();
        for (at, row) in (1..).zip(reader) {
            rows.push((file, RowPlace { file: number, row: at }, row?));
        }
        ensure!(!rows.is_empty(), "{} has no rows; it has the columns {}", file.display(), columns.join(", "));
    }
    let one = |(id, (file, place, row)): (usize, &(&PathBuf, RowPlace, data::Row))| {
        make(id as u64, *place, row).with_context(|| format!("{}: row {}", file.display(), row.number))
    };
    rows.par_iter().enumerate().map(one).collect()
}

/// A row of a data file with its label.
pub(in crate::stages) struct LabelledRow {
    /// Where it stands.
    pub place: RowPlace,
    /// What the template takes from it, by which it's found again elsewhere.
    pub text: String,
    /// Its label, as an index.
    pub label: usize,
    /// What the model sees of it.
    pub examples: Vec<Example>,
    /// Whether it sees less than there is, as that's too long.
    pub cut: bool,
}

/// What the examples of a row are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::stages) enum Use {
    /// One example with its gold label.
    Learn,
    /// As many as it takes to score every label.
    Judge,
}

/// Reads all labelled rows of a source.
///
/// # Errors
/// As [`read`].
pub(in crate::stages) fn labelled(
    source: &Source,
    files: &[PathBuf],
    classifier: &Classifier,
    purpose: Use,
) -> Result<Vec<LabelledRow>> {
    read_placed(source, files, &[], |id, place, row| {
        let lookup = |column: &str| row.get(column).map(str::to_owned);
        let label = classifier.label(&lookup)?;
        let prompt = classifier.prompt(&lookup)?;
        let examples = match purpose {
            Use::Learn => vec![classifier.answered_with(&prompt, label, id)],
            Use::Judge => classifier.asked(&prompt, id),
        };
        Ok(LabelledRow { place, text: classifier.text(&lookup)?, label, examples, cut: prompt.cut })
    })
}
