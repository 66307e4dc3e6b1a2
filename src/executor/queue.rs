//! Which stages can run next, shared between the threads that run them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;

use super::{Ending, Outcome};
use crate::plan::Node;

/// The stages of a run and what became of them.
pub(super) struct Queue<'a> {
    tasks: &'a IndexMap<String, Node>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    taken: Vec<bool>,
    outcomes: IndexMap<String, Outcome>,
}

impl State {
    /// The stage whose failure keeps this one from running.
    fn culprit<'t>(&self, tasks: &'t IndexMap<String, Node>, node: &'t Node) -> Option<&'t str> {
        node.needs.values().find_map(|need| match self.outcomes.get(need)?.ending {
            Ending::Hit | Ending::Fetched | Ending::Ran => None,
            Ending::Failed => Some(need.as_str()),
            Ending::NotRun => self.culprit(tasks, tasks.get(need)?),
        })
    }
}

/// What a thread is to do next.
pub(super) enum Next<'a> {
    /// Compute this stage; all that it needs is there.
    Run(&'a str, &'a Node),
    /// This stage can't run, since the named one, which it needs directly or through others, failed.
    Skip(&'a str, &'a Node, String),
}

impl<'a> Queue<'a> {
    pub(super) fn new(tasks: &'a IndexMap<String, Node>) -> Self {
        let state = State { taken: vec![false; tasks.len()], outcomes: IndexMap::new() };
        Self { tasks, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes the first stage whose needs are settled, waiting for one; `None` when all are taken.
    pub(super) fn next(&self) -> Option<Next<'a>> {
        let mut state = self.lock();
        loop {
            if state.taken.iter().all(|taken| *taken) {
                return None;
            }
            let ready = self.tasks.iter().enumerate().find(|(index, (_, node))| {
                !state.taken[*index] && node.needs.values().all(|need| state.outcomes.contains_key(need))
            });
            if let Some((index, (id, node))) = ready {
                state.taken[index] = true;
                return Some(match state.culprit(self.tasks, node) {
                    Some(culprit) => Next::Skip(id, node, culprit.to_owned()),
                    None => Next::Run(id, node),
                });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A stage.
    pub(super) fn task(&self, id: &str) -> Option<(&'a str, &'a Node)> {
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
        let mut outcomes = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).outcomes;
        self.tasks.keys().filter_map(|id| Some((id.clone(), outcomes.swap_remove(id)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A stage's panic is caught where it runs, so a poisoned lock still guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
