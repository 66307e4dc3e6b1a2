//! From a checked recipe to a graph of stages with their keys: what would run, and why.

mod diagram;
mod graph;
mod status;
mod sweep;
mod trunk;
mod why;

pub use diagram::mermaid;
pub use graph::{Graph, Node, Upstream};
pub use status::{Planned, Status, fetched, plan};
pub use sweep::SweepPlan;
pub use trunk::{continues_from, reached, trunk};
pub use why::{Difference, differences, differences_of_runs, nearest};
