//! What became of the cells: ranked, and those that differ only in their seed put together.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::Value;

use super::planner::Planned;
use crate::{
    executor::{Ending, Outcome},
    recipe::spec,
};

/// A sweep's results.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The cells, best first; those without a figure last.
    pub cells: Vec<CellResult>,
    /// Cells with the same settings and other seeds, best mean first.
    pub groups: Vec<Group>,
    /// The settings that aren't the same in all cells.
    pub varied: Vec<String>,
    /// The settings that are.
    pub fixed: Vec<(String, Value)>,
}

/// One cell.
#[derive(Clone, Debug)]
pub struct CellResult {
    /// Its number, from 1, in the order of the recipe.
    pub number: usize,
    /// Its settings by dotted path, seeds of repeats among them.
    pub overrides: IndexMap<String, Value>,
    /// Its seed, where cells are repeated.
    pub seed: Option<u64>,
    /// Whether all its stages are there.
    pub good: bool,
    /// The figure that the sweep is about.
    pub objective: Option<f64>,
    /// Its stages by name. One that several cells share counts as computed in the first of them only.
    pub stages: IndexMap<String, Outcome>,
}

impl CellResult {
    /// The stage that failed, and why.
    pub fn failure(&self) -> Option<(&str, &str)> {
        let failed = self.stages.iter().find(|(_, outcome)| outcome.ending == Ending::Failed);
        let (name, outcome) = failed.or_else(|| self.stages.iter().find(|(_, outcome)| !outcome.is_good()))?;
        Some((name, outcome.error.as_deref().unwrap_or_default()))
    }
}

/// The same settings with several seeds.
#[derive(Clone, Debug)]
pub struct Group {
    /// The settings, without seeds of repeats.
    pub settings: IndexMap<String, Value>,
    /// Its cells, as indices into [`Results::cells`].
    pub cells: Vec<usize>,
    /// How many of them are good.
    pub good: usize,
    /// The figure that the sweep is about, over the cells that have it.
    pub objective: Option<Spread>,
}

/// A mean and how far the values lie around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample's standard deviation, with `n − 1`; none for a single value.
    pub deviation: Option<f64>,
    /// How many values.
    pub count: usize,
}

impl Spread {
    /// Measures values; none where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { mean, deviation, count })
    }
}

impl Results {
    /// Ranks cells by what became of their stages.
    pub fn new(planned: &[Planned], outcomes: &IndexMap<String, Outcome>, sweep: &spec::Sweep) -> Self {
        let aim = sweep.aim();
        let mut seen = HashSet::new();
        let mut cells: Vec<CellResult> = planned
            .iter()
            .map(|Planned { cell, tasks }| {
                let mut stages = IndexMap::new();
                for (name, id) in tasks {
                    let Some(outcome) = outcomes.get(id) else { continue };
                    let mut outcome = outcome.clone();
                    if !seen.insert(id) && outcome.ending == Ending::Ran {
                        (outcome.ending, outcome.seconds) = (Ending::Hit, 0.0);
                    }
                    stages.insert(name.clone(), outcome);
                }
                CellResult {
                    number: cell.number,
                    overrides: cell.values().map(|(path, value)| (path.clone(), value.clone())).collect(),
                    seed: cell.seed,
                    good: stages.values().all(Outcome::is_good),
                    objective: aim.and_then(|(path, _)| metric(&stages, path)),
                    stages,
                }
            })
            .collect();
        let rank = |objective: Option<f64>| match (objective, aim) {
            (Some(value), Some((_, true))) => -value,
            (Some(value), _) => value,
            (None, _) => f64::INFINITY,
        };
        cells.sort_by(|a, b| rank(a.objective).total_cmp(&rank(b.objective)));
        let seeds: &[String] = sweep.repeat.as_ref().map_or(&[], |repeat| &repeat.over);
        let mut groups = groups(&cells, seeds);
        groups.sort_by(|a, b| {
            let mean = |group: &Group| rank(group.objective.map(|spread| spread.mean));
            mean(a).total_cmp(&mean(b))
        });
        let (varied, fixed) = varied(&groups);
        Self { cells, groups, varied, fixed }
    }
}

fn groups(cells: &[CellResult], seeds: &[String]) -> Vec<Group> {
    let mut groups: IndexMap<String, Group> = IndexMap::new();
    for (index, cell) in cells.iter().enumerate() {
        let mut settings = cell.overrides.clone();
        settings.retain(|path, _| !seeds.contains(path));
        let key = serde_json::to_string(&settings).unwrap_or_default();
        let group = groups.entry(key).or_insert(Group { settings, cells: Vec::new(), good: 0, objective: None });
        group.cells.push(index);
        group.good += usize::from(cell.good);
    }
    let spread = |mut group: Group| {
        let values: Vec<f64> = group.cells.iter().filter_map(|index| cells[*index].objective).collect();
        group.objective = Spread::of(&values);
        group
    };
    groups.into_values().map(spread).collect()
}

/// The settings that differ between groups, and those that don't.
fn varied(groups: &[Group]) -> (Vec<String>, Vec<(String, Value)>) {
    let mut paths: Vec<&String> = Vec::new();
    for path in groups.iter().flat_map(|group| group.settings.keys()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let (mut varied, mut fixed) = (Vec::new(), Vec::new());
    for path in paths {
        let first = groups.first().and_then(|group| group.settings.get(path));
        match first {
            Some(value) if groups.iter().all(|group| group.settings.get(path) == first) && groups.len() > 1 => {
                fixed.push((path.clone(), value.clone()));
            }
            _ => varied.push(path.clone()),
        }
    }
    (varied, fixed)
}

/// The metric at `stages.NAME.metrics.METRIC`.
fn metric(stages: &IndexMap<String, Outcome>, path: &str) -> Option<f64> {
    let ["stages", stage, "metrics", metric] = path.split('.').collect::<Vec<_>>()[..] else { return None };
    stages.get(stage)?.artifact.as_ref()?.metrics.get(metric)?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_samples() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("values");
        assert_eq!((spread.mean, spread.count), (5.0, 8));
        assert!((spread.deviation.expect("a deviation") - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[1.5]), Some(Spread { mean: 1.5, deviation: None, count: 1 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
