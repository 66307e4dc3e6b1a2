//! Rows of n-grams as sparse vectors: which buckets have a column, and what stands in it.

use rayon::prelude::*;

use crate::{data::text::NGrams, support::math};

/// The buckets that training rows have, the most frequent ones first, with their inverse document frequencies: the columns of
/// the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// How texts are cut and hashed.
    pub ngrams: NGrams,
    /// The bucket of each column.
    pub buckets: Vec<u32>,
    /// Of each column `ln((1 + n) / (1 + df)) + 1`, as scikit-learn's `TfidfTransformer` has it with `smooth_idf`.
    pub idf: Vec<f32>,
    /// The column of each bucket.
    columns: Vec<u32>,
}

/// Stands for a bucket without a column.
const NONE: u32 = u32::MAX;

/// A sparse matrix by rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Where each row begins, and where the last ends.
    pub starts: Vec<usize>,
    /// The columns of a row, ascending.
    pub columns: Vec<u32>,
    /// What stands in them.
    pub values: Vec<f32>,
}

/// Labelled rows as a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labelled<'a> {
    /// Their features.
    pub matrix: &'a Matrix,
    /// Their labels.
    pub labels: &'a [usize],
    /// How many labels there are.
    pub classes: usize,
    /// How many columns the matrix has.
    pub width: usize,
}

/// The n-grams of a row, each with how often it occurs.
pub type Counts = Vec<(u32, u32)>;

impl Vocabulary {
    /// The columns for rows to learn from; the most frequent ones, if there are more than `most`.
    pub fn learn(ngrams: NGrams, rows: &[Counts], most: usize) -> Self {
        let mut frequencies = vec![0_u32; 1 << ngrams.bits];
        for (bucket, _) in rows.iter().flatten() {
            frequencies[*bucket as usize] += 1;
        }
        let mut buckets: Vec<u32> =
            (0..frequencies.len() as u32).filter(|bucket| frequencies[*bucket as usize] > 0).collect();
        buckets.sort_by_key(|bucket| std::cmp::Reverse(frequencies[*bucket as usize]));
        buckets.truncate(most);
        let count = 1.0 + rows.len() as f64;
        let idf = |bucket: &u32| (math::ln(count / (1.0 + f64::from(frequencies[*bucket as usize]))) + 1.0) as f32;
        let idf = buckets.iter().map(idf).collect();
        Self::new(ngrams, buckets, idf)
    }

    /// The columns with these buckets, which are below the number of buckets.
    pub fn new(ngrams: NGrams, buckets: Vec<u32>, idf: Vec<f32>) -> Self {
        let mut columns = vec![NONE; 1 << ngrams.bits];
        for (column, bucket) in (0..).zip(&buckets) {
            columns[*bucket as usize] = column;
        }
        Self { ngrams, buckets, idf, columns }
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The rows' TF-IDF vectors: `(1 + ln tf) · idf`, divided by their length (scikit-learn's `TfidfTransformer` with
    /// `sublinear_tf`). N-grams without a column are left out.
    pub fn matrix(&self, rows: &[Counts]) -> Matrix {
        let vectors: Vec<Vec<(u32, f32)>> = rows.par_iter().map(|counts| self.vector(counts)).collect();
        let mut matrix = Matrix { starts: vec![0], ..Matrix::default() };
        for vector in vectors {
            matrix.columns.extend(vector.iter().map(|(column, _)| *column));
            matrix.values.extend(vector.iter().map(|(_, value)| *value));
            matrix.starts.push(matrix.columns.len());
        }
        matrix
    }

    fn vector(&self, counts: &Counts) -> Vec<(u32, f32)> {
        let column = |&(bucket, count): &(u32, u32)| {
            let column = self.columns[bucket as usize];
            let value = || (1.0 + math::ln(f64::from(count))) * f64::from(self.idf[column as usize]);
            (column != NONE).then(|| (column, value()))
        };
        let mut values: Vec<(u32, f64)> = counts.iter().filter_map(column).collect();
        values.sort_unstable_by_key(|(column, _)| *column);
        let length = values.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        values.into_iter().map(|(column, value)| (column, (value / length) as f32)).collect()
    }
}

impl Matrix {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row's columns with their values.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + Clone {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().map(|column| *column as usize).zip(self.values[range].iter().copied())
    }
}
