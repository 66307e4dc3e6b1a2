//! The running of a sweep: all that is planned at once, or rung by rung.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use indexmap::IndexMap;

use super::{
    interrupt,
    progress::{self, count},
    talk::Talk,
};
use crate::{
    engine::{
        executor::{Ending, Event, Options, Outcome, Reporter, execute},
        plan::Node,
        store::{DigestCache, Store},
    },
    session::sweep::{Halving, Judgement, Known, Planner, lookup, measured},
    stages::Stages,
    surface::tracking::Tracking,
};

/// What became of tasks.
pub(super) type Outcomes = IndexMap<String, Outcome>;

/// What a sweep runs with.
pub(super) struct Sweeping<'a> {
    store: &'a Store,
    digests: &'a Mutex<DigestCache>,
    stages: &'a Stages,
    options: &'a Options,
    once: Once<'a>,
}

impl<'a> Sweeping<'a> {
    pub(super) fn new(
        store: &'a Store,
        digests: &'a Mutex<DigestCache>,
        stages: &'a Stages,
        tracking: &'a Tracking,
        options: &'a Options,
    ) -> Self {
        let once = Once { talk: Talk::new(), tracking, told: Mutex::default() };
        Self { store, digests, stages, options, once }
    }

    /// Nothing more runs.
    pub(super) fn end(&self) {
        self.once.talk.end();
    }

    /// Runs what is planned and nothing is known of yet.
    pub(super) fn run(&self, planner: &Planner<'_>, outcomes: &mut Outcomes) {
        let wanted = planner.tasks().keys().map(String::as_str).filter(|id| !outcomes.contains_key(*id)).collect();
        self.execute(planner, wanted, self.options, outcomes);
    }

    /// Runs the halved stage of all cells up to the first rung, of the better ones up to the next, and at last all stages
    /// of the cells that are left. What was measured at rungs in an earlier call isn't measured again.
    pub(super) fn climb(&self, halving: &Halving, planner: &Planner<'_>, outcomes: &mut Outcomes) -> Result<Judgement> {
        let (cells, tasks) = (planner.cells(), planner.tasks());
        let mut known = Known::default();
        let stored = lookup(tasks, self.store, &mut self.digests.lock().unwrap_or_else(PoisonError::into_inner))?;
        self.learn(halving, planner, &stored, &mut known);
        let mut told = 0;
        loop {
            let judgement = halving.judge(cells, tasks, &known);
            tell(halving, &judgement, &mut told);
            let Some(open) = &judgement.open else { break };
            let until = open.tasks.iter().map(|task| (task.clone(), open.rung)).collect();
            let options = Options { until, ..self.options.clone() };
            self.execute(planner, open.tasks.iter().map(String::as_str).collect(), &options, outcomes);
            self.learn(halving, planner, outcomes, &mut known);
            if interrupt::asked() {
                break;
            }
            // What ran and has nothing to show for it must not be waited for again.
            let has_come = |task: &String| known.measured.get(task).is_some_and(|one| one.until(open.rung).is_some());
            known.failed.extend(open.tasks.iter().filter(|task| !has_come(task)).cloned());
        }
        let mut judgement = halving.judge(cells, tasks, &known);
        if judgement.open.is_none() && !interrupt::asked() {
            let is_well = |planned: &&_| halving.task(planned).is_none_or(|task| !known.failed.contains(task));
            let going_on = judgement.going_on(cells.iter().filter(is_well));
            self.execute(planner, going_on, self.options, outcomes);
            self.learn(halving, planner, outcomes, &mut known);
            judgement = halving.judge(cells, tasks, &known);
        }
        // A cell that was stopped may yet be stored as a whole, since it was run without `asha` before.
        for (id, outcome) in stored.into_iter().filter(|(_, outcome)| outcome.is_good()) {
            outcomes.entry(id).or_insert(outcome);
        }
        judgement.mark(cells, tasks, outcomes);
        for (id, node) in tasks {
            let left = || Outcome::without_artifact(node.stage.kind(), Ending::NotRun, "it wasn't its turn".to_owned());
            outcomes.entry(id.clone()).or_insert_with(left);
        }
        Ok(judgement)
    }

    /// Takes note of what halved trainings have measured.
    fn learn(&self, halving: &Halving, planner: &Planner<'_>, outcomes: &Outcomes, known: &mut Known) {
        for task in planner.cells().iter().filter_map(|planned| halving.task(planned)) {
            // Nothing comes after the end, and the curve may have to be fetched.
            if known.measured.get(task).is_some_and(|measured| measured.ended) {
                continue;
            }
            let found = outcomes.get(task).and_then(|one| measured(one, self.store, self.options.remote.as_deref()));
            known.measured.extend(found.map(|measured| (task.to_owned(), measured)));
        }
    }

    /// Runs these tasks and those that they need; a task that was paused before ends anew.
    fn execute(&self, planner: &Planner<'_>, wanted: BTreeSet<&str>, options: &Options, outcomes: &mut Outcomes) {
        // Under a name whose strings need not live as long.
        let mut wanted = wanted;
        let mut tasks = Vec::new();
        for (id, node) in planner.tasks().iter().rev() {
            if wanted.contains(id.as_str()) {
                wanted.extend(node.needs.values().map(String::as_str));
                tasks.push((id.clone(), node.clone()));
            }
        }
        let tasks: IndexMap<String, Node> = tasks.into_iter().rev().collect();
        self.once.talk.expect(planner.tasks().len());
        for (id, outcome) in execute(&tasks, self.store, self.digests, self.stages, &self.once, options) {
            // What ran is found again in the next rung, and still has run.
            if !outcomes.get(&id).is_some_and(Outcome::is_good) {
                outcomes.insert(id, outcome);
            }
        }
    }
}

/// Says once how each rung was decided.
fn tell(halving: &Halving, judgement: &Judgement, told: &mut usize) {
    for (number, (compared, going_on)) in judgement.decided.iter().enumerate().skip(*told) {
        let (rung, of, part) = (number + 1, halving.rungs.len(), halving.rungs[number].part);
        let settings = count(*compared, "setting");
        progress::say(&format!("rung {rung} of {of}, at 1/{part} of the steps: {going_on} of {settings} go on"));
        *told = rung;
    }
}

/// Tells once only that a stage is there.
struct Once<'a> {
    talk: Talk,
    tracking: &'a Tracking,
    told: Mutex<HashSet<String>>,
}

impl Reporter for Once<'_> {
    fn event(&self, stage: &str, event: Event<'_>) {
        let ends = matches!(event, Event::Hit { .. } | Event::InRemote { .. } | Event::Finished { .. });
        let is_new = !ends || self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.to_owned());
        if is_new {
            self.talk.event(stage, event);
            self.tracking.event(stage, event);
        }
    }
}
