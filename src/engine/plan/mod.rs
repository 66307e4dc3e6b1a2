//! From a graph of stages to a plan: what would run, under which key, and why.

mod diagram;
mod graph;
mod node;
mod planned;
mod resolver;
mod resume;
mod sweep;
mod why;

pub use diagram::mermaid;
pub use graph::Graph;
pub use node::{FileDigests, Length, Node, Reached, Trunk, Upstream};
pub use planned::{Key, Plan, Planned, Reason, Status};
pub use resolver::Resolver;
pub(crate) use resolver::Seen;
pub use resume::reached;
pub use sweep::SweepPlan;
pub use why::{Difference, differences, differences_of_runs, nearest};
