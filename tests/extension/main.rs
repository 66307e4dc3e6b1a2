//! What other programs may add to `pipe` without an edit in `src/`.

#[path = "../common/mod.rs"]
mod common;

mod objectives;
