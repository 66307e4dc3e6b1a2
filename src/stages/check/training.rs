//! How a stage trains: length, warm-up, dev metrics, and sequences that its model can take.

use super::model::{Known, origin_of, prefix_tokens};
use crate::{
    learning::train::{OPTIMIZERS, optimizers},
    recipe::{Checks, Draft},
    spec::{DevMetric, Optimizer, Train},
    support::suggest,
};

/// `dev` has the metrics that are measured on dev rows, and whether there are any; none for a stage that can't have them.
pub(in crate::stages) fn train(
    checks: &mut Checks<'_>,
    draft: &Draft,
    train: &Train,
    dev: Option<(&[DevMetric], bool)>,
) {
    let at = |field: &str| draft.pointer(&format!("train.{field}"));
    match (train.steps, train.epochs) {
        (Some(_), Some(_)) => checks.both(&at("steps"), &at("epochs")),
        (None, None) => checks.report(
            checks.key(&draft.pointer("train")),
            "`train` doesn't say how long",
            "give `epochs` or `steps`".to_owned(),
        ),
        _ => {}
    }
    if train.warmup_steps.is_some() && train.warmup_ratio.is_some() {
        checks.both(&at("warmup_steps"), &at("warmup_ratio"));
    }
    if let (Some(warmup), Some(steps)) = (train.warmup_steps, train.steps)
        && warmup > steps
    {
        let message = format!("the warm-up of {warmup} steps is longer than the training of {steps}");
        checks.report(checks.value(&at("warmup_steps")), message, None);
    }
    for (field, value) in [("beta1", train.beta1), ("beta2", train.beta2)] {
        if value >= 1.0 {
            checks.report(checks.value(&at(field)), format!("`{field}` must be less than 1"), None);
        }
    }
    optimizer(checks, draft, train);
    let early = train.early_stopping.as_ref().map(|early| ("early_stopping.metric", &early.metric));
    let best = train.keep_best.as_ref().map(|metric| ("keep_best", metric));
    for (field, metric) in early.into_iter().chain(best) {
        if let Some((metrics, _)) = dev
            && !metrics.contains(metric)
        {
            let hint = suggest::did_you_mean(metric.name(), metrics.iter().map(DevMetric::name), "the metrics are");
            let message = format!("no metric `{}` is measured on dev rows", checks.shown(&at(field)));
            checks.report(checks.value(&at(field)), message, hint);
        }
    }
    let watched = [
        ("early_stopping", train.early_stopping.is_some()),
        ("keep_best", train.keep_best.is_some()),
        ("evaluate_every", train.evaluate_every.is_some()),
    ];
    for (field, _) in watched.into_iter().filter(|(_, given)| *given && !dev.is_some_and(|(_, has_rows)| has_rows)) {
        let hint = match dev {
            Some(_) => "name them under `data.dev`",
            None => "only finetune stages have them; take it out",
        };
        checks.report(checks.key(&at(field)), format!("`{field}` needs dev rows"), hint.to_owned());
    }
    if let Some((owner, Known { family, max_length: Some(longest), has_positions })) = origin_of(checks, draft)
        && let prefix = prefix_tokens(draft).filter(|_| has_positions)
        && let taken = prefix.map_or(0, |tokens| family.on_disk.positions_taken(tokens))
        && train.max_length + taken > longest
    {
        let place = if owner == draft.name { "the model".to_owned() } else { format!("the model of `{owner}`") };
        let rest = longest.saturating_sub(taken);
        let behind = if taken > 0 { format!(" behind a prefix of {taken}") } else { String::new() };
        checks.report(
            checks.value(&at("max_length")),
            format!("sequences of {} tokens are longer than {place} can take{behind}, {rest}", train.max_length),
            format!("set `train.max_length` to {rest} at most, or the model's `max_length` higher"),
        );
    }
}

/// What makes steps is named, or it's AdamW with the settings beside the learning rate.
fn optimizer(checks: &mut Checks<'_>, draft: &Draft, train: &Train) {
    let Some(Optimizer { name, .. }) = &train.optimizer else { return };
    let at = |field: &str| draft.pointer(&format!("train.{field}"));
    for field in ["beta1", "beta2", "epsilon", "weight_decay"] {
        if checks.is_given(&at(field)) {
            checks.both(&at("optimizer"), &at(field));
        }
    }
    // Of a name that isn't known the types tell.
    if OPTIMIZERS.named(name).is_some()
        && let Err(error) = optimizers::of(train)
    {
        checks.report(checks.value(&at(&format!("optimizer.{name}"))), format!("{error:#}"), None);
    }
}
