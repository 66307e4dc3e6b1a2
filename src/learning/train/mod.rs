//! The training loop: schedules, optimizers, curves, evaluation along the way, states to resume from, several devices.

mod accumulated;
mod arithmetic;
mod checkpoints;
mod clock;
mod curve;
mod evaluation;
mod gradients;
mod loss_scale;
mod micro_batches;
mod observer;
mod optimizer;
pub mod optimizers;
mod reduction;
mod replicas;
mod schedule;
mod settings;
mod state;
mod trainer;

pub use checkpoints::{Cadence, Checkpoints};
pub use curve::{Curve, Entry, Point};
pub use evaluation::{Evaluation, Metrics};
pub use observer::{Observer, Progress, Silent};
pub use optimizers::OPTIMIZERS;
pub use schedule::Schedule;
pub use settings::{Outcome, Settings};
pub use trainer::Trainer;
