//! Which stages can run next, shared between the threads that run them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Ending, Outcome};
use crate::engine::plan::{Length, Planned};

/// The pause between two looks at a stage that another process computes.
const PAUSE: Duration = Duration::from_millis(200);
/// What is added to it for each stage that waits so: a shared disk isn't asked for hundreds of them at a time.
const PAUSE_EACH: Duration = Duration::from_millis(5);

/// The stages of a run and what became of them.
pub(super) struct Queue<'a> {
    tasks: &'a IndexMap<String, Planned>,
    /// For each, the task that it's better to wait for: of trainings that differ in their length only, a shorter one, which
    /// it can resume from.
    after: Vec<Option<String>>,
    /// Nothing is begun any more once this is set.
    stop: &'a AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    taken: Vec<bool>,
    /// Of stages that another process computes, when to look again.
    held: BTreeMap<usize, Instant>,
    outcomes: IndexMap<String, Outcome>,
}

impl State {
    /// The stage whose failure or pause keeps this one from running.
    fn culprit<'t>(&self, tasks: &'t IndexMap<String, Planned>, node: &'t Planned) -> Option<&'t str> {
        node.node.needs.values().find_map(|need| match self.outcomes.get(need)?.ending {
            Ending::Hit | Ending::Fetched | Ending::Ran => None,
            Ending::Failed | Ending::Paused | Ending::Stopped => Some(need.as_str()),
            Ending::NotRun => self.culprit(tasks, tasks.get(need)?),
        })
    }
}

/// What a thread is to do next.
pub(super) enum Next<'a> {
    /// Compute this stage; all that it needs is there.
    Run(&'a str, &'a Planned, Turn),
    /// This stage can't run, since the named one, which it needs directly or through others, failed or was paused.
    Skip(&'a str, &'a Planned, String),
}

/// Which attempt at a stage it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// The first.
    First,
    /// It was put back, since another process computed it.
    Again,
    /// The same, and no more stages are begun, so that there's nothing else to do.
    Last,
}

impl<'a> Queue<'a> {
    pub(super) fn new(tasks: &'a IndexMap<String, Planned>, stop: &'a AtomicBool) -> Self {
        let state = State { taken: vec![false; tasks.len()], held: BTreeMap::new(), outcomes: IndexMap::new() };
        Self { tasks, after: shorter_ones(tasks), stop, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes the first stage whose needs are settled, waiting for one; those that another process computes come after all
    /// others. `None` when all are taken, or no more are to be.
    pub(super) fn next(&self) -> Option<Next<'a>> {
        let mut state = self.lock();
        loop {
            let is_stopped = self.stop.load(Ordering::SeqCst);
            if is_stopped && let Some((index, _)) = state.held.pop_first() {
                return self.take(&mut state, index, Turn::Last);
            }
            if is_stopped {
                self.leave_out(&mut state);
            }
            if state.taken.iter().all(|taken| *taken) {
                return None;
            }
            let ready = (0..self.tasks.len()).find(|index| self.is_ready(&state, *index));
            if let Some(index) = ready {
                return self.take(&mut state, index, Turn::First);
            }
            let Some((&index, &due)) = state.held.iter().min_by_key(|(_, due)| **due) else {
                self.changed.wait(&mut state);
                continue;
            };
            if due <= Instant::now() {
                state.held.remove(&index);
                return self.take(&mut state, index, Turn::Again);
            }
            // A stop is noticed as soon.
            let _ = self.changed.wait_until(&mut state, due);
        }
    }

    fn is_ready(&self, state: &State, index: usize) -> bool {
        let Some((_, node)) = self.tasks.get_index(index) else { return false };
        let mut before = node.node.needs.values().chain(&self.after[index]);
        let is_free = !state.taken[index] && !state.held.contains_key(&index);
        is_free && before.all(|need| state.outcomes.contains_key(need))
    }

    fn take(&self, state: &mut State, index: usize, turn: Turn) -> Option<Next<'a>> {
        let (id, node) = self.tasks.get_index(index)?;
        state.taken[index] = true;
        Some(match state.culprit(self.tasks, node) {
            Some(culprit) => Next::Skip(id, node, culprit.to_owned()),
            None => Next::Run(id, node, turn),
        })
    }

    /// Puts a stage back that another process computes, to be looked at again when there's nothing else to do.
    pub(super) fn put_back(&self, id: &str) {
        let mut state = self.lock();
        if let Some(index) = self.tasks.get_index_of(id) {
            let many = u32::try_from(state.held.len()).unwrap_or(u32::MAX);
            state.held.insert(index, Instant::now() + PAUSE + PAUSE_EACH.saturating_mul(many));
            state.taken[index] = false;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Settles what wasn't begun.
    fn leave_out(&self, state: &mut State) {
        for (taken, (id, node)) in state.taken.iter_mut().zip(self.tasks) {
            if !std::mem::replace(taken, true) {
                let error = "not scheduled: the run was stopped before".to_owned();
                let outcome = Outcome::without_artifact(&node.node.kind, Ending::NotRun, error);
                state.outcomes.insert(id.clone(), outcome);
            }
        }
        self.changed.notify_all();
    }

    /// All stages.
    pub(super) fn tasks(&self) -> impl Iterator<Item = (&'a str, &'a Planned)> {
        self.tasks.iter().map(|(id, node)| (id.as_str(), node))
    }

    /// A stage.
    pub(super) fn task(&self, id: &str) -> Option<(&'a str, &'a Planned)> {
        self.tasks.get_key_value(id).map(|(id, node)| (id.as_str(), node))
    }

    /// Settles a stage.
    pub(super) fn settle(&self, id: &str, outcome: Outcome) {
        self.lock().outcomes.insert(id.to_owned(), outcome);
        self.changed.notify_all();
    }

    /// What became of a stage, if it's settled.
    pub(super) fn outcome(&self, id: &str) -> Option<Outcome> {
        self.lock().outcomes.get(id).cloned()
    }

    /// All outcomes, in the order of the tasks.
    pub(super) fn into_outcomes(self) -> IndexMap<String, Outcome> {
        let mut outcomes = self.state.into_inner().outcomes;
        self.tasks.keys().filter_map(|id| Some((id.clone(), outcomes.swap_remove(id)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// For each task the one of the next smaller length, among those that are the same training but for the length.
fn shorter_ones(tasks: &IndexMap<String, Planned>) -> Vec<Option<String>> {
    let mut trainings: BTreeMap<String, Vec<(usize, Length)>> = BTreeMap::new();
    for (index, node) in tasks.values().enumerate() {
        if let Some((trunk, length)) = node.node.trunk_signature() {
            trainings.entry(trunk).or_default().push((index, length));
        }
    }
    let mut after = vec![None; tasks.len()];
    for mut lengths in trainings.into_values() {
        let size = |length: Length| match length {
            Length::Steps(steps) => (0, steps as f64),
            Length::Epochs(epochs) => (1, epochs),
        };
        lengths.sort_by(|(_, a), (_, b)| size(*a).partial_cmp(&size(*b)).unwrap_or(std::cmp::Ordering::Equal));
        for pair in lengths.windows(2) {
            after[pair[1].0] = tasks.get_index(pair[0].0).map(|(id, _)| id.clone());
        }
    }
    after
}
