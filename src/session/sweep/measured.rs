//! What a halved training has measured: out of its artifact, or out of what the store remembers of its rungs.

use serde_json::Value;

use crate::{
    engine::{
        executor::Outcome,
        remote::{self, Remote},
        store::{Artifact, Store},
    },
    learning::train::Curve,
    stages::Measured,
};

/// What a training has measured that is at its end or paused at a rung; `None` if nothing is known. An artifact that's in
/// the remote alone has its curve there.
pub fn measured(outcome: &Outcome, store: &Store, remote: Option<&Remote>) -> Option<Measured> {
    match &outcome.artifact {
        Some(artifact) => of_artifact(artifact, remote),
        // A damaged record is as good as none: the training looks again.
        None => store.rung(outcome.key.as_ref()?).peek().ok().flatten(),
    }
}

fn of_artifact(artifact: &Artifact, remote: Option<&Remote>) -> Option<Measured> {
    let text = remote::small_file(artifact, Curve::FILE, remote)?;
    let number = |name: &str| artifact.metrics.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let step = number("steps")?;
    let steps = number("planned_steps").unwrap_or(step);
    let curve = Curve::parse(&String::from_utf8_lossy(&text));
    let evaluations = curve.evaluations().map(|(step, metrics)| (step, metrics.clone())).collect();
    Some(Measured { step, steps, ended: true, evaluations })
}
