//! Rows out of a recipe's files, each made into what a stage needs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::{
    data,
    learning::objectives::{Classifier, ColumnLookup},
    network::batch::{Example, MadeOf},
    spec::Source,
    stages::{Field, Sources, Told, Unknown},
};

/// The field with the files of training rows.
pub(in crate::stages) const TRAIN: Field = Field("data.train.path");
/// The field with the files of dev rows.
pub(in crate::stages) const DEV: Field = Field("data.dev.path");

/// Makes something of every row of a source's files, in their order, on all cores. `make` is given a number that is
/// the row's own and the row, with these columns; those in `nested` may hold lists.
///
/// # Errors
/// Files without rows; and errors of `make`, which are told with file and row.
pub(in crate::stages) fn read<T: Send>(
    source: &Source,
    files: &[PathBuf],
    columns: &[&str],
    nested: &[&str],
    make: impl Fn(u64, &data::Row) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    read_placed(source, files, columns, nested, |id, _, row| make(id, row))
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
pub(in crate::stages) fn read_placed<T: Send>(
    source: &Source,
    files: &[PathBuf],
    columns: &[&str],
    nested: &[&str],
    make: impl Fn(u64, RowPlace, &data::Row) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for (number, file) in (1..).zip(files) {
        let first = 1 + source.skip.unwrap_or(0) as u32;
        for (at, row) in (first..).zip(data::chosen_rows(source, file, columns, nested)?) {
            rows.push((file, RowPlace { file: number, row: at }, row?));
        }
        if rows.is_empty() {
            let columns = data::columns(source, std::slice::from_ref(file), &[])?.join(", ");
            bail!("{} has no rows; it has the columns {columns}", file.display());
        }
    }
    let one = |(id, (file, place, row)): (usize, &(&PathBuf, RowPlace, data::Row))| {
        make(id as u64, *place, row).with_context(|| format!("{}: row {}", file.display(), row.number))
    };
    rows.par_iter().enumerate().map(one).collect()
}

/// A row with the file that it stands in.
struct FoundRow {
    /// Its number among all rows, from 0: what [`read`] gives to `make`.
    id: u64,
    file: PathBuf,
    row: data::Row,
}

/// The training rows of a stage, for telling what its examples are made of.
pub(in crate::stages) struct TrainingRows {
    source: Source,
    files: Vec<PathBuf>,
    columns: Vec<String>,
    nested: Vec<String>,
    /// Tells what there is to say of a row, but for where it stands.
    tell: TellRow,
}

/// Tells what there is to say of a part of a row.
type TellRow = Box<dyn Fn(&ColumnLookup<'_>, u64) -> Result<Told> + Send + Sync>;

impl TrainingRows {
    pub(in crate::stages) fn new(
        source: &Source,
        files: &[PathBuf],
        [columns, nested]: [&[&str]; 2],
        tell: TellRow,
    ) -> Self {
        let owned = |columns: &[&str]| columns.iter().map(|&column| column.to_owned()).collect();
        Self { source: source.clone(), files: files.to_vec(), columns: owned(columns), nested: owned(nested), tell }
    }

    /// Finds rows again by their numbers and what they hold; `last` is the highest number that is looked at.
    fn find(&self, last: u64, wanted: impl Fn(u64, &data::Row) -> bool) -> Result<Vec<FoundRow>> {
        let [columns, nested] =
            [&self.columns, &self.nested].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
        let mut found = Vec::new();
        let mut id = 0;
        for file in &self.files {
            for row in data::chosen_rows(&self.source, file, &columns, &nested)? {
                let row = row?;
                if wanted(id, &row) {
                    found.push(FoundRow { id, file: file.clone(), row });
                }
                if id == last {
                    return Ok(found);
                }
                id += 1;
            }
        }
        Ok(found)
    }
}

impl Sources for TrainingRows {
    fn tell(&self, made_of: &[MadeOf]) -> Result<Vec<Told>> {
        let wanted: HashSet<u64> = made_of.iter().filter_map(MadeOf::number).collect();
        let Some(&last) = wanted.iter().max() else { return Unknown.tell(made_of) };
        let found = self.find(last, |id, _| wanted.contains(&id))?;
        let found: HashMap<u64, FoundRow> = found.into_iter().map(|found| (found.id, found)).collect();
        let tell = |made_of: &MadeOf| {
            let MadeOf::Row { row, part } = made_of else { return Ok(Told::default()) };
            let Some(FoundRow { file, row, .. }) = found.get(row) else { return Ok(Told::default()) };
            let lookup = |column: &str| row.get(column).map(str::to_owned);
            let said =
                (self.tell)(&lookup, *part).with_context(|| format!("{}: row {}", file.display(), row.number))?;
            Ok(Told { file: Some(file.clone()), row: Some(row.number), ..said })
        };
        made_of.iter().map(tell).collect()
    }

    fn at(&self, place: usize) -> Result<BTreeSet<u64>> {
        Ok(self.find(u64::MAX, |_, row| row.number == place)?.into_iter().map(|found| found.id).collect())
    }
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
    read_placed(source, files, &classifier.used_columns(), &[], |id, place, row| {
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
