//! What a model can't do by its family ([`families`](crate::network::model::families)) is refused before anything runs.

use super::model::origin_of;
use crate::{
    network::model::families::{FAMILIES, Family},
    recipe::{Checks, Draft},
    spec::{Classification, Generative, Head, Instruction, Objective, Pooling},
};

/// The parts of an entry, as pointers from the entry.
fn parts(objective: &Objective) -> impl Iterator<Item = &'static str> {
    let generative = objective.generative.as_ref().map(|generative| match generative {
        Generative::CausalLm(_) => "generative.causal_lm",
        Generative::PrefixLm(_) => "generative.prefix_lm",
        Generative::BlankInfilling(_) => "generative.blank_infilling",
    });
    let given = [
        objective.masked_lm.as_ref().map(|_| "masked_lm"),
        objective.next_sentence.as_ref().map(|_| "next_sentence"),
        objective.sentence_order.as_ref().map(|_| "sentence_order"),
        generative,
    ];
    given.into_iter().flatten()
}

/// Objectives have to suit the model that the stage begins with.
pub(in crate::stages) fn learnable(checks: &mut Checks<'_>, draft: &Draft, objectives: &[Objective]) {
    let Some((owner, family)) = family_of(checks, draft) else { return };
    for (index, objective) in objectives.iter().enumerate() {
        for part in parts(objective) {
            let name = part.rsplit('.').next().unwrap_or(part);
            if family.objectives.contains(&name) {
                continue;
            }
            checks.report(
                checks.key(&draft.pointer(&format!("objectives.{index}.{part}"))),
                format!("{} cannot learn `{name}`", which(draft, &owner, family)),
                format!("{} learns {}; `glm` learns every objective", family.name, family.learns()),
            );
        }
    }
}

/// What a linear head reads has to have seen the text.
pub(in crate::stages) fn readable(checks: &mut Checks<'_>, draft: &Draft, task: &Classification) {
    let Some((owner, family)) = family_of(checks, draft) else { return };
    if task.head == Head::Linear && task.pooling == Pooling::First && family.form.is_causal() {
        checks.report(
            checks.value(&draft.pointer("task.classification.pooling")),
            format!("the first token of {} sees nothing of the text", which(draft, &owner, family)),
            "set `pooling: mean`".to_owned(),
        );
    }
}

/// Only models that write can answer instructions.
pub(in crate::stages) fn instructable(checks: &mut Checks<'_>, draft: &Draft, task: &Instruction) {
    if task.messages.is_some() && task.history.is_some() {
        checks.both(&draft.pointer("task.instruction.messages"), &draft.pointer("task.instruction.history"));
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
    FAMILIES.iter().filter(|family| family.chat.is_some()).map(|family| family.name).collect()
}

/// The model, for messages.
pub(super) fn which(draft: &Draft, owner: &str, family: &Family) -> String {
    let family = family.name;
    if owner == draft.name { format!("a {family} model") } else { format!("the {family} model of `{owner}`") }
}
