//! What the store has of a sweep, without running anything.

use std::collections::BTreeMap;

use anyhow::Result;
use indexmap::IndexMap;

use super::{Planned, Planner, Results, Space};
use crate::{
    executor::{Ending, Outcome},
    plan::Node,
    recipe::Checked,
    store::{DigestCache, Store},
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
            if let Err(mistakes) = planner.add(&next)
                && let Some((mistake, _)) = mistakes.0.into_iter().next()
            {
                return Err(mistake);
            }
            let outcomes = lookup(planner.tasks(), store, digests)?;
            let results = Results::new(planner.cells(), &outcomes, space.sweep());
            let waits = results.cells.iter().any(|cell| cell.number > known && !cell.good);
            // What a search tries next depends on all that it has tried.
            if is_end || (waits && space.to_come() > 0) {
                return Ok(Self { cells: planner.cells().to_vec(), results });
            }
            space.tell(&results);
        }
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
        outcomes.insert(id.clone(), Outcome { kind, ending, key, seconds: 0.0, artifact, error: None });
    }
    Ok(outcomes)
}
