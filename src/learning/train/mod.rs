//! The training loop: learning rate schedules, optimizers, micro-batches, evaluation, states to resume from, several devices.
//!
//! Read [`Trainer`] first: it takes [`Step`](crate::network::batch::Step)s from a feed, computes their gradients
//! (`micro_batches.rs`, on several devices with `replicas.rs` and `reduction.rs`), updates the parameters (`optimizer.rs`), and
//! reports to an [`Observer`]. To add an optimizer, see [`optimizers`].

mod accumulated;
mod arithmetic;
mod average;
mod checkpoints;
mod clock;
mod curve;
mod diverged;
mod divisors;
mod evaluation;
mod gradients;
mod loss_scale;
mod micro_batches;
mod observer;
mod optimizer;
pub mod optimizers;
mod pending;
mod progress;
mod reduction;
mod replicas;
mod rows;
mod schedule;
mod settings;
mod state;
mod trainer;

pub use checkpoints::{Cadence, Checkpoints};
pub use curve::{Curve, CurveEntry, Point};
pub use diverged::Diverged;
pub use divisors::{Divisors, LossWeights};
pub use evaluation::{Evaluation, Metrics};
pub use observer::{Observer, Progress, Silent};
pub use optimizers::OPTIMIZERS;
pub use schedule::LrSchedule;
pub use settings::{Outcome, TrainSettings};
pub use trainer::Trainer;
