//! How many steps a finetune stage will take, by its rows alone.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    data,
    engine::plan::Node,
    network::batch::Schedule,
    spec::{Batch, Finetune, Stage, Task},
    support::random::Key,
};

/// Counts rows, those of the same files once.
#[derive(Debug, Default)]
pub struct Lengths {
    rows: BTreeMap<String, usize>,
}

impl Lengths {
    /// The steps of a finetune stage, and those between two measurements on its dev rows. `None` where that depends on the
    /// lengths of texts, and for other stages. Rows of instructions that will be left out are counted.
    ///
    /// # Errors
    /// Data that can't be read.
    pub fn of(&mut self, node: &Node) -> Result<Option<(usize, usize)>> {
        let Stage::Finetune(spec) = &crate::stages::of(node)? else { return Ok(None) };
        let train = &spec.train;
        if let (Some(steps), Some(every)) = (train.steps, train.evaluate_every) {
            return Ok(Some((steps, every)));
        }
        if matches!(train.batch, Batch::Tokens(_)) {
            return Ok(None);
        }
        let rows = self.rows(spec, node)?;
        let schedule = Schedule::new(vec![1; rows], train.into(), Key::new(0));
        let steps = train.steps.or(train.epochs.map(|epochs| schedule.steps(epochs)));
        Ok(steps.map(|steps| (steps, train.evaluate_every.unwrap_or(schedule.epoch_steps(0)))))
    }

    fn rows(&mut self, spec: &Finetune, node: &Node) -> Result<usize> {
        let files = node.files.get("data.train.path").map(Vec::as_slice).unwrap_or_default();
        let source = serde_json::to_string(&(&spec.data.train, files))?;
        if let Some(rows) = self.rows.get(&source) {
            return Ok(*rows);
        }
        let lists = match &spec.task {
            Task::Classification(_) => Vec::new(),
            Task::Instruction(task) => task.lists(),
        };
        let mut rows = 0;
        for file in files {
            for row in data::nested_rows(&spec.data.train, file, &lists)? {
                row?;
                rows += 1;
            }
        }
        self.rows.insert(source, rows);
        Ok(rows)
    }
}
