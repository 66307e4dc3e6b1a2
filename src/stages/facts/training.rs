//! The models that stages begin with, and how they train them.

use super::Field;
use crate::{
    recipe::DevMetrics,
    spec::{Adapter, DevMetric, Model, Pooling, Source, Task, Train},
};

/// The model that a stage begins with, or that it brings.
#[derive(Clone, Debug)]
pub enum BaseModel {
    /// A new one for the tokenizer of a stage.
    New {
        /// Its family and sizes.
        model: Model,
        /// The field that names the stage with the tokenizer.
        tokens: Field,
    },
    /// That of another stage.
    Stage {
        /// The field that names the stage.
        field: Field,
        /// The stage.
        name: String,
    },
    /// That in a directory.
    Checkpoint {
        /// The field that names the directory.
        field: Field,
        /// The directory, as the recipe has it.
        directory: String,
        /// The field that names another tokenizer than the directory's.
        tokenizer: Field,
        /// Whether its tokenizer is needed.
        needs_tokenizer: bool,
        /// Whether texts are to be spelt in bytes if it has none.
        bytes: bool,
    },
}

/// What a stage trains, and how.
#[derive(Clone, Debug)]
pub struct Training {
    /// Length, batches, optimizer, schedule.
    pub train: Train,
    /// The field of the stage's settings that has these.
    pub settings: Field,
    /// What is trained in place of the model itself.
    pub adapter: Option<Adapter>,
    /// The heads that the stage adds before it trains.
    pub heads: NewHeads,
    /// The largest share of a step's tokens that is predicted over the whole vocabulary.
    pub predicted: f64,
    /// What it learns from.
    pub data: TrainingData,
}

/// The heads that a stage adds to a model before it trains.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NewHeads {
    /// One that classifies pairs of segments.
    pub pair: bool,
    /// One that tells so many labels apart, by what it reads; the family's own where that isn't said.
    pub classifier: Option<(usize, Option<Pooling>)>,
}

/// What a stage learns from.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a recipe has a handful of stages")]
pub enum TrainingData {
    /// The encoded corpora of the stage that this field names.
    Corpora(Field),
    /// Rows.
    Rows {
        /// The training rows.
        source: Source,
        /// The field with their files.
        field: Field,
        /// What is learned from them.
        task: Task,
        /// The rows to measure on.
        dev: DevRows,
    },
}

/// The dev rows beside those that a stage learns from.
#[derive(Clone, Debug)]
pub struct DevRows {
    /// The rows, if there are some.
    pub source: Option<Source>,
    /// The field with their files.
    pub field: Field,
    /// The section that names them.
    pub section: &'static str,
}

impl Training {
    /// [`Training::settings`] of the kinds that come with the program.
    pub const SETTINGS: Field = Field("train");

    /// How it measures itself on dev rows, if stages of its kind can have some.
    pub fn dev_metrics(&self) -> Option<DevMetrics> {
        let TrainingData::Rows { task, dev, .. } = &self.data else { return None };
        let best = self.train.keep_best.clone();
        let early = self.train.early_stopping.as_ref().map(|early| early.metric.clone());
        let usual = match task {
            Task::Classification(_) => DevMetric::ACCURACY,
            Task::Instruction(_) => DevMetric::LOSS,
            Task::MultiLabel(_) => DevMetric::MICRO_F1,
            Task::Regression(_) => DevMetric::PEARSON,
        };
        let preferred = best.or(early).unwrap_or(usual);
        Some(DevMetrics {
            names: task.dev_metrics(),
            preferred,
            has_rows: dev.source.is_some(),
            section: dev.section,
            train: self.train.clone(),
        })
    }
}
