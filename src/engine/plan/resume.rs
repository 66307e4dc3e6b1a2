//! How far a run can resume instead of starting over: from the stage's own state, or from where a shorter one ended.

use serde::Deserialize;

use super::{Length, Node, Reached};
use crate::engine::store::{Manifest, State, Store};

/// The step that a run of this stage would resume from.
pub(super) fn resumes_from(node: &Node, manifest: &Manifest, store: &Store) -> Option<usize> {
    let own = store.state(&manifest.key()).as_ref().and_then(reached).map(|reached| reached.step);
    let shorter = || {
        let reached = reached(&store.shared_state(&node.trunk_key(manifest)?))?;
        let enough = match node.trunk.as_ref()?.length {
            Length::Steps(steps) => steps >= reached.step,
            length => reached.length.and_then(|other| length.reaches(other))?,
        };
        enough.then_some(reached.step)
    };
    own.max(shorter())
}

/// How far the stage came whose state this is; `None` if there is none that can be resumed.
pub fn reached(state: &State) -> Option<Reached> {
    #[derive(Deserialize)]
    struct Kept {
        reached: Reached,
    }
    state.peek::<Kept>().ok().flatten().map(|kept| kept.reached)
}
