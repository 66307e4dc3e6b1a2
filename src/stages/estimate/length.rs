//! How many steps a stage that learns from rows will take, by their number alone.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;

use crate::{
    data,
    engine::plan::Node,
    network::batch::BatchSampler,
    spec::{Batch, Source, Task},
    stages::facts::{Facts, Training, TrainingData},
    support::random::Key,
};

/// Counts rows, those of the same files once.
#[derive(Debug, Default)]
pub struct Lengths {
    rows: BTreeMap<String, usize>,
}

impl Lengths {
    /// The steps of a stage that learns from rows, and those between two measurements on its dev rows. `None` where that depends on the
    /// lengths of texts, and for other stages. Rows of instructions that will be left out are counted.
    ///
    /// # Errors
    /// Data that can't be read.
    pub fn of(&mut self, node: &Node, facts: &Facts) -> Result<Option<(usize, usize)>> {
        let Some(Training { train, data: TrainingData::Rows { source, field, task, .. }, .. }) = &facts.training else {
            return Ok(None);
        };
        if let (Some(steps), Some(every)) = (train.steps, train.evaluate_every) {
            return Ok(Some((steps, every)));
        }
        if matches!(train.batch, Batch::Tokens(_)) {
            return Ok(None);
        }
        let files = node.files.get(field.0).map(Vec::as_slice).unwrap_or_default();
        let rows = self.rows(source, files, task)?;
        let schedule = BatchSampler::new(vec![1; rows], train.into(), Key::new(0));
        let steps = train.steps.or(train.epochs.map(|epochs| schedule.steps(epochs)));
        Ok(steps.map(|steps| (steps, train.evaluate_every.unwrap_or(schedule.epoch_steps(0)))))
    }

    fn rows(&mut self, source: &Source, files: &[PathBuf], task: &Task) -> Result<usize> {
        let known = serde_json::to_string(&(source, files))?;
        if let Some(rows) = self.rows.get(&known) {
            return Ok(*rows);
        }
        let (columns, lists) = match task {
            Task::Classification(task) => (vec![task.label.as_str()], Vec::new()),
            Task::MultiLabel(task) => (vec![task.label.as_str()], vec![task.label.as_str()]),
            Task::Regression(task) => (vec![task.target.as_str()], Vec::new()),
            Task::Instruction(task) => (task.used_columns(), task.lists()),
        };
        let mut rows = 0;
        for file in files {
            for row in data::chosen_rows(source, file, &columns, &lists)? {
                row?;
                rows += 1;
            }
        }
        self.rows.insert(known, rows);
        Ok(rows)
    }
}
