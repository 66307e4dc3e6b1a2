//! From an executor's plan to a run on a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{
    engine::{Cluster, Engine},
    follow::{Follower, LATER, LEFT, Until},
    inputs::{self, Keeper},
    profile::{InputsBy, Profile},
    records::RunFolder,
    run_plan::{FORMAT, Results, RunPlan, stages},
};
use crate::{
    engine::{
        executor::{self, Outcome, Reporter},
        plan::Plan,
        remote::Remote,
        store::{DigestCache, Store, atomic, host, unix_time},
    },
    network::device::{DeviceChoice, DeviceChoices, gpu},
    session::Notify,
    stages::{DeviceUse, estimate::Machine, estimator, kind_of},
    support::{Hinted, Registry, program, suggest},
};

/// Where a run takes place.
#[derive(Clone)]
pub struct On {
    /// The profile's name.
    pub name: String,
    /// The profile.
    pub profile: Profile,
    /// Whether to leave when everything is submitted.
    pub detach: bool,
    /// Asked when the run is stopped while jobs are under way: whether they're to be ended.
    pub cancels: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// What is to be run.
pub(in crate::session) struct Start<'a> {
    pub(in crate::session) plan: Plan,
    pub(in crate::session) recipe: &'a Path,
    pub(in crate::session) devices: &'a DeviceChoices,
    pub(in crate::session) ignore_memory: bool,
    pub(in crate::session) options: &'a executor::Options,
    pub(in crate::session) store: &'a Store,
    pub(in crate::session) remote: Option<&'a Arc<Remote>>,
    pub(in crate::session) digests: &'a Mutex<DigestCache>,
    pub(in crate::session) notify: &'a Notify,
}

/// Stages whose memory is estimated one by one; of more, the largest of the same name counts.
const ESTIMATED: usize = 500;

impl Start<'_> {
    /// The run's plan. What it reads is given to the store, unless it's only looked at.
    pub(super) fn run_plan(&self, on: &On, keeps: bool) -> Result<RunPlan> {
        let root = std::path::absolute(self.store.root())?;
        let given = |node: &crate::engine::plan::Node| {
            let mut resources = on.profile.resources(&node.name, &node.kind);
            let on_devices = kind_of(node).is_ok_and(|kind| kind.devices() != DeviceUse::None);
            if on_devices && matches!(self.devices.first, DeviceChoice::Cuda(_)) {
                let all = u32::try_from(self.devices.count()).unwrap_or(1);
                resources.gpus = resources.gpus.or(Some(all));
            }
            (resources, None)
        };
        let mut stages = stages(&self.plan, self.options, &given);
        for stage in &mut stages {
            if keeps && stage.stored.is_none() && on.profile.inputs == InputsBy::Store {
                let keeper = match self.remote.filter(|_| on.profile.remote.is_some()) {
                    Some(remote) => Keeper::Remote(remote),
                    None => Keeper::Store(&root),
                };
                inputs::keep(stage, keeper, self.digests)?;
            } else {
                inputs::in_place(stage)?;
            }
        }
        let mut plan = RunPlan {
            format: FORMAT,
            build: program::build()?,
            recipe: self.recipe.display().to_string(),
            host: host(),
            begun: unix_time(),
            on: on.name.clone(),
            profile: on.profile.clone(),
            devices: self.devices.to_string(),
            gpu: gpu(),
            ignore_memory: self.ignore_memory,
            provenance: self.options.provenance.clone(),
            stages,
        };
        self.estimate(&mut plan);
        Ok(plan)
    }

    /// Estimates the memory of what is trained without GPUs.
    fn estimate(&self, plan: &mut RunPlan) {
        let machine = Machine::new(&DeviceChoice::Cpu.into());
        let mut largest: BTreeMap<String, u64> = BTreeMap::new();
        let missing: Vec<usize> = plan.missing().collect();
        for (at, number) in missing.into_iter().enumerate() {
            let name = plan.stages[number].node.name.clone();
            if plan.stages[number].resources.gpus.unwrap_or(0) > 0 {
                continue;
            }
            let bytes = || -> Option<u64> {
                let (graph, planned) = plan.as_planned(number, Results { store: self.store, remote: None }).ok()?;
                let estimate = estimator(&graph, &planned, &machine).stage(graph.get(&name)?).ok()??;
                Some(estimate.planned.memory.total())
            };
            let estimate = if at < ESTIMATED { bytes() } else { None };
            let estimate = estimate.map(asked).or(largest.get(&name).copied().filter(|_| at >= ESTIMATED));
            if let Some(bytes) = estimate {
                let most = largest.entry(name).or_default();
                *most = bytes.max(*most);
            }
            plan.stages[number].estimate = estimate;
        }
    }
}

/// The memory that is asked for, for a training of so many bytes: estimates are within 20 %, the program takes some itself, and
/// stages that are nearly alike are to be one batch.
fn asked(bytes: u64) -> u64 {
    const STEP: u64 = 256 << 20;
    (bytes / 4 * 5 + (512 << 20)).div_ceil(STEP) * STEP
}

/// Runs a plan on a cluster, and gives what has become of its stages.
///
/// # Errors
/// If nothing can be submitted, or the store be read or written.
pub(in crate::session) fn carry_out(
    start: &Start<'_>,
    on: &On,
    engines: &Registry<dyn Engine>,
    reporter: &dyn Reporter,
    stop: &AtomicBool,
) -> Result<IndexMap<String, Outcome>> {
    let cluster = open(&on.profile, engines)?;
    let plan = start.run_plan(on, true)?;
    let root = std::path::absolute(start.store.root())?;
    let program = program_for(&plan.profile, &plan.build, &root)?;
    let remote = start.remote.filter(|_| on.profile.remote.is_some()).cloned();
    if let Some(remote) = &remote {
        deliver_needs(&plan, start.store, remote)?;
    }
    let folder = RunFolder::create(&Store::open(&root)?, remote, &plan)?;
    start.digests.lock().save();
    (start.notify)(&format!("run {} on {}", folder.name(), on.name));
    let mut follower =
        Follower::new(folder.clone(), plan, start.store, cluster, program, reporter, Arc::clone(start.notify))?;
    let until = if on.detach { Until::AllSubmitted } else { Until::AllEnded };
    follower.follow(until, stop)?;
    let outcomes = follower.outcomes();
    let any = |told: &str| outcomes.values().any(|outcome| outcome.error.as_deref() == Some(told));
    let is_left = any(LEFT);
    if is_left && stop.load(SeqCst) && (on.cancels)() {
        follower.cancel()?;
    } else if is_left {
        let name = folder.name();
        (start.notify)(&format!("jobs go on; `pipe attach {name}` follows them, and `pipe cancel {name}` ends them"));
        if any(LATER) {
            (start.notify)("what needs their results isn't submitted yet; who follows them does that");
        }
    }
    Ok(follower.outcomes())
}

/// Sees to it that the remote has what the stages to compute need and this store has.
fn deliver_needs(plan: &RunPlan, store: &Store, remote: &Remote) -> Result<()> {
    remote.ask();
    let needs: BTreeSet<usize> = plan.missing().flat_map(|number| plan.needs(number)).collect();
    for need in needs {
        let Some(output) = &plan.stages[need].stored else { continue };
        if let Some(artifact) = store.record(&output.key)? {
            remote.push(&artifact, false);
        }
    }
    ensure!(remote.finish().unpushed == 0, "{} doesn't take what jobs need", remote.url());
    Ok(())
}

/// Takes up a run again that was submitted before.
///
/// # Errors
/// If its records can't be read.
pub fn attach<'a>(
    folder: &RunFolder,
    store: &'a Store,
    engines: &Registry<dyn Engine>,
    reporter: &'a dyn Reporter,
    notify: &Notify,
) -> Result<Follower<'a>> {
    let plan = folder.plan()?;
    let cluster = open(&plan.profile, engines)?;
    let root = std::path::absolute(folder.store()?)?;
    let program = plan.profile.program.clone().unwrap_or_else(|| copy_of_program(&plan.build, &root));
    let folder = RunFolder::at(&std::path::absolute(folder.path())?);
    let folder = folder.shared_by(plan.profile.remote.as_deref(), store, notify)?;
    Follower::new(folder, plan, store, cluster, program, reporter, Arc::clone(notify))
}

pub(super) fn open(profile: &Profile, engines: &Registry<dyn Engine>) -> Result<Box<dyn Cluster>> {
    let engine = engines.named(&profile.engine).ok_or_else(|| {
        let known = suggest::list(engines.all().iter().map(|engine| engine.name()));
        Hinted::with(format!("there is no engine `{}`", profile.engine), format!("the engines are {known}"))
    })?;
    engine.open(profile)
}

/// The program that jobs run: the profile's, or a copy of this one in the store.
pub(super) fn program_for(profile: &Profile, build: &str, root: &Path) -> Result<PathBuf> {
    if let Some(program) = &profile.program {
        return Ok(program.clone());
    }
    let copy = copy_of_program(build, root);
    if !copy.exists() {
        fs::create_dir_all(copy.parent().context("a file lies in a folder")?)?;
        atomic::copy(&program::path()?, &copy, 0o755)?;
    }
    Ok(copy)
}

/// Where the store has the program of a build.
pub(super) fn copy_of_program(build: &str, root: &Path) -> PathBuf {
    let build: String = build.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    root.join("jobs").join("program").join(build).join("pipe")
}
