//! Which keys each token sees.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use anyhow::{Result, ensure};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::embedding::upload;

/// Stands for a hidden key's score: far below any real one, and finite so that rows without keys don't become NaN.
pub(super) const HIDDEN: f32 = -1e30;

/// The attention span of each of `rows * width` queries: the keys that it attends to.
///
/// Query `q` attends to the keys `[from[q], to[q])`, counted over the whole batch of `rows * keys` and lying in its own row;
/// none if they are equal. In self-attention queries and keys are the same tokens; with a key-value cache there are
/// more keys than queries, and a decoder's keys into its source are other tokens altogether.
#[derive(Clone, Debug)]
pub struct AttentionSpans {
    /// First key of each span.
    pub from: Tensor<1, Int>,
    /// One past the last key of each span.
    pub to: Tensor<1, Int>,
    /// Rows of the batch.
    pub rows: usize,
    /// Queries per row.
    pub width: usize,
    /// Keys per row.
    pub keys: usize,
    host: Arc<Host>,
    hidden: Arc<OnceLock<Tensor<4, Bool>>>,
}

/// What the CPU kernels go by.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) from: Vec<u32>,
    pub(super) to: Vec<u32>,
    pub(super) examples: Vec<Example>,
}

/// Consecutive queries and all the keys that they see; no key belongs to two of these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Example {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

impl AttentionSpans {
    /// Checks the intervals of tokens among themselves, and puts them on the device.
    ///
    /// # Errors
    /// Other than `rows * width` intervals; one outside of its row.
    pub fn new(from: &[u32], to: &[u32], rows: usize, width: usize, device: &Device) -> Result<Self> {
        Self::among(from, to, rows, [width, width], device)
    }

    /// The same for `queries` in a row among `keys` others.
    ///
    /// # Errors
    /// Other than `rows * queries` intervals; one outside of its row.
    pub fn among(from: &[u32], to: &[u32], rows: usize, [width, keys]: [usize; 2], device: &Device) -> Result<Self> {
        let tokens = rows * width;
        ensure!(
            from.len() == tokens && to.len() == tokens,
            "{rows} rows of {width} tokens need as many intervals, not {} and {}",
            from.len(),
            to.len()
        );
        for (q, (&from, &to)) in from.iter().zip(to).enumerate() {
            let row = q / width * keys;
            let inside = from as usize >= row && to as usize <= row + keys;
            ensure!(from == to || (from < to && inside), "token {q} cannot see keys {from} to {to}: not in its row");
        }
        // Nothing is learned here, so masks mustn't bring autodiff to where gradients are written by hand.
        let device = device.clone().inner();
        Ok(Self {
            from: upload(from, &device),
            to: upload(to, &device),
            rows,
            width,
            keys,
            host: Arc::new(Host { from: from.to_vec(), to: to.to_vec(), examples: examples(from, to) }),
            hidden: Arc::default(),
        })
    }

    /// The keys that a query sees.
    pub fn seen(&self, query: usize) -> Range<usize> {
        self.host.from[query] as usize..self.host.to[query] as usize
    }

    /// The keys that any of these queries sees, in any row: counted from the row's first, and as one range.
    pub(super) fn span(&self, queries: Range<usize>) -> Range<usize> {
        let seen = (0..self.rows)
            .flat_map(|row| queries.clone().map(move |query| (row, self.seen(row * self.width + query))))
            .filter(|(_, seen)| !seen.is_empty())
            .map(|(row, seen)| seen.start - row * self.keys..seen.end - row * self.keys);
        seen.reduce(|all, seen| all.start.min(seen.start)..all.end.max(seen.end)).unwrap_or(0..0)
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// `[rows, 1, query, key]` for some queries of each row: true where the query doesn't see the key. Made once a batch
    /// where it's for all of them.
    pub(super) fn hidden(&self, queries: Range<usize>) -> Tensor<4, Bool> {
        let make = || {
            let (rows, keys) = (self.rows, self.keys);
            let shape = [rows, 1, queries.len(), keys];
            let key = Tensor::<1, Int>::arange(0..(rows * keys) as i64, &self.from.device());
            let key = key.reshape([rows, 1, 1, keys]).expand(shape);
            let column = |x: &Tensor<1, Int>| self.column(x, &queries).expand(shape);
            key.clone().lower(column(&self.from)).bool_or(key.greater_equal(column(&self.to)))
        };
        match queries.len() == self.width {
            true => self.hidden.get_or_init(make).clone(),
            false => make(),
        }
    }

    /// `[rows, 1, query, 1]` for some queries of each row: true where the query sees no key at all.
    pub(super) fn blind(&self, queries: Range<usize>) -> Tensor<4, Bool> {
        self.column(&self.from, &queries).greater_equal(self.column(&self.to, &queries))
    }

    /// A value for each query, `[rows, 1, query, 1]`.
    fn column(&self, values: &Tensor<1, Int>, queries: &Range<usize>) -> Tensor<4, Int> {
        let all = values.clone().reshape([self.rows, 1, self.width, 1]);
        all.narrow(2, queries.start, queries.len())
    }
}

/// Splits the queries where the keys allow it.
fn examples(from: &[u32], to: &[u32]) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for (q, (&from, &to)) in from.iter().zip(to).enumerate().filter(|(_, (from, to))| from < to) {
        let mut example = Example { queries: q..q + 1, keys: from as usize..to as usize };
        while let Some(last) = examples.pop_if(|last| example.keys.start < last.keys.end) {
            example.queries.start = last.queries.start;
            example.keys = example.keys.start.min(last.keys.start)..example.keys.end.max(last.keys.end);
        }
        examples.push(example);
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_split_by_example_and_padding_belongs_to_none() {
        let found = examples(&[0, 0, 0, 3, 3, 5, 6], &[1, 2, 3, 5, 5, 5, 7]);
        let expected = [(0..3, 0..3), (3..5, 3..5), (6..7, 6..7)];
        assert_eq!(found, expected.map(|(queries, keys)| Example { queries, keys }));
    }

    #[test]
    fn examples_that_share_keys_are_one() {
        let found = examples(&[0, 2, 3, 1], &[2, 3, 4, 4]);
        assert_eq!(found, [Example { queries: 0..4, keys: 0..4 }]);
    }

    #[test]
    fn intervals_outside_of_the_row_are_refused() {
        let device = Device::flex();
        for (from, to) in [([0, 0, 0, 2], [1, 1, 3, 4]), ([0, 0, 2, 2], [1, 3, 4, 4]), ([1, 0, 2, 2], [0, 1, 4, 4])] {
            assert!(AttentionSpans::new(&from, &to, 2, 2, &device).is_err());
        }
        assert!(AttentionSpans::new(&[0; 3], &[1; 3], 2, 2, &device).is_err());
    }
}
