//! What would be submitted, and what that would cost, before anything is.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;

use super::{
    batches::{Place, Ready, Shape, together},
    engine::Engine,
    follow::beginning,
    inputs,
    profile::InputsBy,
    records::RunFolder,
    start::{On, Start, copy_of_program, open},
};
use crate::support::{Registry, program};

/// What would be submitted.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Those that can run now come first.
    pub batches: Vec<PreviewedBatch>,
    /// Bytes that stages read and the store has no copy of yet.
    pub input_bytes: u64,
    /// Bytes of the program, unless the store has it or the machines do.
    pub program_bytes: u64,
}

/// A batch that would be submitted.
#[derive(Clone, Debug)]
pub struct PreviewedBatch {
    /// What is submitted.
    pub script: String,
    /// The stages that it computes.
    pub stages: Vec<String>,
    /// How many jobs it is.
    pub jobs: usize,
}

/// What would be submitted for a run.
///
/// # Errors
/// If the store can't be read.
pub(in crate::session) fn previewed(start: &Start<'_>, on: &On, engines: &Registry<dyn Engine>) -> Result<Preview> {
    let mut cluster = open(&on.profile, engines)?;
    let plan = start.run_plan(on, false)?;
    let root = std::path::absolute(start.store.root())?;
    let folder = plan.profile.folder(&root.join("jobs").join("RUN"));
    let remote = plan.profile.remote.as_deref();
    let copy = copy_of_program(&plan.build, &root);
    let program_bytes = match &plan.profile.program {
        None if !copy.exists() => fs_err::metadata(program::path()?)?.len(),
        _ => 0,
    };
    let mut lacking: BTreeMap<PathBuf, u64> = BTreeMap::new();
    if on.profile.inputs == InputsBy::Store {
        for number in plan.missing() {
            lacking.extend(inputs::lacking(&plan.stages[number], &root, start.digests)?);
        }
    }
    let program = plan.profile.program.clone().unwrap_or(copy);
    let is_ready = |number: &usize| plan.needs(*number).iter().all(|need| plan.stages[*need].stored.is_some());
    let (now, later): (Vec<usize>, Vec<usize>) = plan.missing().partition(is_ready);
    let mut batches = Vec::new();
    for numbers in [now, later] {
        let ready = numbers.into_iter().map(|stage| {
            let planned = &plan.stages[stage];
            let shape = Shape { resources: planned.resources.clone(), estimate: planned.estimate, longer: 1 };
            Ready { stage, shape, after: Default::default() }
        });
        for one in together(ready.collect(), plan.profile.group, cluster.most_tasks()) {
            let number = batches.len();
            let run = beginning(&RunFolder::at(&folder));
            let name = format!("{run}{number}");
            let place = Place { name: &name, run: &run, folder: &folder, remote, number, program: &program };
            let script = one.script(&*cluster, place, plan.profile.throttle);
            let ids = one.tasks.values().flatten().map(|stage| plan.stages[*stage].id.clone());
            batches.push(PreviewedBatch { script, stages: ids.collect(), jobs: one.tasks.len() });
        }
    }
    Ok(Preview { batches, input_bytes: lacking.values().sum(), program_bytes })
}
