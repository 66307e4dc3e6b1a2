//! A recipe loaded, planned, run and followed; searches over many of them. What the command line does, a program can do
//! by this: `examples/embed.rs` shows how.

pub mod base;
mod checks;
pub mod cluster;
pub mod expectations;
mod feed;
mod git;
mod graph;
pub mod launch;
pub mod log;
mod notify;
mod open;
mod reading;
mod recipe;
mod supplements;
pub mod sweep;

pub use checks::{Check, Checks, Upcoming};
pub use graph::graph;
use graph::graph_of_cell;
pub use launch::{LAUNCHERS, Launcher, StageJob};
pub use notify::Notify;
pub use open::{Options, Prepared, Session, Wanted};
pub use recipe::Recipe;
