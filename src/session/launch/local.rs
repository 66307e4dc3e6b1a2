//! Stages computed in this process, which keeps its devices open from one to the next.

use super::launcher::{Launcher, Setup};
use crate::{
    engine::executor::{Launch, Local},
    support::Named,
};

/// In the process that runs the recipe.
pub(super) struct InThisProcess;

impl Named for InThisProcess {
    fn name(&self) -> &'static str {
        "local"
    }
}

impl Launcher for InThisProcess {
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a> {
        Box::new(Local::new(setup.store, setup.stages))
    }
}
