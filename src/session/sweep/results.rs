//! What became of the cells: ranked, and those that differ only in their seed put together.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use indexmap::IndexMap;
use serde_json::Value;

use super::{Halving, Promotions, Standing, planner::PlannedCell, summary::Summary};
use crate::{
    engine::executor::{Ending, Outcome},
    spec,
};

/// A sweep's results.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The cells, best first; those without an objective last.
    pub cells: Vec<CellResult>,
    /// Cells with the same settings and other seeds, best mean first.
    pub groups: Vec<Group>,
    /// The settings that aren't the same in all cells.
    pub varied: Vec<String>,
    /// The settings that are.
    pub fixed: Vec<(String, Value)>,
    /// The dev metric that cells were compared by at rungs, where they were.
    pub compared_by: Option<spec::DevMetric>,
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
    /// The metric that the sweep is about.
    pub objective: Option<f64>,
    /// How far it came, where training goes by rungs.
    pub standing: Option<Standing>,
    /// Its stages by name. One that several cells share counts as computed in the first of them only.
    pub stages: IndexMap<String, Outcome>,
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// All its stages are there.
    Done,
    /// It did worse than others at a rung, and was left there.
    Stopped,
    /// One of its stages failed.
    Failed,
    /// It wasn't run, or not to its end.
    Unfinished,
}

impl Status {
    /// The word in tables and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
        }
    }
}

impl CellResult {
    /// What became of it.
    pub fn status(&self) -> Status {
        let any = |ending: Ending| self.stages.values().any(|outcome| outcome.ending == ending);
        match self.good {
            true => Status::Done,
            false if any(Ending::Failed) => Status::Failed,
            false if any(Ending::Stopped) => Status::Stopped,
            false => Status::Unfinished,
        }
    }

    /// The stage that failed, and why.
    pub fn failure(&self) -> Option<(&str, &str)> {
        let (name, outcome) = self.stages.iter().find(|(_, outcome)| outcome.ending == Ending::Failed)?;
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
    /// The metric that the sweep is about, over the cells that have it.
    pub objective: Option<Summary>,
    /// The dev metric that they were compared by at rungs, as far as they came, over the cells that have it.
    pub dev_metric: Option<Summary>,
    /// How many rungs they were compared at.
    pub compared: usize,
}

impl Results {
    /// Ranks cells by what became of their stages, and those that were stopped by how far they came.
    pub fn new(
        planned: &[PlannedCell],
        outcomes: &IndexMap<String, Outcome>,
        sweep: &spec::Sweep,
        halving: Option<(&Halving, &Promotions)>,
    ) -> Self {
        let aim = sweep.aim();
        let mut seen = HashSet::new();
        let mut cells: Vec<CellResult> = planned
            .iter()
            .map(|PlannedCell { cell, tasks }| {
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
                    standing: None,
                    stages,
                }
            })
            .collect();
        if let Some((_, promotions)) = halving {
            for cell in &mut cells {
                cell.standing = promotions.standings.get(&cell.number).copied();
            }
        }
        let loss = |objective: Option<f64>, more_is_better: bool| match objective {
            Some(value) if more_is_better => -value,
            Some(value) => value,
            None => f64::INFINITY,
        };
        // Those without an objective by how far they came, and by what was measured there.
        let more_dev_is_better = halving.is_some_and(|(halving, _)| !halving.less_is_better());
        let rank = |objective: Option<f64>, compared: usize, dev_metric: Option<f64>| {
            let objective = loss(objective, aim.is_some_and(|(_, more)| more));
            (objective, Reverse(compared), loss(dev_metric, more_dev_is_better))
        };
        let order = |a: (f64, Reverse<usize>, f64), b: (f64, Reverse<usize>, f64)| {
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2))
        };
        let of_cell = |cell: &CellResult| {
            let (compared, dev_metric) =
                cell.standing.map_or((0, None), |standing| (standing.compared, standing.dev_metric));
            rank(cell.objective, compared, dev_metric)
        };
        cells.sort_by(|a, b| order(of_cell(a), of_cell(b)));
        let seeds: &[String] = sweep.repeat.as_ref().map_or(&[], |repeat| &repeat.over);
        let mut groups = groups(&cells, seeds);
        groups.sort_by(|a, b| {
            let mean = |summary: Option<Summary>| summary.map(|summary| summary.mean);
            let of = |group: &Group| rank(mean(group.objective), group.compared, mean(group.dev_metric));
            order(of(a), of(b))
        });
        let (varied, fixed) = varied(&groups);
        let compared_by = halving.map(|(halving, _)| halving.halved.metric.clone());
        Self { cells, groups, varied, fixed, compared_by }
    }
}

impl Results {
    /// What became of a group's cells, in words; of those that were stopped at which step.
    pub fn state(&self, group: &Group) -> String {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for cell in group.cells.iter().map(|index| &self.cells[*index]) {
            let word = match (cell.status(), cell.standing) {
                (Status::Stopped, Some(Standing { step, steps, .. })) => format!("stopped at step {step} of {steps}"),
                (status, _) => status.name().to_owned(),
            };
            *states.entry(word).or_insert(0) += 1;
        }
        if states.len() > 1 {
            // What is as it should be needs no count.
            states.remove(Status::Done.name());
            return states.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
        }
        states.into_keys().collect()
    }
}

fn groups(cells: &[CellResult], seeds: &[String]) -> Vec<Group> {
    let mut groups: IndexMap<String, Group> = IndexMap::new();
    for (index, cell) in cells.iter().enumerate() {
        let mut settings = cell.overrides.clone();
        settings.retain(|path, _| !seeds.contains(path));
        let key = serde_json::to_string(&settings).unwrap_or_default();
        let (cells, good, compared) = (Vec::new(), 0, 0);
        let new = Group { settings, cells, good, objective: None, dev_metric: None, compared };
        let group = groups.entry(key).or_insert(new);
        group.cells.push(index);
        group.good += usize::from(cell.good);
    }
    let summarize = |mut group: Group| {
        let of = |value: fn(&CellResult) -> Option<f64>| {
            Summary::of(&group.cells.iter().filter_map(|index| value(&cells[*index])).collect::<Vec<_>>())
        };
        (group.objective, group.dev_metric) = (of(|cell| cell.objective), of(|cell| cell.standing?.dev_metric));
        group.compared =
            group.cells.iter().filter_map(|index| cells[*index].standing).map(|one| one.compared).max().unwrap_or(0);
        group
    };
    groups.into_values().map(summarize).collect()
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
