//! A linear classifier in the artifact of its stage: `linear.json` says how it was trained, `linear.safetensors` has its weights.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Bytes;
use fs_err as fs;
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
const SCALES: &str = "scales";
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

    /// Writes it; weights have 8 bits, and each column a scale.
    pub(in crate::stages) fn write(&self, dir: &Path) -> Result<()> {
        let LinearClassifier { vocabulary, weights, .. } = &self.classifier;
        fs::write(dir.join(DESCRIPTION), serde_json::to_vec_pretty(&self.description)?)?;
        let (width, classes) = (vocabulary.len(), self.description.labels.len());
        let (codes, scales) = to_codes(&weights.values, classes);
        let single = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let buckets = vocabulary.buckets.iter().flat_map(|bucket| bucket.to_le_bytes()).collect();
        let codes = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let entry = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
            TensorEntry::new(name.to_owned(), dtype, shape.to_vec(), move || Ok(Bytes::from_bytes_vec(bytes)))
        };
        let entries = vec![
            entry(BUCKETS, Dtype::U32, &[width], buckets),
            entry(IDF, Dtype::F32, &[width], single(&vocabulary.idf)),
            entry(WEIGHTS, Dtype::I8, &[width, classes], codes),
            entry(SCALES, Dtype::F32, &[width], single(&scales)),
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
        let (idf, bias) = (reader.read(IDF)?, reader.read(BIAS)?);
        let unfit = || format!("{} and {TENSORS} don't fit each other", path.display());
        let values = match reader.info(SCALES) {
            Some(_) => {
                let scales = reader.read(SCALES)?;
                ensure!(scales.len() == buckets.len(), unfit());
                from_codes(&reader.bytes(WEIGHTS)?, &scales)
            }
            // Models from before there were codes have weights of 16 bits.
            None => reader.read(WEIGHTS)?,
        };
        let fits = idf.len() == buckets.len()
            && values.len() == buckets.len() * labels.len()
            && bias.len() == labels.len()
            && (1..=32).contains(&bits)
            && buckets.iter().all(|bucket| u64::from(*bucket) < 1 << bits);
        ensure!(fits, unfit());
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

/// Weights `[column, class]` as codes from -127 to 127 with a scale for each column. What was read from codes gives the same ones.
fn to_codes(weights: &[f32], classes: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut codes, mut scales) = (Vec::with_capacity(weights.len()), Vec::new());
    for column in weights.chunks(classes.max(1)) {
        let greatest = column.iter().fold(0.0_f32, |greatest, weight| greatest.max(weight.abs()));
        let scale = greatest / f32::from(i8::MAX);
        let code = |weight: &f32| if scale > 0.0 { (weight / scale).round_ties_even() as i8 } else { 0 };
        codes.extend(column.iter().map(code));
        scales.push(scale);
    }
    (codes, scales)
}

/// The weights of the bytes of codes.
fn from_codes(codes: &[u8], scales: &[f32]) -> Vec<f32> {
    let classes = codes.len() / scales.len().max(1);
    let columns = codes.chunks(classes.max(1)).zip(scales);
    columns.flat_map(|(codes, scale)| codes.iter().map(move |code| f32::from(code.cast_signed()) * scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::linear::Row;

    #[test]
    fn codes_are_near_and_their_own_weights_give_them_again() {
        let weights = [0.5, -2.0, 0.001, 0.0, 0.0, 0.0, 1e-9, 3e-9, -7e-9, 1e-44, 0.0, 0.0];
        let bytes = |codes: &[i8]| codes.iter().map(|code| code.cast_unsigned()).collect::<Vec<_>>();
        let (codes, scales) = to_codes(&weights, 3);
        let read = from_codes(&bytes(&codes), &scales);
        for (column, (weight, read)) in weights.iter().zip(&read).enumerate().map(|(at, pair)| (at / 3, pair)) {
            assert!((weight - read).abs() <= scales[column] * 0.5001 + 1e-40, "{weight} {read}");
        }
        assert_eq!(to_codes(&read, 3).0, codes);
    }

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
        let near = |a: &f32, b: &f32| (a - b).abs() < 1e-2;
        assert!(before.iter().flatten().zip(after.iter().flatten()).all(|(a, b)| near(a, b)), "{before:?} {after:?}");
        assert!(after[0][0] > after[0][1] && after[1][1] > after[1][0]);
        let turned = of(&read, &[labels[1].clone(), labels[0].clone()]);
        assert_eq!(turned[0], [after[0][1], after[0][0]]);
        assert!(read.log_probabilities(&["其他".to_owned()], &[]).is_err());

        // As it was written before weights had 8 bits.
        let reader = Reader::open(&dir.path().join(TENSORS)).unwrap();
        let old = reader.names().filter(|name| *name != SCALES).map(|name| {
            let shape = reader.shape(name).unwrap().to_vec();
            if name == WEIGHTS {
                let weights = read.classifier.weights.values.iter().flat_map(|weight| weight.to_le_bytes()).collect();
                return TensorEntry::new(name.into(), Dtype::F32, shape, move || Ok(Bytes::from_bytes_vec(weights)));
            }
            let (dtype, bytes) = (reader.info(name).unwrap().dtype, reader.bytes(name).unwrap());
            TensorEntry::new(name.into(), dtype, shape, move || Ok(Bytes::from_bytes_vec(bytes)))
        });
        let other = tempfile::tempdir().unwrap();
        tensors::write(&other.path().join(TENSORS), old.collect()).unwrap();
        fs::copy(dir.path().join(DESCRIPTION), other.path().join(DESCRIPTION)).unwrap();
        assert_eq!(of(&Baseline::read(other.path()).unwrap(), &labels), after);
    }
}
