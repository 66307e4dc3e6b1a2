//! Recipes: values, mistakes and their messages.

mod checkpoint_errors;
mod checkpoints;
mod errors;
mod fuzz;
mod models;
mod secrets;
mod text;
mod values;
