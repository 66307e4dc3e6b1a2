//! The cells of a sweep.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, anyhow};
use indexmap::IndexMap;
use serde_json::Value;

use super::{
    Results,
    cell::{Cell, Settings},
    draw::{Domain, drawn},
    search::Search,
};
use crate::{
    engine::store::canonical_json,
    recipe::{Checked, Condition, Setting},
    spec::{self, Values},
};

/// How many draws in a row may come out as cells that were there, or have no place in the sweep.
const PATIENCE: usize = 100;

/// A sweep's search space, which lists its cells.
#[derive(Debug)]
pub struct Space {
    sweep: spec::Sweep,
    /// Conditions on single settings, by path.
    conditions: IndexMap<String, Condition>,
    when: Option<Condition>,
    /// Settings so far, not yet repeated with seeds.
    listed: Vec<Settings>,
    /// Their values.
    known: HashSet<String>,
    /// How many of them were given out.
    given: usize,
    search: Option<Search>,
}

impl Space {
    /// Reads the sweep of a recipe; `None` if it has none.
    ///
    /// # Errors
    /// Conditions that can't be worked out.
    pub fn new(checked: &Checked) -> Result<Option<Self>> {
        let Some(sweep) = checked.recipe.sweep.clone() else { return Ok(None) };
        let condition = |text: &str| Condition::new(text).map_err(|reason| anyhow!("the condition `{text}`: {reason}"));
        let mut conditions = IndexMap::new();
        let drawn = sweep.random.iter().map(|random| &random.values).chain(sweep.tpe.iter().map(|tpe| &tpe.values));
        for (path, values) in drawn.chain([&sweep.grid]).flatten() {
            if let Values::Range(spec::Range { when: Some(when), .. }) = values {
                conditions.insert(path.clone(), condition(when)?);
            }
        }
        let when = sweep.when.as_deref().map(condition).transpose()?;
        let search = sweep.tpe.as_ref().map(Search::new);
        let listed = if search.is_some() { Vec::new() } else { combinations(&sweep, checked) };
        let mut space = Self { sweep, conditions, when, listed: Vec::new(), known: HashSet::new(), given: 0, search };
        for settings in listed {
            space.list(settings)?;
        }
        Ok(Some(space))
    }

    /// Lists settings, if they have a place in the sweep and aren't there yet.
    fn list(&mut self, settings: Settings) -> Result<bool> {
        let Some(settings) = self.admitted(settings)? else { return Ok(false) };
        let values: BTreeMap<_, _> = settings.iter().map(|(path, setting)| (path, &setting.value)).collect();
        let is_new = self.known.insert(canonical_json(&serde_json::to_value(values)?));
        if is_new {
            self.listed.push(settings);
        }
        Ok(is_new)
    }

    /// The section itself.
    pub fn sweep(&self) -> &spec::Sweep {
        &self.sweep
    }

    /// How many cells a search may still give.
    pub fn to_come(&self) -> usize {
        let most = self.search.as_ref().map_or(self.given, Search::cells);
        most.saturating_sub(self.given) * self.sweep.repeat.as_ref().map_or(1, |repeat| repeat.seeds.len())
    }

    /// The next cells: all of them, or as many as a search draws at a time; none at the end.
    ///
    /// # Errors
    /// Conditions that can't be worked out.
    pub fn next(&mut self, checked: &Checked) -> Result<Vec<Cell>> {
        let before = self.given;
        if let Some(mut search) = self.search.take() {
            let wanted = before + search.batch(before);
            let mut attempts = 0;
            while self.listed.len() < wanted && attempts < PATIENCE {
                attempts += 1;
                // A search that has made up its mind is sent elsewhere.
                let settings = search.draw(checked, attempts > PATIENCE / 2)?;
                if self.list(settings)? {
                    attempts = 0;
                }
            }
            self.search = Some(search);
        }
        self.given = self.listed.len();
        Ok(self.repeated(before, checked))
    }

    /// Reports results to a search: the mean over the seeds; cells without one count as the worst.
    pub fn observe(&mut self, results: &Results) {
        let Some(search) = &mut self.search else { return };
        let sign = if self.sweep.maximize.is_some() { -1.0 } else { 1.0 };
        search.learn(
            results
                .groups
                .iter()
                .map(|group| (group.settings.clone(), group.objective.map(|summary| sign * summary.mean))),
        );
    }

    /// The cells of all settings but the first `before`, each with all seeds.
    fn repeated(&self, before: usize, checked: &Checked) -> Vec<Cell> {
        let seeds: Vec<Option<u64>> = match &self.sweep.repeat {
            Some(repeat) => repeat.seeds.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        let over = self.sweep.repeat.iter().flat_map(|repeat| &repeat.over);
        let over: Vec<&String> = over.collect();
        let settings = self.listed[before..].iter();
        let pairs = settings.flat_map(|settings| seeds.iter().enumerate().map(move |seed| (settings, seed)));
        (before * seeds.len() + 1..)
            .zip(pairs)
            .map(|(number, (settings, (at, seed)))| {
                let mut settings = settings.clone();
                if let Some(seed) = seed {
                    let place = checked.span(&format!("sweep.repeat.seeds.{at}"));
                    let setting = Setting { value: (*seed).into(), written: None, place };
                    settings.extend(over.iter().map(|path| ((*path).clone(), setting.clone())));
                }
                Cell { number, group: (number - 1) / seeds.len().max(1), settings, seed: *seed }
            })
            .collect()
    }

    /// The settings whose conditions hold, if the whole has a place in the sweep.
    ///
    /// # Errors
    /// Conditions that can't be worked out.
    fn admitted(&self, settings: Settings) -> Result<Option<Settings>> {
        let holds = |condition: &Condition, settings: &Settings| {
            let values = settings.iter().map(|(path, setting)| (path, &setting.value));
            condition.holds(values).map_err(|reason| anyhow!("the condition `{}`: {reason}", condition.text()))
        };
        let mut kept = Settings::new();
        for (path, setting) in settings {
            if self.conditions.get(&path).map_or(Ok(true), |condition| holds(condition, &kept))? {
                kept.insert(path, setting);
            }
        }
        let admitted = self.when.as_ref().map_or(Ok(true), |when| holds(when, &kept))?;
        Ok(admitted.then_some(kept))
    }
}

/// Every combination of what `list`, `zip`, `grid` and `random` give; the last of them varies fastest.
fn combinations(sweep: &spec::Sweep, checked: &Checked) -> Vec<Settings> {
    let at = |value: &Value, pointer: String| {
        let (written, place) = (checked.written(&pointer), checked.span(&pointer));
        Setting { value: value.clone(), written, place }
    };
    let mut axes: Vec<Vec<Settings>> = Vec::new();
    if !sweep.list.is_empty() {
        let cell = |(index, cell): (usize, &IndexMap<String, Value>)| {
            let setting =
                |(path, value): (&String, &Value)| (path.clone(), at(value, format!("sweep.list.{index}.{path}")));
            cell.iter().map(setting).collect()
        };
        axes.push(sweep.list.iter().enumerate().map(cell).collect());
    }
    if !sweep.zip.is_empty() {
        let length = sweep.zip.values().map(Vec::len).min().unwrap_or(0);
        let cell = |index: usize| {
            let setting = |(path, values): (&String, &Vec<Value>)| {
                (path.clone(), at(&values[index], format!("sweep.zip.{path}.{index}")))
            };
            sweep.zip.iter().map(setting).collect()
        };
        axes.push((0..length).map(cell).collect());
    }
    for (path, values) in &sweep.grid {
        let points = if let Values::Range(range) = values { range.points } else { None };
        let place = |index: usize| match values {
            Values::List(_) => format!("sweep.grid.{path}.{index}"),
            Values::Range(spec::Range { choice: Some(_), .. }) => format!("sweep.grid.{path}.choice.{index}"),
            Values::Range(_) => format!("sweep.grid.{path}"),
        };
        let values = Domain::new(values).grid(points);
        let setting = |(index, value)| Settings::from([(path.clone(), at(value, place(index)))]);
        axes.push(values.iter().enumerate().map(setting).collect());
    }
    if let Some(random) = &sweep.random {
        axes.push((0..random.cells).map(|index| drawn(&random.values, index, "random", checked)).collect());
    }
    let combine = |cells: Vec<Settings>, axis: Vec<Settings>| -> Vec<Settings> {
        let pairs = cells.iter().flat_map(|cell| axis.iter().map(move |more| (cell, more)));
        pairs
            .map(|(cell, more)| cell.iter().chain(more).map(|(path, set)| (path.clone(), set.clone())).collect())
            .collect()
    };
    if axes.is_empty() {
        return Vec::new();
    }
    axes.into_iter().fold(vec![Settings::new()], combine)
}
