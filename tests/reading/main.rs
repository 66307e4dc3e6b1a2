//! What is read: recipes, and the data that they name.

#[path = "../common/mod.rs"]
mod common;

mod data;
mod recipe;
