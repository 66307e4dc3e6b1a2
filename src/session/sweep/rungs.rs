//! What a sweep by rungs is going to do: how far each rung is, how many cells will come to it, and the steps in all.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Halving, Planner};
use crate::{
    recipe::{Checked, Halved},
    spec::DevMetric,
    stages::{estimate::Lengths, facts_of},
};

/// A rung, or the end.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRung {
    /// Steps of a training over those up to here.
    pub part: usize,
    /// Settings that come to it.
    pub settings: usize,
    /// Cells that do.
    pub cells: usize,
    /// The fewest and the most steps up to here, over all cells; none where they're unknown.
    pub steps: Option<(usize, usize)>,
}

/// The rungs of a sweep, the end as the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Rungs {
    /// The stage whose training goes by rungs.
    pub stage: String,
    /// The dev metric that cells are compared by.
    pub metric: DevMetric,
    /// The rungs, the lowest first.
    pub rungs: Vec<PlannedRung>,
    /// Steps that the sweep will take and steps of the whole grid; exact where all cells are of the same length.
    pub total: Option<(usize, usize)>,
}

impl Rungs {
    /// Looks ahead, by the rows of each cell's data. `None` if cells aren't stopped early.
    ///
    /// # Errors
    /// If data can't be read, or a cell isn't measured often enough to distinguish the rungs.
    pub fn new(halving: &Halving, planner: &Planner<'_>, checked: &Checked) -> Result<Option<Self>> {
        let settings = checked.recipe.sweep.as_ref().and_then(|sweep| Some((sweep.halving()?, sweep.halving_key())));
        let Some((successive_halving, key)) = settings else { return Ok(None) };
        let Halved { stage, metric } = halving.halved.clone();
        let mut lengths = Lengths::default();
        let mut known = Vec::new();
        for planned in planner.cells() {
            let node = halving.task(planned).and_then(|task| planner.tasks().get(task));
            let length = node.map(|node| lengths.of(node, &facts_of(node)?)).transpose()?.flatten();
            if let Some((steps, every)) = length
                && let often = format!("{every} of {steps} steps")
                && let Some(message) = Halved::clash(successive_halving, &stage, steps, every, &often)
            {
                let hint = format!("set `evaluate_every` of `{stage}` lower, or `rungs` of the sweep");
                return Err(checked.diagnose(&format!("sweep.{key}"), message, hint).into());
            }
            known.push(length);
        }
        let known: Option<Vec<(usize, usize)>> = known.into_iter().collect();
        let groups: BTreeSet<usize> = planner.cells().iter().map(|planned| planned.cell.group).collect();
        let (cells, mut settings) = (planner.cells().len(), groups.len());
        let all = settings.max(1);
        let mut rungs = Vec::new();
        let mut sums = Vec::new();
        for rung in halving.rungs.iter().copied().map(Some).chain([None]) {
            let to = |(steps, every): &(usize, usize)| rung.map_or(*steps, |rung| rung.step(*steps, *every));
            let steps: Option<Vec<usize>> = known.as_ref().map(|known| known.iter().map(to).collect());
            let ends = steps.as_ref().and_then(|steps| Some((*steps.iter().min()?, *steps.iter().max()?)));
            rungs.push(PlannedRung {
                part: rung.map_or(1, |rung| rung.part),
                settings,
                cells: cells * settings / all,
                steps: ends,
            });
            sums.push((settings, steps.map(|steps| steps.iter().sum::<usize>())));
            settings = halving.promoted(settings);
        }
        // A cell that reaches a rung has all steps up to it; which cells these are isn't known, so the mean of all
        // stands in.
        let mut used = Some(0.0);
        let mut below = 0;
        for (settings, sum) in &sums {
            used = used.zip(*sum).map(|(used, sum)| used + (sum - below) as f64 * *settings as f64 / all as f64);
            below = sum.unwrap_or_default();
        }
        let whole = sums.last().and_then(|(_, sum)| *sum);
        let total = used.zip(whole).map(|(used, whole)| (used.round() as usize, whole));
        Ok(Some(Self { stage, metric, rungs, total }))
    }
}
