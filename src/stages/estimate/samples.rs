//! How long a stage's rows are, by a look at the first of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Result;
use parking_lot::Mutex;

use crate::{
    data,
    learning::objectives::prompt::Template,
    spec::{MultiLabel, Regression, Source, Task},
};

/// Rows whose lengths are looked at.
const SAMPLE: usize = 2_000;
/// Tokens that a chat format puts around a question.
const CHAT_FRAME: f64 = 12.0;

/// How long the examples are, in tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLengths {
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) rows: u64,
}

/// The lengths that were looked at: those of the same rows, as the same task takes them, once.
#[derive(Debug, Default)]
pub struct Samples(Mutex<BTreeMap<String, Option<RowLengths>>>);

impl Samples {
    /// Of the rows of a stage; none if there are none.
    ///
    /// # Errors
    /// Data that can't be read.
    pub(super) fn lengths(
        &self,
        source: &Source,
        files: &[PathBuf],
        task: &Task,
        longest: usize,
    ) -> Result<Option<RowLengths>> {
        let known = serde_json::to_string(&(source, files, task, longest))?;
        if let Some(lengths) = self.0.lock().get(&known) {
            return Ok(*lengths);
        }
        let lengths = RowLengths::measure(source, files, task, longest)?;
        self.0.lock().insert(known, lengths);
        Ok(lengths)
    }
}

impl RowLengths {
    /// By the characters of the first rows: one token for a Chinese character, and for four others.
    fn measure(source: &Source, files: &[PathBuf], task: &Task, longest: usize) -> Result<Option<Self>> {
        let (columns, lists, own) = match task {
            Task::Classification(task) => {
                let columns = Template::new(&task.template)?.columns().to_vec();
                let word = task.words.values().map(|word| tokens(word)).fold(0.0, f64::max);
                (columns, Vec::new(), tokens(&task.template) + word)
            }
            Task::MultiLabel(MultiLabel { template, .. }) | Task::Regression(Regression { template, .. }) => {
                (Template::new(template)?.columns().to_vec(), Vec::new(), tokens(template))
            }
            Task::Instruction(task) => {
                let columns = task.columns().into_iter().map(|(_, column)| column.to_owned()).collect();
                (columns, task.lists(), CHAT_FRAME)
            }
        };
        let columns: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
        let used: Vec<&str> = columns.iter().copied().collect();
        let mut lengths = Vec::new();
        let mut rows = 0;
        for file in files {
            for row in data::chosen_rows(source, file, &used, &lists)? {
                rows += 1;
                if lengths.len() < SAMPLE {
                    let row = row?;
                    let texts = columns.iter().filter_map(|column| row.get(column));
                    lengths.push((own + texts.map(tokens).sum::<f64>()).min(longest as f64));
                }
            }
        }
        if lengths.is_empty() {
            return Ok(None);
        }
        let count = lengths.len() as f64;
        let mean = lengths.iter().sum::<f64>() / count;
        let variance = lengths.iter().map(|length| (length - mean).powi(2)).sum::<f64>() / count;
        Ok(Some(Self { mean, deviation: variance.sqrt(), rows }))
    }

    /// Tokens of all rows.
    pub(super) fn tokens(&self) -> u64 {
        self.rows.saturating_mul(self.mean as u64 + 1)
    }

    /// Tokens of the largest of many batches of so many examples: three deviations above the mean.
    pub(super) fn most(&self, examples: usize, longest: usize) -> u64 {
        let count = examples as f64;
        (count * self.mean + 3.0 * count.sqrt() * self.deviation).min(count * longest as f64) as u64
    }
}

fn tokens(text: &str) -> f64 {
    text.chars().map(|character| if character.is_ascii() { 0.25 } else { 1.0 }).sum()
}
