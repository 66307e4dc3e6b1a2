//! Ways to launch a stage. A stage that is to be computed is one value, [`StageJob`], which any process that reaches the
//! store can be given; the process that computes it commits the artifact.

mod fitting;
mod launcher;
mod local;
mod process;
mod wire;

use crate::support::Registry;

pub use launcher::{FITTING, Launcher, Setup, StageJob};
pub use process::compute;
pub(super) use process::devices;
pub(super) use wire::{End, Message, Report};

/// The ways there are.
pub static LAUNCHERS: Registry<dyn Launcher> =
    Registry::new(&[&fitting::Fitting, &local::InThisProcess, &process::InAChild]);
