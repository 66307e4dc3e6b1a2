//! Runs on clusters: what has to run goes to an engine as jobs, what has come of it is seen in the store. There's one file for
//! each engine, and a line in [`ENGINES`].
//!
//! A run is a folder in the store ([`RunFolder`]) with a plan ([`RunPlan`]). Each job computes stages of the plan
//! ([`worker`]), and whoever follows the run ([`Follower`]) submits what can run next and tells what happens. Neither needs the
//! other: jobs find all they need in the store, and a run can be followed by anybody who sees it, at any time.

mod apart;
mod asking;
mod batches;
mod commands;
pub mod doctor;
mod ends;
mod engine;
mod follow;
mod inputs;
mod kubernetes;
mod parts;
mod preview;
pub mod profile;
mod ray;
mod records;
pub mod resources;
mod run_plan;
mod settling;
mod slurm;
mod start;
mod submitting;
pub mod worker;

use crate::support::Registry;

pub use engine::{After, Batch, Cluster, Engine, Job, Refusal, State, Which};
pub use follow::{Follower, LATER, LEFT, Until};
pub(super) use preview::previewed;
pub use preview::{Preview, PreviewedBatch};
pub use records::{BatchRecord, RunFolder};
pub use run_plan::{Output, Results, RunPlan, RunStage};
pub use start::{On, attach};
pub(super) use start::{Start, carry_out};

/// What can run jobs.
pub static ENGINES: Registry<dyn Engine> = Registry::new(&[&slurm::Slurm, &kubernetes::Kubernetes, &ray::Ray]);

/// The engines as profiles know them.
pub fn engines() -> Vec<profile::Known<'static>> {
    ENGINES.all().iter().map(|engine| profile::Known { name: engine.name(), keys: engine.keys() }).collect()
}
