//! Training and evaluation: objectives, the training loop, text generation and metrics.
//!
//! * [`objectives`] turn documents, rows and conversations into training examples. Add a pretraining objective with a file
//!   there and a line in [`OBJECTIVES`](objectives::OBJECTIVES).
//! * [`train`] is the training loop with its optimizers. Add an optimizer with a file in `train/optimizers` and a line in
//!   [`OPTIMIZERS`](train::OPTIMIZERS).
//! * [`generation`] samples text token by token.
//! * [`linear`] classifiers over n-grams are what networks have to beat.
//! * [`metrics`] measure predictions.
//!
//! Read [`objectives::definition`] first, then [`train::Trainer::run`]. Batches, models and kernels are in
//! [`network`](crate::network); which files a stage reads and writes is decided in [`stages`](crate::stages).

pub mod generation;
pub mod linear;
pub mod metrics;
pub mod objectives;
pub mod train;
