//! The way that fits a stage: a process of its own for one that a GPU computes, whose driver may end that process or never
//! answer, and this process for any other.

use std::sync::OnceLock;

use anyhow::Result;

use super::{
    launcher::{FITTING, Launcher, Setup},
    local::InThisProcess,
    process::InAChild,
};
use crate::{
    engine::executor::{Done, Launch, Task, Watch},
    support::{Named, program},
};

/// The default way to compute stages.
pub(super) struct Fitting;

impl Named for Fitting {
    fn name(&self) -> &'static str {
        FITTING
    }
}

impl Launcher for Fitting {
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a> {
        Box::new(Either {
            here: InThisProcess.prepare(setup),
            apart: InAChild.prepare(setup),
            setup,
            with_gpu: OnceLock::new(),
        })
    }
}

struct Either<'a> {
    here: Box<dyn Launch + 'a>,
    apart: Box<dyn Launch + 'a>,
    setup: Setup<'a>,
    with_gpu: OnceLock<bool>,
}

impl Launch for Either<'_> {
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done> {
        let stages = self.setup.stages;
        let apart = stages.compute_on_devices(&task.node)
            && program::path().is_ok()
            && *self.with_gpu.get_or_init(|| stages.choices().first.is_gpu());
        if apart { self.apart.launch(task, watch) } else { self.here.launch(task, watch) }
    }
}
