//! Sweeps: from a recipe's `sweep` section to cells, a plan of their stages, and results.
//!
//! [`Sweep`] runs a sweep. [`Space`] gives the cells; [`Planner`] checks each of them and merges the stages that they
//! share; the executor runs what is distinct, with [`Halving`] in rungs that only the better cells get beyond; [`Results`]
//! puts cells with the same settings and other seeds together and ranks them. Whatever is drawn is drawn from the recipe's
//! seed, so that the same recipe has the same cells, and a sweep that was interrupted resumes where it was.

mod cell;
mod cost;
mod draw;
mod export;
mod halving;
mod measured;
mod planner;
mod results;
mod run;
mod rungs;
mod search;
mod select;
mod space;
mod stored;
mod summary;

pub use cell::Cell;
pub use cost::Cost;
pub use export::{write_csv, write_parquet};
pub use halving::{Halving, Measurements, PendingRung, Promotions, Standing};
pub use measured::measured;
pub use planner::{Mistakes, PlannedCell, Planner};
pub use results::{CellResult, Group, Results, Status};
pub use run::{Outcomes, RungDecision, Sweep, SweepObserver, Swept};
pub use rungs::{PlannedRung, Rungs};
pub use select::Selection;
pub use space::Space;
pub use stored::{Stored, look_back};
pub use summary::Summary;
