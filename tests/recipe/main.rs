//! Recipes: values, mistakes and their messages.

#[path = "../common/mod.rs"]
mod common;

mod checkpoint_errors;
mod checkpoints;
mod errors;
mod fuzz;
mod models;
mod values;
