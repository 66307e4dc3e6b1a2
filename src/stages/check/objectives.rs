//! Rules of a pretraining mix: what may stand in an entry, and weights that leave something to draw.

use crate::{
    recipe::{Checks, Draft},
    spec::{Generative, Objective},
};

pub(in crate::stages) fn objectives(checks: &mut Checks<'_>, draft: &Draft, objectives: &[Objective]) {
    for (index, objective) in objectives.iter().enumerate() {
        self::objective(checks, &draft.pointer(&format!("objectives.{index}")), objective);
    }
    if !objectives.is_empty() && objectives.iter().all(|objective| objective.weight == 0.0) {
        checks.report(
            checks.key(&draft.pointer("objectives")),
            "all objectives have the weight 0",
            "give one of them a weight above 0".to_owned(),
        );
    }
}

fn objective(checks: &mut Checks<'_>, pointer: &str, objective: &Objective) {
    let at = |field: &str| format!("{pointer}.{field}");
    let pairs =
        [("next_sentence", objective.next_sentence.is_some()), ("sentence_order", objective.sentence_order.is_some())];
    let pair = pairs.iter().find(|(_, given)| *given).map(|(name, _)| *name);
    if objective.masked_lm.is_none() && pair.is_none() && objective.generative.is_none() {
        checks.report(
            checks.value(pointer),
            "the entry has no objective",
            "give `masked_lm`, `next_sentence`, `sentence_order` or `generative`".to_owned(),
        );
    }
    if pairs.iter().all(|(_, given)| *given) {
        checks.report(
            checks.key(&at("sentence_order")),
            "`next_sentence` and `sentence_order` cannot be judged on the same pairs",
            "make two entries of them".to_owned(),
        );
    }
    if objective.generative.is_some()
        && let Some(other) = objective.masked_lm.as_ref().map(|_| "masked_lm").or(pair)
    {
        checks.report(
            checks.key(&at("generative")),
            format!("`generative` cannot stand beside `{other}`"),
            "make two entries of them; each step draws one by `weight`".to_owned(),
        );
    }
    if let Some(masked) = &objective.masked_lm {
        // As with 0.8 + 0.1 + 0.1, sums of decimals may be off by a hair.
        let sum = masked.mask + masked.random;
        if sum > 1.0 + 1e-9 {
            checks.report(
                checks.value(&at("masked_lm.random")),
                format!("`mask` and `random` are shares of the same tokens, and add up to {}", round(sum)),
                "together they may be 1 at most".to_owned(),
            );
        }
        if masked.probability == 0.0 {
            checks.report(checks.value(&at("masked_lm.probability")), "with 0, no token is ever masked", None);
        }
    }
    match &objective.generative {
        Some(Generative::PrefixLm(spec)) if spec.min_prefix > spec.max_prefix => checks.report(
            checks.value(&at("generative.prefix_lm.min_prefix")),
            format!("the shortest prompt ({}) is longer than the longest ({})", spec.min_prefix, spec.max_prefix),
            None,
        ),
        Some(Generative::BlankInfilling(spec)) if spec.span + spec.sentence + spec.document == 0.0 => checks.report(
            checks.key(&at("generative.blank_infilling")),
            "`span`, `sentence` and `document` all have the weight 0",
            "give one of them a weight above 0".to_owned(),
        ),
        _ => {}
    }
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The largest share of an objective's tokens that are predicted.
pub(in crate::stages) fn predicted(objective: &Objective) -> f64 {
    let masked = objective.masked_lm.as_ref().map_or(0.0, |masked| masked.probability);
    let generated = match &objective.generative {
        None => 0.0,
        Some(Generative::CausalLm(_)) => 1.0,
        Some(Generative::PrefixLm(prefix)) => 1.0 - prefix.min_prefix,
        // Each blank is read and written, with a token to begin and one to end.
        Some(Generative::BlankInfilling(blanks)) if blanks.document > 0.0 => 1.0,
        Some(Generative::BlankInfilling(blanks)) => blanks.ratio * (1.0 + 1.0 / blanks.mean_span),
    };
    masked.max(generated).min(1.0)
}
