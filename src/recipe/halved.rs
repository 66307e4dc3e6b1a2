//! What a sweep's `successive_halving` takes in parts: which finetune stage, and the dev metric that cells are compared by.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::{Catalog, Checked, DevMetrics, walk::stage_fields};
use crate::spec::{DevMetric, Stage, SuccessiveHalving, Sweep};

/// The stages of a recipe by name.
pub(super) type Stages<'a> = IndexMap<&'a str, &'a Stage>;

/// The training that successive halving stops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Halved {
    /// The stage's name.
    pub stage: String,
    /// A metric on its dev rows.
    pub metric: DevMetric,
}

impl Halved {
    /// That of a checked recipe; `None` if its sweep has no `successive_halving`.
    pub fn of(checked: &Checked) -> Option<Self> {
        let recipe = &checked.recipe;
        let sweep = recipe.sweep.as_ref()?;
        let halving = sweep.halving()?;
        let stages = recipe.stages.iter().map(|(name, stage)| (name.as_str(), stage)).collect();
        let first = || candidates(checked.catalog(), &stages, sweep).first().map(|name| (*name).to_owned());
        let stage = halving.stage.clone().or_else(first)?;
        let metrics = dev_metrics(checked.catalog(), recipe.stages.get(&stage)?)?;
        let metric = halving.metric.clone().map_or_else(|| default_metric(&metrics, sweep), DevMetric::from);
        Some(Self { stage, metric })
    }

    /// What is wrong where measurements after every `every` of `steps` steps are too few to tell the rungs of a stage
    /// apart; `measured` says how often they are.
    pub fn clash(
        halving: &SuccessiveHalving,
        stage: &str,
        steps: usize,
        every: usize,
        measured: &str,
    ) -> Option<String> {
        let rungs = halving.rungs();
        let places = rungs.iter().map(|rung| rung.step(steps, every)).chain([steps]);
        let places: Vec<usize> = places.collect();
        let at = places.windows(2).position(|pair| pair[0] >= pair[1])?;
        let next = if at + 1 == rungs.len() { "the end".to_owned() } else { format!("rung {}", at + 2) };
        let part = rungs[at].part;
        Some(format!(
            "rung {} of `{stage}`, at 1/{part} of its steps, falls on {next}: dev rows are measured every {measured}",
            at + 1
        ))
    }
}

/// The stages with dev metrics that the objective depends on and that aren't the same in all cells.
pub(super) fn candidates<'a>(catalog: &Catalog, stages: &Stages<'a>, sweep: &Sweep) -> Vec<&'a str> {
    let before = needed(catalog, stages, sweep);
    let is_set = |name: &str| {
        sweep.paths().any(|path| path.strip_prefix("stages.").is_none_or(|rest| rest.split('.').next() == Some(name)))
    };
    let differs = |name: &str| closure(catalog, stages, name).into_iter().any(is_set);
    let all = stages.iter().filter(|(name, stage)| dev_metrics(catalog, stage).is_some() && before.contains(**name));
    all.map(|(name, _)| *name).filter(|name| differs(name)).collect()
}

/// The stages that the objective depends on, its own among them.
pub(super) fn needed<'a>(catalog: &Catalog, stages: &Stages<'a>, sweep: &Sweep) -> BTreeSet<&'a str> {
    let of = sweep.aim().and_then(|(path, _)| path.split('.').nth(1));
    of.map(|name| closure(catalog, stages, name)).unwrap_or_default()
}

/// A stage and all that it needs.
fn closure<'a>(catalog: &Catalog, stages: &Stages<'a>, name: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut queue = vec![name.to_owned()];
    while let Some(name) = queue.pop() {
        if let Some((name, stage)) = stages.get_key_value(name.as_str())
            && found.insert(*name)
        {
            queue.extend(stage_fields(catalog, stage).into_iter().map(|field| field.name));
        }
    }
    found
}

/// How a stage measures itself while it trains, if it does.
pub(super) fn dev_metrics(catalog: &Catalog, stage: &Stage) -> Option<DevMetrics> {
    catalog.kind(&stage.kind)?.dev_metrics(&stage.settings)
}

/// The metric on dev rows that says most about the objective.
fn default_metric(metrics: &DevMetrics, sweep: &Sweep) -> DevMetric {
    let objective = sweep.aim().and_then(|(path, _)| path.rsplit('.').next());
    let objective = objective.map(|metric| metric.strip_prefix("dev_").unwrap_or(metric));
    let objective = metrics.names.iter().find(|metric| Some(metric.name()) == objective);
    objective.unwrap_or(&metrics.preferred).clone()
}
