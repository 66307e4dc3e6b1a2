//! The kinds of stages: each reads its inputs, puts the parts of the program together, and writes its files.
//!
//! [`kinds`] has one file a kind, and [`kind`] says what a kind is. What they share when they run is in [`parts`], what they
//! check in recipes in [`check`], what is looked at before a run in [`preflight`], and what it will take in [`estimate`].

pub mod bench;
mod catalog;
mod check;
mod devices;
pub mod estimate;
pub mod facts;
mod kind;
mod kinds;
pub mod metrics;
mod not_finite;
mod parts;
mod preflight;
mod training_feed;

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    engine::{
        executor::{Computed, Job, Runner},
        plan::{Graph, Node, Plan},
    },
    network::{device::DeviceChoices, kernels},
    recipe::Checked,
};
use estimate::{Estimator, Machine, Samples};

pub use catalog::catalog;
pub use devices::{DeviceUse, Devices};
pub use facts::{BaseModel, DevRows, Facts, Field, NewHeads, Training, TrainingData};
pub use kind::{AnyKind, Of, StageKind, StageOf};
pub use kinds::KINDS;
pub(crate) use parts::records::write as write_columns;
pub use parts::{
    classifier::{Prediction, Trained},
    conversation::Conversation,
    encoding::{Steps, tokenize},
    generate::{Generated, Show, TextGenerator},
    holding::{ModelRoom, WeightChoice, WeightsHeld},
    measured::Measured,
    outputs::TrainedOutputs,
    step_metrics::step_metrics,
    transformers::TransformersFiles,
};
pub use preflight::{DataCheck, DeviceCheck, Preflight, TakenOver, TakenOverByStages, check_secrets, probe_training};
use training_feed::base::framed;
pub use training_feed::{
    ArtifactOf, Base, Candidate, Choice, Cut, Judged, NotRun, Shown, ShownChoice, ShownTarget, Sources, TokenRange,
    Told, TrainingFeed, Unknown, encoded_files,
};

/// The kind of this name.
///
/// # Errors
/// If there is none.
pub fn kind_named(name: &str) -> Result<&'static dyn AnyKind> {
    KINDS.named(name).with_context(|| format!("there is no kind of stage `{name}`"))
}

/// The kind of a stage.
///
/// # Errors
/// If there is none of this name.
pub fn kind_of(node: &Node) -> Result<&'static dyn AnyKind> {
    kind_named(&node.kind)
}

/// What a stage says of itself before it runs.
///
/// # Errors
/// If its kind is unknown, or has other settings.
pub fn facts_of(node: &Node) -> Result<Facts> {
    kind_of(node)?.facts(&node.settings)
}

/// What the examples of a stage depend on of the model that it begins with, which may not be there yet; `artifact` gives
/// what the store has of a stage of the graph.
///
/// # Errors
/// [`NotRun`] if it can't be known before another stage has run; files that can't be read.
pub fn base_of(graph: &Graph, stage: &str, artifact: ArtifactOf<'_>) -> Result<Base> {
    training_feed::base_of(graph, &facts_of, stage, artifact)
}

/// The stage whose encoded corpora another one is fed from, if it's fed from some.
///
/// # Errors
/// If its kind is unknown, or has other settings.
pub fn corpora_of<'a>(graph: &'a Graph, stage: &str) -> Result<Option<&'a Node>> {
    training_feed::corpora_of(graph, &facts_of, stage)
}

/// Estimates the training stages of a graph for a run on this machine; `plan` tells which of the stages before them have been
/// run.
pub fn estimator<'a>(graph: &'a Graph, plan: &'a Plan, machine: &'a Machine) -> Estimator<'a> {
    Estimator::new(graph, plan, machine, &facts_of)
}

/// Whether stages fit into a machine's memory. What was looked at for one recipe isn't for another.
#[derive(Debug)]
pub struct MemoryCheck {
    machine: Machine,
    samples: Arc<Samples>,
}

impl MemoryCheck {
    /// Of runs on these devices.
    pub fn new(choices: &DeviceChoices) -> Self {
        Self { machine: Machine::new(choices), samples: Arc::default() }
    }

    /// Refuses a run with stages that can't fit. Estimates are within 20 %, so that much is conceded.
    ///
    /// # Errors
    /// All such stages, as [`Diagnostics`](crate::recipe::Diagnostics).
    pub fn check(&self, checked: &Checked, graph: &Graph, plan: &Plan) -> Result<()> {
        let estimator = estimator(graph, plan, &self.machine).with_samples(&self.samples);
        estimate::check(checked, graph, plan, &self.machine, &estimator)
    }
}

/// Runs stages of all kinds on one device, or training ones on several, which are opened when the first stage needs them.
pub struct Stages {
    devices: Devices,
}

impl Stages {
    /// Stages that run on these devices.
    pub fn new(choices: DeviceChoices) -> Self {
        Self { devices: Devices::new(choices) }
    }

    /// Whether a stage computes on the devices rather than beside them.
    pub fn compute_on_devices(&self, node: &Node) -> bool {
        kind_of(node).is_ok_and(|kind| kind.devices() != DeviceUse::None)
    }

    /// The devices.
    pub fn choices(&self) -> &DeviceChoices {
        self.devices.choices()
    }
}

impl Runner for Stages {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        let kind = kind_of(job.node)?;
        not_finite::recovered(job, &self.devices, &|| kind.run(&job.node.settings, job, &self.devices))
    }

    fn device(&self, node: &Node) -> String {
        let used = kind_of(node).map_or(DeviceUse::None, AnyKind::devices);
        self.devices.name(used)
    }

    fn arithmetic(&self) -> String {
        kernels::arithmetic().to_owned()
    }
}
