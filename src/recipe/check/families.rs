//! What each family of models can learn: an objective that it can't is refused before anything runs.

use super::{Check, Draft};
use crate::recipe::spec::{Generative, Head, Model, Objective, Pooling, Task};

/// What a family learns, for hints.
fn learned(model: &Model) -> &'static str {
    match model {
        Model::Glm(_) => "every objective",
        Model::Bert(_) => "`masked_lm`, `next_sentence` and `sentence_order`",
        Model::Gpt2(_) => "`generative: { causal_lm: {} }`",
    }
}

/// The parts of an entry that the family can't learn, as pointers from the entry.
fn beyond(model: &Model, objective: &Objective) -> Vec<&'static str> {
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
    let can = |part: &str| match model {
        Model::Glm(_) => true,
        Model::Bert(_) => !part.starts_with("generative"),
        Model::Gpt2(_) => part == "generative.causal_lm",
    };
    given.into_iter().flatten().filter(|part| !can(part)).collect()
}

impl Check<'_> {
    /// Objectives have to suit the model that the stage begins with.
    pub(super) fn learnable(&mut self, draft: &Draft, objectives: &[Objective]) {
        let Some((owner, model)) = self.origin_of(draft) else { return };
        for (index, objective) in objectives.iter().enumerate() {
            for part in beyond(&model, objective) {
                let name = part.rsplit('.').next().unwrap_or(part);
                self.report(
                    self.key(&draft.pointer(&format!("objectives.{index}.{part}"))),
                    format!("{} cannot learn `{name}`", which(draft, &owner, &model)),
                    format!("{} learns {}; `glm` learns every objective", model.family(), learned(&model)),
                );
            }
        }
    }

    /// Label words are generated, which takes a GLM; and what a linear head reads has to have seen the text.
    pub(super) fn readable(&mut self, draft: &Draft, task: &Task) {
        let Task::Classification(task) = task;
        let Some((owner, model)) = self.origin_of(draft) else { return };
        if task.head == Head::Prompt && !matches!(model, Model::Glm(_)) {
            self.report(
                self.key(&draft.pointer("task.classification.head")),
                format!("{} cannot classify by prompt", which(draft, &owner, &model)),
                "set `head: linear`, or take a `glm`".to_owned(),
            );
        }
        if task.head == Head::Linear && task.pooling == Pooling::First && matches!(model, Model::Gpt2(_)) {
            self.report(
                self.value(&draft.pointer("task.classification.pooling")),
                format!("the first token of {} sees nothing of the text", which(draft, &owner, &model)),
                "set `pooling: mean`".to_owned(),
            );
        }
    }
}

fn which(draft: &Draft, owner: &str, model: &Model) -> String {
    let family = model.family();
    if owner == draft.name { format!("a {family} model") } else { format!("the {family} model of `{owner}`") }
}
