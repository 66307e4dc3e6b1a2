//! How good what a model says of rows is.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, StringArray, UInt32Array};
use fs_err as fs;
use serde::Serialize;
use serde_json::json;

use super::reader::Wanted;
use crate::{
    engine::store::Metrics,
    learning::{
        metrics::{HALF, Regression, SeveralLabels},
        train,
    },
    spec::Outputs,
    stages::{
        metrics::{CUT_ROWS, ROWS},
        parts::records,
    },
};

/// What is said of rows that have several labels, beside those that they have.
pub(super) fn judged<'a>(
    rows: &'a [Wanted],
    said: &'a [Vec<f64>],
) -> impl Iterator<Item = (&'a [f64], &'a [f32])> + Clone {
    rows.iter().zip(said).map(|(row, said)| (said.as_slice(), row.wanted.as_slice()))
}

/// How good what is said of rows is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measured {
    MultiLabel(SeveralLabels),
    Regression(Regression),
}

impl Measured {
    /// None where there are no rows.
    pub(super) fn of<'a>(
        task: &Outputs,
        threshold: Option<f64>,
        rows: impl IntoIterator<Item = &'a Wanted>,
        said: impl IntoIterator<Item = &'a Vec<f64>>,
    ) -> Option<Self> {
        let pairs = rows.into_iter().zip(said);
        match task {
            Outputs::MultiLabel(_) => {
                let judged = pairs.map(|(row, said)| (said.as_slice(), row.wanted.as_slice()));
                SeveralLabels::measure(task.names().len(), threshold.unwrap_or(HALF), judged).map(Self::MultiLabel)
            }
            Outputs::Regression(_) => {
                let pairs: Vec<_> = pairs.map(|(row, said)| (said[0], f64::from(row.wanted[0]))).collect();
                Regression::measure(&pairs).map(Self::Regression)
            }
        }
    }

    /// By the names of dev metrics.
    pub(super) fn on_dev_rows(&self) -> train::Metrics {
        self.named().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<BTreeMap<_, _>>()
    }

    /// The figures by name.
    fn named(&self) -> Vec<(&'static str, Option<f64>)> {
        match self {
            Self::MultiLabel(measured) => vec![
                ("micro_f1", Some(measured.micro_f1)),
                ("macro_f1", Some(measured.macro_f1)),
                ("exact_matches", Some(measured.exact)),
                ("loss", Some(measured.loss)),
            ],
            Self::Regression(measured) => vec![
                ("pearson", measured.pearson),
                ("spearman", measured.spearman),
                ("mean_absolute_error", Some(measured.mean_absolute_error)),
                ("loss", Some(measured.mean_squared_error)),
            ],
        }
    }
}

/// What was measured on rows.
pub(in crate::stages) struct Evaluated {
    pub(super) names: Vec<String>,
    pub(super) threshold: Option<f64>,
    pub(super) rows: Vec<Wanted>,
    pub(super) said: Vec<Vec<f64>>,
    pub(super) leaked: Vec<bool>,
    pub(super) all: Measured,
    /// None where all rows are leaked.
    pub(super) without_leaks: Option<Measured>,
}

impl Evaluated {
    /// Writes the report, and the rows with what was said of each.
    ///
    /// # Errors
    /// The file system's.
    pub(in crate::stages) fn write(&self, report: &Path, predictions: &Path) -> Result<()> {
        let Self { names, threshold, rows, said, leaked, all, without_leaks } = self;
        let leaked_rows = leaked.iter().filter(|leaked| **leaked).count();
        let text = json!({
            "names": names, "threshold": threshold, "rows": rows.len(), "leaked_rows": leaked_rows, "all": all,
            "without_leaks": without_leaks,
        });
        fs::write(report, serde_json::to_vec_pretty(&text)?)?;
        let number =
            |of: &dyn Fn(&Wanted) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(of))) };
        let texts = StringArray::from_iter_values(rows.iter().map(|row| &row.text));
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("file".into(), number(&|row| row.place.file)),
            ("row".into(), number(&|row| row.place.row)),
            ("text".into(), Arc::new(texts)),
        ];
        for (index, name) in names.iter().enumerate() {
            let wanted = Float32Array::from_iter_values(rows.iter().map(|row| row.wanted[index]));
            let said = Float64Array::from_iter_values(said.iter().map(|said| said[index]));
            columns.push((format!("wanted_{name}"), Arc::new(wanted)));
            columns.push((format!("said_{name}"), Arc::new(said)));
        }
        columns.push(("leaked".into(), Arc::new(BooleanArray::from(leaked.clone()))));
        let columns = columns.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect();
        records::write(predictions, columns)
    }

    /// The figures by name.
    pub(in crate::stages) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        let clean = self.without_leaks.as_ref().map(Measured::named);
        for (index, (name, value)) in self.all.named().into_iter().enumerate() {
            metrics.insert(name.to_owned(), value.into());
            let without = clean.as_ref().and_then(|clean| clean[index].1);
            metrics.insert(format!("{name}_without_leaks"), without.into());
        }
        CUT_ROWS.put(&mut metrics, self.rows.iter().filter(|row| row.cut).count());
        ROWS.put(&mut metrics, self.rows.len());
        metrics.insert("leaked_rows".to_owned(), self.leaked.iter().filter(|leaked| **leaked).count().into());
        metrics
    }
}

/// The figures that an evaluation of a task records.
pub(in crate::stages) fn recorded(task: &Outputs) -> Vec<String> {
    let own = match task {
        Outputs::MultiLabel(_) => ["micro_f1", "macro_f1", "exact_matches", "loss"],
        Outputs::Regression(_) => ["pearson", "spearman", "mean_absolute_error", "loss"],
    };
    let counts = [CUT_ROWS.name, ROWS.name, "leaked_rows"].map(str::to_owned);
    own.into_iter().flat_map(|name| [name.to_owned(), format!("{name}_without_leaks")]).chain(counts).collect()
}
