//! From YAML text to a checked recipe.

pub mod spec;
