//! Successive halving: which cells are promoted at each rung, by the metrics measured there. Nothing is run here and
//! nothing is drawn, so the same metrics always give the same answer, in whatever order they came in and at whichever call.
//!
//! A rung is decided when every cell on it has been measured (or has failed): this is the synchronous form of Jamieson and
//! Talwalkar 2016 (<https://arxiv.org/abs/1502.07943>). Asynchronous halving (Li et al. 2018,
//! <https://arxiv.org/abs/1810.05934>) promotes whichever is ahead by now, which keeps many machines busy but makes the
//! outcome depend on who comes in first.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::{PlannedCell, summary::Summary};
use crate::{
    engine::{
        executor::{Ending, Outcome},
        plan::Node,
    },
    recipe::{Checked, Halved},
    spec::{DevMetric, Rung},
    stages::{Measured, facts_of},
};

/// A sweep's `successive_halving`.
#[derive(Clone, Debug)]
pub struct Halving {
    /// The stage whose training is stopped, and the metric that decides.
    pub halved: Halved,
    /// The rungs, the lowest first.
    pub rungs: Vec<Rung>,
    /// Of so many settings at a rung one is promoted.
    pub reduction: usize,
}

/// What is known of the halved trainings, by task.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    /// What those have measured that have come to a rung, or to their end.
    pub measured: BTreeMap<String, Measured>,
    /// Those that have failed.
    pub failed: BTreeSet<String>,
}

/// Where a cell stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// How many rungs it has been compared at.
    pub compared: usize,
    /// Whether it was left there.
    pub stopped: bool,
    /// Steps that it was trained for as far as this counts.
    pub step: usize,
    /// Steps of its training as a whole.
    pub steps: usize,
    /// The metric then.
    pub dev_metric: Option<f64>,
}

/// A rung that can't be decided yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingRung {
    /// Its number, from 0.
    pub number: usize,
    /// Where it is.
    pub rung: Rung,
    /// The trainings that have yet to come to it.
    pub tasks: BTreeSet<String>,
}

/// Which cells are promoted, as far as is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promotions {
    /// By cell; of cells of which nothing is known there is none.
    pub standings: BTreeMap<usize, Standing>,
    /// For each rung that is decided, how many settings were compared and how many were promoted.
    pub decided: Vec<(usize, usize)>,
    /// The first rung that isn't.
    pub open: Option<PendingRung>,
    /// Steps of all halved trainings as far as they count, and if all of them went to their end; without those that failed.
    pub steps: (usize, usize),
}

impl Halving {
    /// That of a checked recipe; `None` if its sweep has no `successive_halving`.
    pub fn new(checked: &Checked) -> Option<Self> {
        let halved = Halved::of(checked)?;
        let halving = checked.recipe.sweep.as_ref()?.halving()?;
        Some(Self { halved, rungs: halving.rungs(), reduction: halving.reduction.max(2) })
    }

    /// The halved training of a cell.
    pub fn task<'a>(&self, planned: &'a PlannedCell) -> Option<&'a str> {
        planned.tasks.get(&self.halved.stage).map(String::as_str)
    }

    /// How many settings are promoted of so many.
    pub fn promoted(&self, settings: usize) -> usize {
        (settings / self.reduction).max(1)
    }

    /// Goes up rung by rung. What is compared are settings, by the mean over those of their seeds that didn't fail; of equal
    /// ones the first in the recipe's order is promoted.
    pub fn decide(&self, cells: &[PlannedCell], tasks: &IndexMap<String, Node>, known: &Measurements) -> Promotions {
        let groups = self.settings(cells, tasks, known);
        let mut promotions = Promotions::default();
        let mut alive: Vec<&Vec<Seed<'_>>> = groups.values().collect();
        for (number, rung) in self.rungs.iter().enumerate() {
            if alive.is_empty() {
                break;
            }
            let seeds = alive.iter().copied().flatten();
            let waits = seeds.filter(|seed| !seed.failed && seed.at(*rung).is_none());
            let tasks: BTreeSet<String> = waits.map(|seed| seed.task.to_owned()).collect();
            if !tasks.is_empty() {
                promotions.open = Some(PendingRung { number, rung: *rung, tasks });
                break;
            }
            let promoted = self.best(&alive, *rung);
            promotions.decided.push((alive.len(), promoted.len()));
            for (index, group) in alive.iter().enumerate() {
                for seed in group.iter() {
                    let Some((made, measured)) = seed.at(*rung).zip(seed.measured) else { continue };
                    let standing = Standing {
                        compared: number + 1,
                        stopped: !promoted.contains(&index),
                        step: made.last().map_or(measured.step, |(step, _)| *step),
                        steps: measured.steps,
                        dev_metric: self.dev_metric(seed, made),
                    };
                    promotions.standings.insert(seed.number, standing);
                }
            }
            alive = promoted.into_iter().map(|index| alive[index]).collect();
        }
        // Those that weren't stopped count as far as they are.
        for seed in alive.into_iter().flatten() {
            let Some(measured) = seed.measured else { continue };
            let standing = Standing {
                compared: promotions.decided.len(),
                stopped: false,
                step: measured.step,
                steps: measured.steps,
                dev_metric: self.dev_metric(seed, &measured.evaluations),
            };
            promotions.standings.insert(seed.number, standing);
        }
        promotions.steps = steps(groups.values().flatten(), &promotions.standings);
        promotions
    }

    /// The cells with a halved training, those with the same settings together.
    fn settings<'a>(
        &self,
        cells: &'a [PlannedCell],
        tasks: &'a IndexMap<String, Node>,
        known: &'a Measurements,
    ) -> BTreeMap<usize, Vec<Seed<'a>>> {
        let mut groups: BTreeMap<usize, Vec<Seed<'_>>> = BTreeMap::new();
        for planned in cells {
            let Some(task) = self.task(planned) else { continue };
            let keep_best = |node: &Node| facts_of(node).ok()?.training?.train.keep_best;
            groups.entry(planned.cell.group).or_default().push(Seed {
                number: planned.cell.number,
                task,
                keep_best: tasks.get(task).and_then(keep_best),
                measured: known.measured.get(task),
                failed: known.failed.contains(task),
            });
        }
        groups
    }

    /// The promoted settings, by their indices; none whose seeds have all failed.
    fn best(&self, alive: &[&Vec<Seed<'_>>], rung: Rung) -> BTreeSet<usize> {
        let mut ranked: Vec<(usize, f64)> = alive.iter().map(|group| self.loss(group, rung)).enumerate().collect();
        ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        ranked.truncate(self.promoted(alive.len()));
        ranked.into_iter().filter(|(_, loss)| loss.is_finite()).map(|(index, _)| index).collect()
    }

    /// What decides at a rung, less being better; infinite where no seed has a metric.
    fn loss(&self, group: &[Seed<'_>], rung: Rung) -> f64 {
        let metrics: Vec<f64> = group.iter().filter_map(|seed| self.dev_metric(seed, seed.at(rung)?)).collect();
        let sign = if self.less_is_better() { 1.0 } else { -1.0 };
        Summary::of(&metrics).map_or(f64::INFINITY, |summary| sign * summary.mean)
    }

    /// The metric of the weights that the stage would give if it ended here: the best by `keep_best`, or the last.
    fn dev_metric(&self, seed: &Seed<'_>, made: &[Evaluation]) -> Option<f64> {
        let kept = match &seed.keep_best {
            Some(metric) => {
                let mut values = made.iter().filter_map(|(_, metrics)| Some((metrics, *metrics.get(metric.name())?)));
                let first = values.next()?;
                values.fold(first, |best, next| if metric.is_better(next.1, best.1) { next } else { best }).0
            }
            None => &made.last()?.1,
        };
        kept.get(self.halved.metric.name()).copied()
    }

    /// Whether a lower value of the metric is the better one.
    pub fn less_is_better(&self) -> bool {
        self.halved.metric.less_is_better()
    }
}

/// The steps before a measurement, and the dev metrics.
type Evaluation = (usize, BTreeMap<String, f64>);

/// One of a setting's cells.
struct Seed<'a> {
    number: usize,
    task: &'a str,
    keep_best: Option<DevMetric>,
    measured: Option<&'a Measured>,
    failed: bool,
}

impl<'a> Seed<'a> {
    fn at(&self, rung: Rung) -> Option<&'a [Evaluation]> {
        self.measured?.until(rung)
    }
}

/// Steps that count and steps in all, a training that several cells share once.
fn steps<'a>(seeds: impl Iterator<Item = &'a Seed<'a>>, standings: &BTreeMap<usize, Standing>) -> (usize, usize) {
    let mut trainings: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for seed in seeds.filter(|seed| !seed.failed) {
        let Some(standing) = standings.get(&seed.number) else { continue };
        let (used, all) = trainings.entry(seed.task).or_default();
        (*used, *all) = ((*used).max(standing.step), standing.steps);
    }
    trainings.values().fold((0, 0), |(used, all), (more, of)| (used + more, all + of))
}

impl Promotions {
    /// Whether a cell was left at a rung.
    pub fn is_stopped(&self, number: usize) -> bool {
        self.standings.get(&number).is_some_and(|standing| standing.stopped)
    }

    /// The tasks of those of the cells that weren't stopped.
    pub fn promoted_tasks<'a>(&self, cells: impl IntoIterator<Item = &'a PlannedCell>) -> BTreeSet<&'a str> {
        let cells = cells.into_iter().filter(|planned| !self.is_stopped(planned.cell.number));
        cells.flat_map(|planned| planned.tasks.values()).map(String::as_str).collect()
    }

    /// Gives the stages that stopped cells leave undone an outcome that says so.
    pub fn mark(
        &self,
        cells: &[PlannedCell],
        tasks: &IndexMap<String, Node>,
        outcomes: &mut IndexMap<String, Outcome>,
    ) {
        let promoted = self.promoted_tasks(cells);
        for planned in cells {
            let standing = self.standings.get(&planned.cell.number).filter(|standing| standing.stopped);
            let Some(Standing { step, steps, .. }) = standing else { continue };
            for id in planned.tasks.values().filter(|id| !promoted.contains(id.as_str())) {
                let before = outcomes.get(id);
                let is_open = before.is_none_or(|before| !before.is_good() && before.ending != Ending::Failed);
                let Some(node) = tasks.get(id).filter(|_| is_open) else { continue };
                let key = before.and_then(|before| before.key.clone());
                let place = format!("stopped after step {step} of {steps}");
                let outcome = Outcome::without_artifact(&node.kind, Ending::Stopped, place);
                outcomes.insert(id.clone(), Outcome { key, ..outcome });
            }
        }
    }
}
