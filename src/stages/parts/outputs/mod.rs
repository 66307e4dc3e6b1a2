//! Models whose answers are the outputs of a linear head, each by itself: several labels of a row, or a number.

mod measured;
mod reader;
mod trained;
mod training;

pub(in crate::stages) use measured::recorded;
pub use trained::TrainedOutputs;
pub(in crate::stages) use training::{OutputFeed, answers, finetune};
