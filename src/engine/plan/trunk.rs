//! What trainings that differ in their length only have in common, and how far a run can go on instead of starting over.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    engine::store::{Manifest, State, Store},
    spec::{Length, Reached, Stage},
};

/// The key of what a training shares with longer ones: its manifest without the length. `None` where a longer one isn't
/// the same in every step, and for stages that don't train.
pub fn trunk(stage: &Stage, manifest: &Manifest) -> Option<String> {
    stage.train().filter(|train| train.begins_longer_ones())?;
    let mut manifest = manifest.clone();
    manifest.kind.push_str(" of any length");
    manifest.spec = without_length(manifest.spec)?;
    Some(manifest.key())
}

/// A training stage's spec without the length.
pub(super) fn without_length(mut spec: Value) -> Option<Value> {
    let train = spec.get_mut("train")?.as_object_mut()?;
    train.remove("steps");
    train.remove("epochs");
    Some(spec)
}

/// The step that a run of this stage would go on from: its own, if it was stopped, or that at which a shorter one ended.
pub fn continues_from(stage: &Stage, manifest: &Manifest, store: &Store) -> Option<usize> {
    let own = store.state(&manifest.key()).as_ref().and_then(reached).map(|reached| reached.step);
    let shorter = || {
        let reached = reached(&store.shared_state(&trunk(stage, manifest)?))?;
        let enough = match stage.train()?.length()? {
            Length::Steps(steps) => steps >= reached.step,
            length => reached.length.and_then(|other| length.reaches(other))?,
        };
        enough.then_some(reached.step)
    };
    own.max(shorter())
}

/// How far the training came whose state this is; `None` if there is none that can be gone on from.
pub fn reached(state: &State) -> Option<Reached> {
    #[derive(Deserialize)]
    struct Kept {
        reached: Reached,
    }
    state.peek::<Kept>().ok().flatten().map(|kept| kept.reached)
}
