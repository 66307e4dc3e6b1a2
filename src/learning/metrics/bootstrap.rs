//! How sure one may be of what was measured on so many rows: of a model's figures, and of the difference between two models
//! that were measured on the same rows.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::{Confusion, predictions::Predicted};
use crate::support::random::Key;

/// The share of resamples that an interval leaves out at either end.
const TAIL: f64 = 0.025;

/// What intervals are of.
const NAMES: [&str; 3] = ["accuracy", "macro_f1", "log_loss"];

/// Two models' predictions for the same rows.
#[derive(Clone, Debug)]
pub struct Paired {
    classes: usize,
    rows: Vec<PairedRow>,
    /// Rows that only one of the two has.
    pub unpaired: usize,
}

#[derive(Clone, Copy, Debug)]
struct PairedRow {
    gold: usize,
    predicted: [usize; 2],
    loss: [f64; 2],
}

/// The difference of a metric, the second model's less the first's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// On the rows as they are.
    pub difference: f64,
    /// The lower end of the 95 % interval,
    pub low: f64,
    /// and the upper one.
    pub high: f64,
}

/// A metric of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// On the rows as they are.
    pub value: f64,
    /// The lower end of the 95 % interval,
    pub low: f64,
    /// and the upper one.
    pub high: f64,
}

/// A model's accuracy, macro F1 and log-loss with their bootstrap intervals, as [`Paired::intervals`] has those of two.
/// Empty where there are no rows.
pub fn estimates(rows: &[Predicted], resamples: usize, seed: u64) -> Vec<(&'static str, Estimate)> {
    let paired = Paired::new(rows, rows);
    let drawn = paired.resampled(resamples, seed, &|picks| paired.measure(0, picks));
    drawn.into_iter().map(|(name, value, [low, high])| (name, Estimate { value, low, high })).collect()
}

impl Paired {
    /// Pairs rows by their number and text.
    pub fn new(first: &[Predicted], second: &[Predicted]) -> Self {
        let both = || first.iter().chain(second);
        let labels: BTreeSet<&str> = both().flat_map(|row| [row.label.as_str(), row.predicted.as_str()]).collect();
        let numbers: HashMap<&str, usize> = labels.iter().enumerate().map(|(number, label)| (*label, number)).collect();
        let class = |label: &String| numbers.get(label.as_str()).copied().unwrap_or_default();
        let place = |row: &Predicted| (row.file, row.row);
        let others: HashMap<((u32, u32), &str), &Predicted> =
            second.iter().map(|row| ((place(row), row.text.as_str()), row)).collect();
        let mut pairs: Vec<((u32, u32), PairedRow)> = first
            .iter()
            .filter_map(|row| Some((row, *others.get(&(place(row), row.text.as_str()))?)))
            .filter(|(row, other)| row.label == other.label)
            .map(|(row, other)| {
                let predicted = [class(&row.predicted), class(&other.predicted)];
                (place(row), PairedRow { gold: class(&row.label), predicted, loss: [row.loss, other.loss] })
            })
            .collect();
        // Files have the worst rows first, which are others for each model.
        pairs.sort_by_key(|(number, _)| *number);
        let unpaired = first.len() + second.len() - 2 * pairs.len();
        Self { classes: numbers.len(), rows: pairs.into_iter().map(|(_, row)| row).collect(), unpaired }
    }

    /// How many rows both have.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Differences in accuracy, macro F1 and log-loss, each with its paired bootstrap interval: rows are drawn with
    /// replacement, both models are measured on them, and the interval is between the 2.5th and the 97.5th percentile of
    /// the differences (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; for pairs of systems
    /// Koehn 2004, <https://aclanthology.org/W04-3250>). Empty where no row is in both.
    pub fn intervals(&self, resamples: usize, seed: u64) -> Vec<(&'static str, Interval)> {
        let drawn = self.resampled(resamples, seed, &|picks| self.differences(picks));
        drawn.into_iter().map(|(name, difference, [low, high])| (name, Interval { difference, low, high })).collect()
    }

    /// Of each metric its name, its value on all rows, and the ends of its interval.
    fn resampled(
        &self,
        resamples: usize,
        seed: u64,
        measure: &dyn Fn(&[usize]) -> [f64; 3],
    ) -> Vec<(&'static str, f64, [f64; 2])> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let whole = measure(&(0..self.rows.len()).collect::<Vec<_>>());
        let mut drawn: [Vec<f64>; 3] = Default::default();
        let key = Key::new(seed).with("bootstrap");
        for resample in 0..resamples {
            let mut stream = key.at(resample as u64).stream();
            let picks: Vec<usize> = (0..self.rows.len()).map(|_| stream.below(self.rows.len())).collect();
            drawn.iter_mut().zip(measure(&picks)).for_each(|(all, value)| all.push(value));
        }
        let interval = |((name, value), mut drawn): ((&'static str, f64), Vec<f64>)| {
            drawn.sort_by(f64::total_cmp);
            (name, value, [quantile(&drawn, TAIL), quantile(&drawn, 1.0 - TAIL)])
        };
        NAMES.into_iter().zip(whole).zip(drawn).map(interval).collect()
    }

    fn differences(&self, picks: &[usize]) -> [f64; 3] {
        let (first, second) = (self.measure(0, picks), self.measure(1, picks));
        std::array::from_fn(|metric| second[metric] - first[metric])
    }

    /// The metrics of one of the two on these rows.
    fn measure(&self, side: usize, picks: &[usize]) -> [f64; 3] {
        let rows = picks.iter().map(|at| &self.rows[*at]);
        let confusion = Confusion::count(self.classes, rows.clone().map(|row| (row.gold, row.predicted[side])));
        let count = confusion.rows().max(1) as f64;
        let loss = rows.map(|row| row.loss[side]).sum::<f64>() / count;
        [confusion.accuracy().unwrap_or_default(), confusion.macro_f1().unwrap_or_default(), loss]
    }
}

/// The value below which this share lies, by linear interpolation between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len().max(1) - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (place - place.floor()) * (high - low),
        _ => f64::NAN,
    }
}
