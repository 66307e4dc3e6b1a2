//! `tpe`: the next cells out of those that were tried.
//!
//! Each setting is drawn on its own, by the sampler of the `optimizer` crate, from its history and a seed that depends on
//! nothing but the recipe's seed, the setting's path and the number of the draw. So a search that was interrupted finds
//! its results in the store and continues as if it hadn't been.

use std::collections::HashMap;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use optimizer::{
    distribution::{CategoricalDistribution, Distribution, FloatDistribution, IntDistribution},
    param::ParamValue,
    parameter::ParamId,
    sampler::{CompletedTrial, Sampler, tpe::TpeSampler},
};
use serde_json::Value;

use super::{
    cell::{Settings, drawn_setting},
    draw::{Domain, drawn, short},
};
use crate::{recipe::Checked, spec, support::random::Key};

/// A search and what it has learned.
#[derive(Debug)]
pub(super) struct Search {
    spec: spec::Tpe,
    /// Draws so far, also those that weren't cells.
    draws: usize,
    trials: Vec<(IndexMap<String, Value>, f64)>,
}

impl Search {
    pub(super) fn new(spec: &spec::Tpe) -> Self {
        Self { spec: spec.clone(), draws: 0, trials: Vec::new() }
    }

    /// The most cells that it gives.
    pub(super) fn cells(&self) -> usize {
        self.spec.cells
    }

    /// How many cells are drawn next, after so many: with the same knowledge, whatever is run side by side.
    pub(super) fn batch(&self, cells: usize) -> usize {
        let batch = if cells == 0 { self.spec.startup } else { self.spec.batch };
        batch.min(self.spec.cells - cells.min(self.spec.cells))
    }

    /// Takes note of all settings that were tried and how well they did: less is better, and nothing is as bad as the worst.
    pub(super) fn learn(&mut self, tried: impl Iterator<Item = (IndexMap<String, Value>, Option<f64>)>) {
        let mut tried: Vec<_> = tried.collect();
        // Whatever order results come in, the sampler sees the same.
        tried.sort_by_cached_key(|(settings, _)| serde_json::to_string(settings).unwrap_or_default());
        let worst = tried.iter().filter_map(|(_, loss)| *loss).fold(0.0, f64::max);
        self.trials = tried.into_iter().map(|(settings, loss)| (settings, loss.unwrap_or(worst))).collect();
    }

    /// The settings of another draw, at random where that's asked for or nothing is known.
    ///
    /// # Errors
    /// If the sampler finds fault with itself.
    pub(super) fn draw(&mut self, checked: &Checked, at_random: bool) -> Result<Settings> {
        let number = self.draws;
        self.draws += 1;
        if at_random || self.trials.len() < 2 {
            return Ok(drawn(&self.spec.values, number, "tpe", checked));
        }
        let mut settings = Settings::new();
        for (path, values) in &self.spec.values {
            let domain = Domain::new(values);
            let distribution = distribution(&domain);
            let id = ParamId::new();
            let history: Vec<CompletedTrial> = (0..)
                .zip(&self.trials)
                .filter_map(|(trial, (settings, loss))| {
                    let params = HashMap::from([(id, parameter(&domain, settings.get(path)?)?)]);
                    let distributions = HashMap::from([(id, distribution.clone())]);
                    Some(CompletedTrial::new(trial, params, distributions, HashMap::new(), *loss))
                })
                .collect();
            let seed = Key::new(checked.recipe.seed).with("tpe").with(path).at(number as u64).u64();
            let sampler = TpeSampler::builder().n_startup_trials(2).seed(seed).build().context("the search failed")?;
            let value = value(&domain, &sampler.sample(&distribution, number as u64, &history));
            settings.insert(path.clone(), drawn_setting(checked, &format!("sweep.tpe.values.{path}"), values, value));
        }
        Ok(settings)
    }
}

fn distribution(domain: &Domain) -> Distribution {
    match *domain {
        Domain::Choice(ref values) => Distribution::Categorical(CategoricalDistribution { n_choices: values.len() }),
        Domain::Line { low, high, log, whole: true } => {
            let (low, high) = (low as i64, high as i64);
            Distribution::Int(IntDistribution { low, high, log_scale: log, step: None })
        }
        Domain::Line { low, high, log, whole: false } => {
            Distribution::Float(FloatDistribution { low, high, log_scale: log, step: None })
        }
    }
}

/// A value as the sampler has it.
fn parameter(domain: &Domain, value: &Value) -> Option<ParamValue> {
    match domain {
        Domain::Choice(values) => values.iter().position(|other| other == value).map(ParamValue::Categorical),
        Domain::Line { whole: true, .. } => value.as_i64().map(ParamValue::Int),
        Domain::Line { whole: false, .. } => value.as_f64().map(ParamValue::Float),
    }
}

/// What the sampler has as a value.
fn value(domain: &Domain, parameter: &ParamValue) -> Value {
    match (domain, parameter) {
        (Domain::Choice(values), ParamValue::Categorical(index)) => values.get(*index).cloned().unwrap_or_default(),
        (_, ParamValue::Int(value)) => (*value).into(),
        (Domain::Line { low, high, .. }, ParamValue::Float(value)) => short(*value).clamp(*low, *high).into(),
        _ => Value::Null,
    }
}
