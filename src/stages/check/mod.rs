//! Rules that stages with models have in common, between their fields, the stages that they refer to, and their data.
//! They need shapes, families and objectives, and so are the kinds' to check rather than the language's.

mod abilities;
mod model;
mod objectives;
mod rows;
mod training;

pub(super) use abilities::{instructable, readable};
pub(super) use model::{adapter, checkpoint, has_corpus, model, origin};
pub(super) use objectives::{learnable, objectives};
pub(super) use rows::{corpus, evaluated_rows, has_columns, rows};
pub(super) use training::train;
