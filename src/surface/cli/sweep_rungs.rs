//! What a sweep with successive halving is going to do: how far each rung is, how many cells will come to it, and the steps in all.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::progress::count;
use crate::{
    recipe::{Checked, Halved},
    session::sweep::{Halving, Judgement, Planner},
    spec::SuccessiveHalving,
    stages::{estimate::Lengths, facts_of},
};

/// A rung, or the end.
struct Rung {
    /// Steps of a training over those up to here.
    part: usize,
    settings: usize,
    cells: usize,
    /// The fewest and the most steps up to here, over all cells; none where they can't be told.
    steps: Option<(usize, usize)>,
}

/// The rungs of a sweep, the end as the last.
pub(super) struct Rungs {
    stage: String,
    metric: String,
    rungs: Vec<Rung>,
    /// Steps that the sweep will take and steps of the whole grid; exact where all cells are of the same length.
    total: Option<(usize, usize)>,
}

impl Rungs {
    /// Looks ahead, by the rows of each cell's data.
    ///
    /// # Errors
    /// If data can't be read, or a cell isn't measured often enough to tell the rungs apart.
    pub(super) fn new(
        halving: &Halving,
        settings: &SuccessiveHalving,
        planner: &Planner<'_>,
        checked: &Checked,
    ) -> Result<Self> {
        let Halved { stage, metric } = halving.halved.clone();
        let key = checked.recipe.sweep.as_ref().map_or("", |sweep| sweep.halving_key());
        let mut lengths = Lengths::default();
        let mut known = Vec::new();
        for planned in planner.cells() {
            let node = halving.task(planned).and_then(|task| planner.tasks().get(task));
            let length = node.map(|node| lengths.of(node, &facts_of(node)?)).transpose()?.flatten();
            if let Some((steps, every)) = length
                && let Some(message) =
                    Halved::clash(settings, &stage, steps, every, &format!("{every} of {steps} steps"))
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
            rungs.push(Rung {
                part: rung.map_or(1, |rung| rung.part),
                settings,
                cells: cells * settings / all,
                steps: ends,
            });
            sums.push((settings, steps.map(|steps| steps.iter().sum::<usize>())));
            settings = halving.promoted(settings);
        }
        // Whoever comes to a rung has all steps up to it; which cells these are isn't known, so the mean of all stands in.
        let mut used = Some(0.0);
        let mut below = 0;
        for (settings, sum) in &sums {
            used = used.zip(*sum).map(|(used, sum)| used + (sum - below) as f64 * *settings as f64 / all as f64);
            below = sum.unwrap_or_default();
        }
        let whole = sums.last().and_then(|(_, sum)| *sum);
        let total = used.zip(whole).map(|(used, whole)| (used.round() as usize, whole));
        Ok(Self { stage, metric, rungs, total })
    }

    /// As lines.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("successive halving of `{}` by dev {}:", self.stage, self.metric)];
        for (number, rung) in self.rungs.iter().enumerate() {
            let name = match number + 1 == self.rungs.len() {
                true => "the end".to_owned(),
                false => format!("rung {}, at 1/{} of the steps", number + 1, rung.part),
            };
            let steps = rung.steps.map_or_else(String::new, |steps| format!(", to step {}", span(steps)));
            let (settings, cells) = (count(rung.settings, "setting"), count(rung.cells, "cell"));
            lines.push(format!("  {name}: {settings}, {cells}{steps}"));
        }
        if let Some(total) = self.total {
            lines.push(format!("  about {}", share(total)));
        }
        lines.join("\n")
    }

    /// As the part of `--json`.
    pub(super) fn json(&self) -> Value {
        let rung = |rung: &Rung| {
            let steps = rung.steps.map(|(least, most)| if least == most { json!(least) } else { json!([least, most]) });
            json!({ "part": rung.part, "settings": rung.settings, "cells": rung.cells, "steps": steps })
        };
        self.value(self.rungs.iter().map(rung).collect(), self.total)
    }

    /// As the part of a result's `--json`: what became of each rung that was decided.
    pub(super) fn outcome(&self, judgement: &Judgement) -> Value {
        let rung = |(rung, (compared, going_on)): (&Rung, &(usize, usize))| json!({ "part": rung.part, "settings": compared, "going_on": going_on });
        let rungs = self.rungs.iter().zip(&judgement.decided).map(rung).collect();
        self.value(rungs, Some(judgement.steps))
    }

    fn value(&self, rungs: Vec<Value>, steps: Option<(usize, usize)>) -> Value {
        let (used, full) = steps.unzip();
        json!({ "stage": self.stage, "metric": self.metric, "rungs": rungs, "steps": used, "full_steps": full })
    }
}

fn span((least, most): (usize, usize)) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Such as `336 of 1296 steps, 26 %`.
pub(super) fn share((used, full): (usize, usize)) -> String {
    format!("{used} of {full} steps, {:.0} %", 100.0 * used as f64 / full.max(1) as f64)
}
