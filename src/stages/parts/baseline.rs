//! A linear classifier in the artifact of its stage: `linear.json` says how it was trained, `linear.safetensors` has its weights.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Bytes;
use fs_err as fs;
use half::f16;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::{
    data::text::NGrams,
    learning::linear::{Chosen, LinearClassifier, Settings, Trial, Vocabulary, Weights, likeliest},
    network::model::tensors::{self, Reader, TensorEntry},
};

const DESCRIPTION: &str = "linear.json";
const TENSORS: &str = "linear.safetensors";
const BUCKETS: &str = "buckets";
const IDF: &str = "idf";
const WEIGHTS: &str = "weights";
const BIAS: &str = "bias";

/// What `linear.json` holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Description {
    labels: Vec<String>,
    columns: usize,
    /// The binary logarithm of the number of buckets.
    bits: u32,
    /// How it was trained: the best of the trials.
    settings: Settings,
    /// Scores times this are logits.
    sharpness: f32,
    /// Rows that it has learned,
    rows: usize,
    /// and rows that it was chosen by.
    chosen_by: usize,
    trials: Vec<Trial>,
}

/// A linear classifier with the names of its labels.
pub(in crate::stages) struct Baseline {
    description: Description,
    classifier: LinearClassifier,
}

impl Baseline {
    pub(in crate::stages) fn new(
        labels: &[String],
        columns: usize,
        classifier: LinearClassifier,
        chosen: Chosen,
    ) -> Self {
        let Chosen { settings, trials, rows: chosen_by, learned: rows } = chosen;
        let LinearClassifier { vocabulary, sharpness, .. } = &classifier;
        let (labels, bits, sharpness) = (labels.to_vec(), vocabulary.ngrams.bits, *sharpness);
        let description = Description { labels, columns, bits, settings, sharpness, rows, chosen_by, trials };
        Self { description, classifier }
    }

    /// Writes it; weights have 16 bits.
    pub(in crate::stages) fn write(&self, dir: &Path) -> Result<()> {
        let LinearClassifier { vocabulary, weights, .. } = &self.classifier;
        fs::write(dir.join(DESCRIPTION), serde_json::to_vec_pretty(&self.description)?)?;
        let (width, classes) = (vocabulary.len(), self.description.labels.len());
        let single = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let buckets = vocabulary.buckets.iter().flat_map(|bucket| bucket.to_le_bytes()).collect();
        let halves = weights.values.iter().flat_map(|weight| f16::from_f32(*weight).to_le_bytes()).collect();
        let entry = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
            TensorEntry::new(name.to_owned(), dtype, shape.to_vec(), move || Ok(Bytes::from_bytes_vec(bytes)))
        };
        let entries = vec![
            entry(BUCKETS, Dtype::U32, &[width], buckets),
            entry(IDF, Dtype::F32, &[width], single(&vocabulary.idf)),
            entry(WEIGHTS, Dtype::F16, &[width, classes], halves),
            entry(BIAS, Dtype::F32, &[classes], single(&weights.bias)),
        ];
        tensors::write(&dir.join(TENSORS), entries)
    }

    /// Reads what [`Self::write`] wrote.
    pub(in crate::stages) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(DESCRIPTION);
        let description: Description = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("{} isn't what a linear stage writes", path.display()))?;
        let Description { ref labels, bits, sharpness, .. } = description;
        let reader = Reader::open(&dir.join(TENSORS))?;
        let bytes = reader.bytes(BUCKETS)?;
        let buckets: Vec<u32> = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let (idf, values, bias) = (reader.read(IDF)?, reader.read(WEIGHTS)?, reader.read(BIAS)?);
        let fits = idf.len() == buckets.len()
            && values.len() == buckets.len() * labels.len()
            && bias.len() == labels.len()
            && (1..=32).contains(&bits)
            && buckets.iter().all(|bucket| u64::from(*bucket) < 1 << bits);
        ensure!(fits, "{} and {TENSORS} don't fit each other", path.display());
        let vocabulary = Vocabulary::new(NGrams { bits }, buckets, idf);
        let weights = Weights { values, bias };
        Ok(Self { description, classifier: LinearClassifier { vocabulary, weights, sharpness } })
    }

    /// The likeliest of these labels for rows, by its number.
    ///
    /// # Errors
    /// As [`Self::log_probabilities`].
    pub(in crate::stages) fn predict(&self, labels: &[String], rows: &[&str]) -> Result<Vec<usize>> {
        Ok(self.log_probabilities(labels, rows)?.iter().map(|row| likeliest(row)).collect())
    }

    /// Log-probabilities of these labels for rows, each given as its columns joined by tabs.
    ///
    /// # Errors
    /// A label that it hasn't learned.
    pub(in crate::stages) fn log_probabilities(&self, labels: &[String], rows: &[&str]) -> Result<Vec<Vec<f32>>> {
        let Description { labels: known, columns, .. } = &self.description;
        let place = |label: &String| {
            let place = known.iter().position(|known| known == label);
            place.with_context(|| format!("the baseline doesn't know the label `{label}`"))
        };
        let places: Vec<usize> = labels.iter().map(place).collect::<Result<_>>()?;
        let rows: Vec<Vec<&str>> = rows.iter().map(|text| text.splitn((*columns).max(1), '\t').collect()).collect();
        let reorder = |row: Vec<f32>| places.iter().map(|place| row[*place]).collect();
        Ok(self.classifier.log_probabilities(&rows).into_iter().map(reorder).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::linear::Row;

    #[test]
    fn it_says_the_same_when_it_is_read_again() {
        let texts = [("球队赢了", 0), ("球迷看球", 0), ("股票大涨", 1), ("股市大跌", 1)];
        let rows: Vec<Row<'_>> = texts.iter().map(|(text, label)| Row { columns: vec![text], label: *label }).collect();
        let (classifier, chosen) = LinearClassifier::train(2, &rows, &[]);
        let labels = ["体育".to_owned(), "财经".to_owned()];
        let baseline = Baseline::new(&labels, 1, classifier, chosen);
        let dir = tempfile::tempdir().unwrap();
        baseline.write(dir.path()).unwrap();
        let read = Baseline::read(dir.path()).unwrap();
        let of =
            |baseline: &Baseline, labels: &[String]| baseline.log_probabilities(labels, &["球赛", "股票"]).unwrap();
        let (before, after) = (of(&baseline, &labels), of(&read, &labels));
        let near = |a: &f32, b: &f32| (a - b).abs() < 1e-3;
        assert!(before.iter().flatten().zip(after.iter().flatten()).all(|(a, b)| near(a, b)), "{before:?} {after:?}");
        assert!(after[0][0] > after[0][1] && after[1][1] > after[1][0]);
        let turned = of(&read, &[labels[1].clone(), labels[0].clone()]);
        assert_eq!(turned[0], [after[0][1], after[0][0]]);
        assert!(read.log_probabilities(&["其他".to_owned()], &[]).is_err());
    }
}
