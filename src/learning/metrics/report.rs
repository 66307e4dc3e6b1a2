//! The whole report on a classifier: its metrics beside the baselines, with and without leaked rows.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Classification, Confusion, Leaks, NaiveBayes, Scored, majority};

/// How many of the worst errors a report shows.
const WORST: usize = 20;

/// What `report.json` holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EvalReport {
    /// The labels; classes below are indices into this.
    pub labels: Vec<String>,
    /// Rows evaluated.
    pub rows: u64,
    /// Rows whose text the model was trained on.
    pub leaked_rows: u64,
    /// Rows whose text already stood in an earlier row.
    pub duplicate_rows: u64,
    /// Rows whose text stands in the split with another label too.
    pub contradictory_rows: u64,
    /// Metrics over all rows.
    pub all: ComparedMetrics,
    /// Metrics over the rows that aren't leaked; none where all are.
    pub without_leaks: Option<ComparedMetrics>,
    /// The wrong predictions with the highest loss, highest first.
    pub worst: Vec<WorstError>,
}

/// A model and the baselines on the same rows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ComparedMetrics {
    /// The model under evaluation.
    pub model: Classification,
    /// The best linear classifier on n-grams, trained on the same rows as the model; none where these aren't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<Baseline>,
    /// Naive Bayes on characters, trained on the same rows as the model.
    pub naive_bayes: Baseline,
    /// Always the most frequent training label.
    pub majority: Baseline,
}

/// What a baseline without probabilities reaches.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Baseline {
    /// Share of right predictions.
    pub accuracy: f64,
    /// Mean F1 of the classes that occur.
    pub macro_f1: f64,
}

/// A wrong prediction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WorstError {
    /// Which of its file's rows it is, from 1.
    pub row: u32,
    /// Its text.
    pub text: String,
    /// Its label.
    pub gold: String,
    /// What the model says.
    pub predicted: String,
    /// How probable the model finds what it says.
    pub probability: f64,
    /// `−ln p(gold)`, in nats.
    pub loss: f64,
}

impl EvalReport {
    /// The names of [`Self::metrics`].
    pub const METRICS: [&'static str; 16] = [
        "accuracy",
        "macro_f1",
        "log_loss",
        "expected_calibration_error",
        "majority_accuracy",
        "naive_bayes_accuracy",
        "rows",
        "leaked_rows",
        "duplicate_rows",
        "contradictory_rows",
        "accuracy_without_leaks",
        "macro_f1_without_leaks",
        "log_loss_without_leaks",
        "expected_calibration_error_without_leaks",
        "majority_accuracy_without_leaks",
        "naive_bayes_accuracy_without_leaks",
    ];

    /// Those that come with a linear classifier.
    pub const LINEAR_METRICS: [&'static str; 4] =
        ["linear_accuracy", "linear_macro_f1", "linear_accuracy_without_leaks", "linear_macro_f1_without_leaks"];

    /// Measures the rows. The baselines learn from `training`, pairs of text and label, which are the rows that the
    /// model was finetuned on; `leaks` comes from the same rows in the same order, and so does `linear`, what a linear
    /// classifier predicts.
    ///
    /// # Errors
    /// Where there are no rows, or one doesn't fit the labels.
    pub fn new(
        labels: &[String],
        rows: &[Scored],
        training: &[(&str, usize)],
        leaks: &Leaks,
        linear: Option<&[usize]>,
    ) -> Result<Self> {
        let classes = labels.len();
        let predicted = linear.map_or(rows.len(), <[usize]>::len);
        ensure!(predicted == rows.len(), "{} rows but {predicted} predictions of the baseline", rows.len());
        ensure!(leaks.leaked.len() == rows.len(), "{} rows but {} leak flags", rows.len(), leaks.leaked.len());
        rows.iter().try_for_each(|row| row.check(classes))?;
        if let Some((_, label)) = training.iter().find(|(_, label)| *label >= classes) {
            anyhow::bail!("training rows: label {label} out of {classes}");
        }

        let bayes = NaiveBayes::train(classes, training.iter().copied());
        let most_frequent = majority(classes, training.iter().map(|&(_, label)| label));
        let measured: Vec<BaselineRow> = rows
            .iter()
            .zip(&leaks.leaked)
            .enumerate()
            .map(|(index, (row, &leaked))| {
                let linear = linear.and_then(|linear| linear.get(index).copied());
                BaselineRow { row, bayes: bayes.predict(row.text), linear, leaked }
            })
            .collect();
        let Some(all) = ComparedMetrics::measure(classes, most_frequent, measured.iter()) else {
            anyhow::bail!("there are no rows to evaluate")
        };
        Ok(Self {
            labels: labels.to_vec(),
            rows: rows.len() as u64,
            leaked_rows: leaks.count(),
            duplicate_rows: leaks.duplicates,
            contradictory_rows: leaks.contradictory,
            all,
            without_leaks: ComparedMetrics::measure(classes, most_frequent, measured.iter().filter(|row| !row.leaked)),
            worst: worst_errors(labels, rows),
        })
    }

    /// The metrics by name; what couldn't be measured is null.
    pub fn metrics(&self) -> Map<String, Value> {
        let model = &self.all.model;
        let clean = self.without_leaks.as_ref();
        let linear = self.all.linear.map(|all| {
            let clean = clean.and_then(|metrics| metrics.linear);
            let values = [
                json!(all.accuracy),
                json!(all.macro_f1),
                json!(clean.map(|clean| clean.accuracy)),
                json!(clean.map(|clean| clean.macro_f1)),
            ];
            Self::LINEAR_METRICS.into_iter().zip(values)
        });
        [
            ("accuracy", json!(model.accuracy)),
            ("macro_f1", json!(model.macro_f1)),
            ("log_loss", json!(model.log_loss)),
            ("expected_calibration_error", json!(model.calibration.error)),
            ("majority_accuracy", json!(self.all.majority.accuracy)),
            ("naive_bayes_accuracy", json!(self.all.naive_bayes.accuracy)),
            ("rows", json!(self.rows)),
            ("leaked_rows", json!(self.leaked_rows)),
            ("duplicate_rows", json!(self.duplicate_rows)),
            ("contradictory_rows", json!(self.contradictory_rows)),
            ("accuracy_without_leaks", json!(clean.map(|metrics| metrics.model.accuracy))),
            ("macro_f1_without_leaks", json!(clean.map(|metrics| metrics.model.macro_f1))),
            ("log_loss_without_leaks", json!(clean.map(|metrics| metrics.model.log_loss))),
            ("expected_calibration_error_without_leaks", json!(clean.map(|metrics| metrics.model.calibration.error))),
            ("majority_accuracy_without_leaks", json!(clean.map(|metrics| metrics.majority.accuracy))),
            ("naive_bayes_accuracy_without_leaks", json!(clean.map(|metrics| metrics.naive_bayes.accuracy))),
        ]
        .into_iter()
        .chain(linear.into_iter().flatten())
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
}

/// A scored row with the baselines' predictions beside it.
struct BaselineRow<'a> {
    row: &'a Scored<'a>,
    bayes: usize,
    linear: Option<usize>,
    leaked: bool,
}

impl ComparedMetrics {
    fn measure<'a>(
        classes: usize,
        majority: usize,
        rows: impl Iterator<Item = &'a BaselineRow<'a>> + Clone,
    ) -> Option<Self> {
        Some(Self {
            model: Classification::measure(classes, rows.clone().map(|measured| measured.row))?,
            linear: rows
                .clone()
                .map(|measured| Some((measured.row.gold, measured.linear?)))
                .collect::<Option<Vec<_>>>()
                .and_then(|pairs| Baseline::measure(classes, pairs.into_iter())),
            naive_bayes: Baseline::measure(classes, rows.clone().map(|measured| (measured.row.gold, measured.bayes)))?,
            majority: Baseline::measure(classes, rows.map(|measured| (measured.row.gold, majority)))?,
        })
    }
}

impl Baseline {
    fn measure(classes: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Option<Self> {
        let confusion = Confusion::count(classes, pairs);
        Some(Self { accuracy: confusion.accuracy()?, macro_f1: confusion.macro_f1()? })
    }
}

/// Rows in the order in which people want to look at them: wrong ones first, then by falling loss, then as in the file.
pub(super) fn worst_first(rows: &[Scored]) -> Vec<usize> {
    let keys: Vec<(bool, f64)> = rows.iter().map(|row| (row.correct(), row.loss())).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| keys[a].0.cmp(&keys[b].0).then(keys[b].1.total_cmp(&keys[a].1)));
    order
}

fn worst_errors(labels: &[String], rows: &[Scored]) -> Vec<WorstError> {
    worst_first(rows)
        .into_iter()
        .map(|index| &rows[index])
        .take_while(|row| !row.correct())
        .take(WORST)
        .map(|row| WorstError {
            row: row.row,
            text: row.text.to_string(),
            gold: labels[row.gold].clone(),
            predicted: labels[row.predicted()].clone(),
            probability: row.confidence(),
            loss: row.loss(),
        })
        .collect()
}
