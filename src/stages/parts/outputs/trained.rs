//! Such a model from its artifact, and at work.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{
    measured::{Evaluated, Measured},
    reader::{Reader, outputs, said},
};
use crate::{
    data::text::Tokenizer,
    engine::executor::Job,
    learning::{metrics::HALF, objectives::ColumnLookup},
    network::{
        batch::{Example, Layout},
        device::OpenDevice,
        model::Network,
    },
    spec::{Outputs, Source},
    stages::{
        Base,
        parts::{holding::WeightsHeld, layout, rows::Use, task::TrainedFor},
    },
    support::text_hash,
};

/// A model of such a task loaded from the artifact of a finetune stage.
pub struct TrainedOutputs {
    reader: Reader,
    network: Network,
    threshold: f64,
    layout: Layout,
}

impl TrainedOutputs {
    /// Whether a model's artifact is one of such a task.
    ///
    /// # Errors
    /// A damaged artifact.
    pub fn is_in(dir: &Path) -> Result<bool> {
        Ok(TrainedFor::read(dir)?.outputs.is_some())
    }

    /// Loads it.
    ///
    /// # Errors
    /// If the artifact is another model's, or is damaged.
    pub fn load(dir: &Path, held: WeightsHeld, device: &OpenDevice) -> Result<Self> {
        let TrainedFor { outputs, threshold, max_length, from_checkpoint, .. } = TrainedFor::read(dir)?;
        let task = outputs.context("this model wasn't finetuned to tell several labels, or a number")?;
        let tokenizer = Arc::new(Tokenizer::load(dir)?);
        let network = held.load(dir, &device.device)?;
        let reader = Reader::new(&task, &Base::of(&network, &tokenizer, from_checkpoint), max_length)?;
        let layout = layout(device, max_length, true);
        Ok(Self { reader, network, threshold: threshold.unwrap_or(HALF), layout })
    }

    /// What the outputs are called.
    pub fn names(&self) -> Vec<String> {
        self.reader.task.names()
    }

    /// From which probability on a label is given; none for a number.
    pub fn threshold(&self) -> Option<f64> {
        matches!(self.reader.task, Outputs::MultiLabel(_)).then_some(self.threshold)
    }

    /// The columns that the template uses.
    pub fn columns(&self) -> &[String] {
        self.reader.encoder.columns()
    }

    /// The outputs for rows, each given as a look-up of its columns.
    ///
    /// # Errors
    /// If a row lacks a column.
    pub fn predict(&self, rows: &[&ColumnLookup<'_>]) -> Result<Vec<Vec<f64>>> {
        let encoder = &self.reader.encoder;
        let one = |(id, row): (u64, &&ColumnLookup<'_>)| Ok(encoder.inference(row, id)?.swap_remove(0));
        let examples: Vec<Example> = (0..).zip(rows).map(one).collect::<Result<_>>()?;
        let examples: Vec<&Example> = examples.iter().collect();
        outputs(&self.network, &self.reader.task, &examples, self.layout, &|_, _| Ok(()))
    }

    /// Measures it on rows: the report, its metrics, and the rows with what was said of them.
    pub(in crate::stages) fn eval(
        &self,
        job: &Job<'_>,
        (source, files): (&Source, &[PathBuf]),
        seen: &BTreeSet<u64>,
    ) -> Result<Evaluated> {
        let Reader { task, .. } = &self.reader;
        let rows = self.reader.read(source, files, Use::Judge)?;
        job.has_read()?;
        let said = said(&self.network, task, &rows, self.layout, &|done, all| job.progressed(done, all, "rows"))?;
        let leaked: Vec<bool> = rows.iter().map(|row| seen.contains(&text_hash(&row.text))).collect();
        let all = Measured::of(task, Some(self.threshold), &rows, &said).context("there are no rows to evaluate")?;
        let clean = |leaked: &&bool| !**leaked;
        let kept = rows.iter().zip(&leaked).filter(|(_, leaked)| clean(leaked)).map(|(row, _)| row);
        let kept_said = said.iter().zip(&leaked).filter(|(_, leaked)| clean(leaked)).map(|(said, _)| said);
        let without_leaks = Measured::of(task, Some(self.threshold), kept, kept_said);
        Ok(Evaluated { names: task.names(), threshold: self.threshold(), rows, said, leaked, all, without_leaks })
    }
}
