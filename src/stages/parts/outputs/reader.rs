//! Rows with what is wanted of a model's outputs, and what it says of them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    data,
    learning::objectives::{Classifier, ColumnLookup},
    network::{
        batch::{Example, Layout},
        model::Network,
    },
    spec::{Outputs, Source},
    stages::{
        Base, Told,
        parts::{
            batches::{OnProgress, in_batches},
            classifier::classifier,
            rows::{self, RowPlace, Use},
            teach,
        },
    },
    support::{Hinted, math},
};

/// Reads rows for such a task, and encodes them.
pub(super) struct Reader {
    pub task: Outputs,
    pub encoder: Classifier,
}

/// A row with what is wanted of the outputs.
pub(super) struct Wanted {
    pub place: RowPlace,
    /// What the template takes from it.
    pub text: String,
    pub wanted: Vec<f32>,
    pub example: Example,
    pub cut: bool,
}

impl Reader {
    pub(super) fn new(task: &Outputs, base: &Base, max_length: usize) -> Result<Self> {
        Ok(Self { task: task.clone(), encoder: classifier(&task.as_classification(), base, max_length)? })
    }

    /// Reads all rows of a source.
    ///
    /// # Errors
    /// Rows that can't be read, or whose column doesn't say what is wanted.
    pub(super) fn read(&self, source: &Source, files: &[PathBuf], purpose: Use) -> Result<Vec<Wanted>> {
        let lists = self.task.lists();
        rows::read_placed(source, files, &self.encoder.used_columns(), &lists, |id, place, row| {
            let lookup = |column: &str| row.get(column).map(str::to_owned);
            let wanted = self.wanted(row)?;
            let prompt = self.encoder.prompt(&lookup)?;
            let mut example = self.encoder.answered_with(&prompt, 0, id);
            example.class = None;
            if purpose == Use::Learn {
                example.wanted.clone_from(&wanted);
            }
            Ok(Wanted { place, text: self.encoder.text(&lookup)?, wanted, example, cut: prompt.cut })
        })
    }

    fn wanted(&self, row: &data::Row) -> Result<Vec<f32>> {
        let (_, column) = self.task.column();
        let field = row.get(column).with_context(|| format!("the data has no column `{column}`"))?;
        self.task.wanted(field).map_err(|(message, hint)| Hinted::with(message, hint).into())
    }

    /// What there is to say of a row.
    pub(super) fn tell(&self, row: &ColumnLookup<'_>) -> Result<Told> {
        let cut = teach::told(&self.encoder, row)?;
        Ok(Told { label: row(self.task.column().1), ..cut })
    }
}

/// What the network says of rows: probabilities of labels, or numbers.
pub(super) fn said(
    network: &Network,
    task: &Outputs,
    rows: &[Wanted],
    layout: Layout,
    on_progress: OnProgress<'_>,
) -> Result<Vec<Vec<f64>>> {
    let examples: Vec<&Example> = rows.iter().map(|row| &row.example).collect();
    outputs(network, task, &examples, layout, on_progress)
}

/// As [`said`], of examples.
pub(super) fn outputs(
    network: &Network,
    task: &Outputs,
    examples: &[&Example],
    layout: Layout,
    on_progress: OnProgress<'_>,
) -> Result<Vec<Vec<f64>>> {
    let mut said = vec![Vec::new(); examples.len()];
    let numbered = examples.iter().copied().enumerate().collect();
    in_batches(numbered, layout, on_progress, |part, batch| {
        for ((row, _), values) in part.iter().zip(network.class_outputs(batch)?) {
            said[*row] = match task {
                Outputs::MultiLabel(_) => values.into_iter().map(|value| 1.0 / (1.0 + math::exp(-value))).collect(),
                Outputs::Regression(_) => values,
            };
        }
        Ok(())
    })?;
    Ok(said)
}
