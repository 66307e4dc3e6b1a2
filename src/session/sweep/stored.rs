//! What the store has of a sweep, without running anything.

use std::collections::BTreeMap;

use anyhow::Result;
use indexmap::IndexMap;

use super::{Halving, Judgement, Known, Planned, Planner, Results, Space, measured};
use crate::{
    engine::{
        executor::{Ending, Measured, Outcome},
        plan::Node,
        store::{DigestCache, Metrics, Store},
    },
    recipe::Checked,
};

/// A sweep as far as it has been run.
#[derive(Debug)]
pub struct Stored {
    /// Its cells; of a search those that are known by now.
    pub cells: Vec<Planned>,
    /// Their results; stages that aren't stored count as not run.
    pub results: Results,
}

impl Stored {
    /// Looks up all cells.
    ///
    /// # Errors
    /// If a cell can't run, or the store or an input can't be read.
    pub fn find(
        mut space: Space,
        mut planner: Planner<'_>,
        checked: &Checked,
        store: &Store,
        digests: &mut DigestCache,
    ) -> Result<Self> {
        loop {
            let next = space.next(checked)?;
            let known = planner.cells().len();
            let is_end = next.is_empty();
            // What a search tried midway and couldn't run is left out, as it was then.
            if let Err(mistakes) = planner.add(&next)
                && known == 0
                && let Some((mistake, _)) = mistakes.0.into_iter().next()
            {
                return Err(mistake);
            }
            let mut outcomes = lookup(planner.tasks(), store, digests)?;
            let judged = Halving::new(checked).map(|halving| {
                let judgement = look_back(&halving, &planner, store, &outcomes);
                judgement.mark(planner.cells(), planner.tasks(), &mut outcomes);
                (halving, judgement)
            });
            let judged = judged.as_ref().map(|(halving, judgement)| (halving, judgement));
            let results = Results::new(planner.cells(), &outcomes, space.sweep(), judged);
            let waits = results.cells.iter().any(|cell| cell.number > known && !cell.good);
            // What a search tries next depends on all that it has tried.
            if is_end || (waits && space.to_come() > 0) {
                return Ok(Self { cells: planner.cells().to_vec(), results });
            }
            space.tell(&results);
        }
    }
}

/// Who was stopped at which rung. A cell that has left nothing at a rung which others got beyond had failed there.
pub fn look_back(
    halving: &Halving,
    planner: &Planner<'_>,
    store: &Store,
    outcomes: &IndexMap<String, Outcome>,
) -> Judgement {
    let mut known = Known::default();
    for task in planner.cells().iter().filter_map(|planned| halving.task(planned)) {
        let found = outcomes.get(task).and_then(|outcome| measured(outcome, store, None));
        known.measured.extend(found.map(|measured| (task.to_owned(), measured)));
    }
    loop {
        let judgement = halving.judge(planner.cells(), planner.tasks(), &known);
        let Some(open) = &judgement.open else { return judgement };
        let next = halving.rungs.get(open.number + 1);
        let is_past = |measured: &Measured| next.map_or(measured.ended, |next| measured.until(*next).is_some());
        if !known.measured.values().any(is_past) {
            return judgement;
        }
        known.failed.extend(open.tasks.iter().cloned());
    }
}

/// What the store has of tasks, each after those that it needs: hits, and stages that weren't run.
///
/// # Errors
/// If an input can't be read.
pub fn lookup(
    tasks: &IndexMap<String, Node>,
    store: &Store,
    digests: &mut DigestCache,
) -> Result<IndexMap<String, Outcome>> {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut outcomes = IndexMap::new();
    for (id, node) in tasks {
        let manifest = node.manifest(digests, &|need| known.get(need).cloned())?;
        let key = manifest.map(|manifest| manifest.key());
        let artifact = key.as_deref().and_then(|key| store.find(key).ok().flatten());
        known.extend(artifact.as_ref().map(|artifact| (id.as_str(), artifact.digest.clone())));
        let ending = if artifact.is_some() { Ending::Hit } else { Ending::NotRun };
        let kind = node.stage.kind();
        outcomes.insert(
            id.clone(),
            Outcome { kind, ending, key, seconds: 0.0, artifact, error: None, so_far: Metrics::new() },
        );
    }
    Ok(outcomes)
}
