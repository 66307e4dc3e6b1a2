//! What is looked at before anything runs: one list of checks over what a plan has to compute. What the store has already
//! needs none of them, whatever device it was computed on.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    engine::plan::{Graph, Plan},
    network::device::DeviceChoices,
    recipe::Checked,
    stages::{DataCheck, DeviceCheck, MemoryCheck, check_secrets},
};

/// A recipe that is about to run.
#[derive(Clone, Copy)]
pub struct Upcoming<'a> {
    /// The recipe.
    pub checked: &'a Checked,
    /// Its graph.
    pub graph: &'a Graph,
    /// What will be done with each of its stages.
    pub plan: &'a Plan,
}

/// Finds mistakes that a recipe's text alone doesn't show.
pub trait Check {
    /// Looks at what is missing in a plan. What was looked at in another plan before (of a sweep's other cells) needn't be
    /// looked at again.
    ///
    /// # Errors
    /// All mistakes of one kind.
    fn check(&mut self, upcoming: Upcoming<'_>) -> Result<()>;
}

impl<F: FnMut(Upcoming<'_>) -> Result<()>> Check for F {
    fn check(&mut self, upcoming: Upcoming<'_>) -> Result<()> {
        self(upcoming)
    }
}

/// Checks, in their order.
#[derive(Default)]
pub struct Checks {
    list: Vec<Box<dyn Check>>,
}

impl Checks {
    /// What can be checked without a device: secrets that would be recorded, labels without words, checkpoints that can't
    /// be read.
    pub fn of_data() -> Self {
        Self::of_data_telling(DataCheck::default())
    }

    pub(super) fn of_data_telling(mut data: DataCheck) -> Self {
        Self::default()
            .with(|upcoming: Upcoming<'_>| check_secrets(upcoming.checked))
            .with(move |upcoming: Upcoming<'_>| data.check(upcoming.checked, upcoming.plan.missing()))
    }

    /// Of whether these devices can do what is asked of them. `notify` is told what their backends are kept from for that.
    pub fn of_devices(choices: &DeviceChoices, notify: &Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        let mut devices = DeviceCheck::telling(choices, notify);
        Self::default()
            .with(move |upcoming: Upcoming<'_>| devices.check(upcoming.checked, upcoming.graph, upcoming.plan))
    }

    /// All of them, for a run on these devices; of whether their memory will do only if `fits`. `notify` is told what the data
    /// can be learned from and hardly should.
    pub fn all(choices: &DeviceChoices, fits: bool, notify: &Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        let mut checks = Self::of_devices(choices, notify);
        checks.list.extend(Self::of_data_telling(DataCheck::telling(Arc::clone(notify))).list);
        if !fits {
            return checks;
        }
        let memory = MemoryCheck::new(choices);
        checks.with(move |upcoming: Upcoming<'_>| memory.check(upcoming.checked, upcoming.graph, upcoming.plan))
    }

    /// One more.
    pub fn with(mut self, check: impl Check + 'static) -> Self {
        self.list.push(Box::new(check));
        self
    }
}

impl Check for Checks {
    fn check(&mut self, upcoming: Upcoming<'_>) -> Result<()> {
        self.list.iter_mut().try_for_each(|check| check.check(upcoming))
    }
}
