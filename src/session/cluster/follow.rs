//! Follows a run on a cluster to its end: looks at the store for what has come, submits what can run, and asks the engine for
//! the rest. All that it needs is in the run's folder, so whoever sees the store can go on where another has stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use indexmap::IndexMap;

use super::{
    engine::{Cluster, State, Which},
    records::{BatchRecord, CANCELLED, RunFolder},
    run_plan::{Output, RunPlan},
};
use crate::{
    engine::{
        executor::{Ending, Event, Outcome, Reporter},
        remote::Marks,
        store::{Artifact, Held, KeyWatch, Store},
    },
    session::{
        Notify,
        launch::{End, Message},
    },
};

/// How often the store is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What is said of a stage whose job goes on.
pub const LEFT: &str = "left to the cluster";

/// What is said of a stage that wasn't submitted.
pub const LATER: &str = "not submitted";

/// What stands for a batch's id where it's known that there's no such batch.
pub(super) const NONE: &str = "-";

/// Follows one run.
pub struct Follower<'a> {
    pub(super) folder: RunFolder,
    pub(super) plan: RunPlan,
    pub(super) store: &'a Store,
    pub(super) cluster: Box<dyn Cluster>,
    pub(super) program: PathBuf,
    /// What was brought of the run's events, and when, where machines share no disk.
    pub(super) marks: Marks,
    pub(super) brought: Option<Instant>,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) notify: Notify,
    pub(super) stages: Vec<Stage>,
    /// For each stage those that it needs.
    pub(super) needs: Vec<Vec<usize>>,
    pub(super) batches: Vec<Known>,
    pub(super) outputs: BTreeMap<usize, Output>,
    /// Who submits is one process at a time.
    pub(super) held: Option<Held>,
    pub(super) watch: KeyWatch,
    pub(super) asked: Option<Instant>,
    pub(super) changed: Instant,
    pub(super) refused: Option<Instant>,
    /// Tasks of a batch at most, by what was refused.
    pub(super) most: usize,
    pub(super) told: BTreeSet<String>,
}

/// A batch that was offered to the engine.
pub(super) struct Known {
    pub(super) record: BatchRecord,
    pub(super) id: Option<String>,
    /// How often it was looked for by its name.
    pub(super) looks: u32,
}

/// What is known of a stage.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) outcome: Option<Outcome>,
    pub(super) key: Option<String>,
    /// The batch and the task that compute it.
    pub(super) at: Option<(usize, usize)>,
    /// How far its events were read.
    pub(super) read: u64,
    pub(super) end: Option<End>,
    pub(super) has_started: bool,
    /// How far it is, in units of its own, and how far it was when its job ended before.
    pub(super) progress: Option<(u64, u64)>,
    pub(super) before: u64,
    pub(super) attempts: u32,
    pub(super) longer: u32,
    pub(super) looks: u32,
    /// Since when its job waits.
    pub(super) waits: Option<Instant>,
}

/// What is to be done with what isn't settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// Everything has come to its end.
    AllEnded,
    /// Everything is submitted.
    AllSubmitted,
}

impl<'a> Follower<'a> {
    /// Of a run, whether it's new or was followed before.
    ///
    /// # Errors
    /// If its records can't be read.
    pub fn new(
        folder: RunFolder,
        plan: RunPlan,
        store: &'a Store,
        cluster: Box<dyn Cluster>,
        program: PathBuf,
        reporter: &'a dyn Reporter,
        notify: Notify,
    ) -> Result<Self> {
        let batches: Vec<Known> =
            folder.batches()?.into_iter().map(|(record, id)| Known { record, id, looks: 0 }).collect();
        let mut stages: Vec<Stage> = plan.stages.iter().map(|_| Stage { longer: 1, ..Stage::default() }).collect();
        for (number, known) in batches.iter().enumerate().filter(|(_, known)| known.id.as_deref() != Some(NONE)) {
            for (task, numbers) in &known.record.tasks {
                for &stage in numbers {
                    let stage = &mut stages[stage];
                    stage.attempts += u32::from(stage.at.is_some());
                    (stage.at, stage.longer) = (Some((number, *task)), known.record.longer);
                }
            }
        }
        let watch = store.watch(&lock_name(&folder));
        let needs = plan.all_needs();
        Ok(Self {
            folder,
            plan,
            store,
            cluster,
            program,
            marks: Marks::new(),
            brought: None,
            reporter,
            notify,
            stages,
            needs,
            batches,
            outputs: BTreeMap::new(),
            held: None,
            watch,
            asked: None,
            changed: Instant::now(),
            refused: None,
            most: usize::MAX,
            told: BTreeSet::new(),
        })
    }

    /// What the run computes.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// Follows the run; ends early if `stop` is set. What has no outcome then is still under way.
    ///
    /// # Errors
    /// If the store can't be read or written, or the engine takes nothing.
    pub fn follow(&mut self, until: Until, stop: &AtomicBool) -> Result<()> {
        loop {
            self.look_at_store()?;
            if self.stages.iter().all(|stage| stage.outcome.is_some()) {
                return Ok(());
            }
            if self.folder.is_cancelled()
                && !self.stages.iter().any(|stage| stage.outcome.is_none() && stage.at.is_some())
            {
                return Ok(());
            }
            if self.takes_over()? {
                self.submit(until == Until::AllSubmitted)?;
            }
            if until == Until::AllSubmitted && self.is_all_submitted() {
                return Ok(());
            }
            self.ask()?;
            let began = Instant::now();
            while began.elapsed() < TICK {
                if stop.load(SeqCst) {
                    return Ok(());
                }
                std::thread::sleep(TICK / 20);
            }
        }
    }

    /// Whether the engine has all that it takes at the moment.
    fn is_all_submitted(&self) -> bool {
        let has_order = self.cluster.has_order();
        let waits = |number: usize| !self.needs[number].iter().all(|need| self.outputs.contains_key(need));
        let is_submitted = |(number, stage): (usize, &Stage)| {
            stage.outcome.is_some() || stage.at.is_some() || !has_order && waits(number)
        };
        self.stages.iter().enumerate().all(is_submitted)
    }

    /// The outcomes of all stages; of one under way, that it's left to itself.
    pub fn outcomes(&self) -> IndexMap<String, Outcome> {
        let outcome = |(number, stage): (usize, &Stage)| {
            let planned = &self.plan.stages[number];
            let left = || {
                let place = if stage.at.is_some() { LEFT } else { LATER };
                Outcome::without_artifact(&planned.node.kind, Ending::Paused, place.to_owned())
            };
            (planned.id.clone(), stage.outcome.clone().unwrap_or_else(left))
        };
        self.stages.iter().enumerate().map(outcome).collect()
    }

    /// Ends all jobs of the run.
    ///
    /// # Errors
    /// What the engine says.
    pub fn cancel(&mut self) -> Result<()> {
        self.folder.cancel()?;
        let ids = self.batches.iter().filter_map(|known| known.id.clone()).filter(|id| id != NONE);
        let batches: Vec<Which> = ids.map(Which::Batch).collect();
        if batches.is_empty() { Ok(()) } else { self.cluster.cancel(&batches) }
    }

    /// How many jobs wait and run, as the engine says; `None` if it doesn't answer.
    pub fn counts(&mut self) -> Option<(usize, usize)> {
        let jobs = self.cluster.jobs(&beginning(&self.folder))?;
        let count = |wanted: &dyn Fn(&State) -> bool| jobs.iter().filter(|job| wanted(&job.state)).count();
        Some((count(&|state| matches!(state, State::Waiting(_))), count(&|state| *state == State::Running)))
    }

    /// Takes note of what has come since the last look, without asking anybody.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn look_at_store(&mut self) -> Result<()> {
        self.bring();
        let keys: BTreeSet<String> = self.store.keys()?.into_iter().collect();
        let events = std::fs::read_dir(self.folder.path().join("events")).into_iter().flatten().flatten();
        let told: BTreeSet<usize> =
            events.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()).collect();
        for number in 0..self.stages.len() {
            if self.stages[number].outcome.is_some() {
                continue;
            }
            if let Some(output) = self.plan.stages[number].stored.clone() {
                let elsewhere = || self.folder.remote()?.find(&output.key);
                if let Some(artifact) = self.store.record(&output.key)?.or_else(elsewhere) {
                    self.settle_with(number, Ending::Hit, artifact);
                }
                continue;
            }
            if let Some(need) = self.failed_need(number) {
                self.leave_out(number, &need);
                continue;
            }
            if told.contains(&number) {
                self.read_events(number);
            }
            let has_needs = self.needs[number].iter().all(|need| self.outputs.contains_key(need));
            if has_needs && self.stages[number].key.is_none() {
                let outputs = &self.outputs;
                let manifest = self.plan.manifest(number, &|need| outputs.get(&need).cloned());
                self.stages[number].key = manifest.map(|manifest| manifest.key());
            }
            let (stage, is_forced) = (&self.stages[number], self.plan.stages[number].force);
            let is_done = matches!(stage.end, Some(End::Done { .. }));
            let here = stage.key.as_ref().filter(|key| (is_done || !is_forced) && keys.contains(*key));
            let here = here.and_then(|key| self.store.find(key).ok().flatten());
            if let Some(artifact) = here.or_else(|| self.elsewhere(number, is_done)) {
                let is_hit = stage.at.is_none() || matches!(stage.end, Some(End::Done { computed: false }));
                self.settle_with(number, if is_hit { Ending::Hit } else { Ending::Ran }, artifact);
                continue;
            }
            let until = self.plan.stages[number].until;
            match self.stages[number].end.take() {
                Some(end @ End::Failed { .. }) => {
                    let error = end.into_result().err().unwrap_or_else(|| anyhow!("it failed"));
                    self.fail(number, &error);
                }
                Some(End::Paused { place, metrics, .. }) if until.is_some() => self.pause(number, place, metrics),
                end => self.stages[number].end = end,
            }
        }
        Ok(())
    }

    /// Brings what jobs have told on machines that share no disk with this one, now and then.
    fn bring(&mut self) {
        let pause = Duration::from_secs(self.plan.profile.ask);
        if self.brought.is_some_and(|brought| brought.elapsed() < pause) {
            return;
        }
        self.brought = Some(Instant::now());
        let brought = self.folder.bring("events", &mut self.marks).and_then(|()| self.folder.bring_file(CANCELLED));
        if let Err(error) = brought {
            self.tell(format!("{error:#}; jobs go on meanwhile"));
        }
    }

    /// What the remote has of a stage that may be done, where that is what machines have in common.
    pub(super) fn elsewhere(&self, number: usize, may_be_done: bool) -> Option<Artifact> {
        self.folder.remote().filter(|_| may_be_done)?.find(self.stages[number].key.as_ref()?)
    }

    fn read_events(&mut self, number: usize) {
        let stage = &mut self.stages[number];
        let (messages, read) = self.folder.events_from(number, stage.read);
        stage.read = read;
        if !messages.is_empty() {
            self.changed = Instant::now();
        }
        let planned = &self.plan.stages[number];
        for message in messages {
            match &message {
                Message::Started { .. } => (stage.end, stage.has_started) = (None, true),
                Message::Progress { done, total, .. } => stage.progress = Some((*done, *total)),
                Message::End(End::Again { place }) => self.reporter.event(&planned.id, Event::Note(place)),
                _ => {}
            }
            stage.end = message.notify(&planned.node, &planned.id, self.reporter).or(stage.end.take());
        }
    }

    /// Tells a person something once.
    pub(super) fn tell(&mut self, text: String) {
        self.tell_of(text.clone(), &text);
    }

    /// Tells a person of a thing, unless it was told of before.
    pub(super) fn tell_of(&mut self, thing: String, text: &str) {
        if self.told.insert(thing) {
            (self.notify)(text);
        }
    }
}

/// What the names of a run's batches begin with.
pub(super) fn beginning(folder: &RunFolder) -> String {
    format!("pipe-{}-", folder.name())
}

/// The name that is held by who submits.
pub(super) fn lock_name(folder: &RunFolder) -> String {
    blake3::hash(format!("follows {}", folder.name()).as_bytes()).to_hex().to_string()
}
