//! What a model can't do by its family ([`families`](crate::network::model::families)) is refused before anything runs.

use super::model::origin_of;
use crate::{
    network::model::{FAMILIES, Family},
    recipe::{Checks, Draft},
    spec::{Classification, Head, Instruction, Pooling},
};

/// What a linear head reads has to have seen the text.
pub(in crate::stages) fn readable(checks: &mut Checks<'_>, draft: &Draft, task: &Classification) {
    let Some((owner, family)) = family_of(checks, draft) else { return };
    if task.head == Head::Linear && task.pooling == Some(Pooling::First) && family.form.is_causal() {
        checks.report(
            checks.value(&draft.pointer("task.classification.pooling")),
            format!("the first token of {} sees nothing of the text", which(draft, &owner, family)),
            "set `pooling: last`, or `mean`".to_owned(),
        );
    }
}

/// Only models that write can answer instructions.
pub(in crate::stages) fn instructable(checks: &mut Checks<'_>, draft: &Draft, task: &Instruction) {
    if task.messages.is_some() && task.history.is_some() {
        checks.both(&draft.pointer("task.instruction.messages"), &draft.pointer("task.instruction.history"));
    }
    if task.messages.is_some() && task.input.is_some() {
        checks.both(&draft.pointer("task.instruction.messages"), &draft.pointer("task.instruction.input"));
    }
    let Some((owner, family)) = family_of(checks, draft) else { return };
    if family.chat.is_none() {
        checks.report(
            checks.key(&draft.pointer("task.instruction")),
            format!("{} does not write, so it cannot answer", which(draft, &owner, family)),
            format!("take one of another family: {}", writers().join(", ")),
        );
    }
}

/// The family of the model that a stage begins with, and the stage that makes it.
pub(super) fn family_of(checks: &Checks<'_>, draft: &Draft) -> Option<(String, &'static Family)> {
    let (owner, known) = origin_of(checks, draft)?;
    Some((owner, known.family))
}

/// The families that write.
fn writers() -> Vec<&'static str> {
    FAMILIES.all().into_iter().filter(|family| family.chat.is_some()).map(|family| family.name).collect()
}

/// The model, for messages.
pub(super) fn which(draft: &Draft, owner: &str, family: &Family) -> String {
    let family = family.name;
    if owner == draft.name { format!("a {family} model") } else { format!("the {family} model of `{owner}`") }
}
