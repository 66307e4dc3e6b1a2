//! Which keys each token sees.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use anyhow::{Result, ensure};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::embedding::upload;

/// For each of `rows * width` token places the interval of keys it sees.
///
/// Token `q` sees the keys `[from[q], to[q])`, counted over the whole batch and lying in its own row; none if they are
/// equal.
#[derive(Clone, Debug)]
pub struct Visible {
    /// First visible key.
    pub from: Tensor<1, Int>,
    /// One past the last visible key.
    pub to: Tensor<1, Int>,
    /// Rows of the batch.
    pub rows: usize,
    /// Token places per row.
    pub width: usize,
    host: Arc<Host>,
    hidden: Arc<OnceLock<Tensor<4, Bool>>>,
}

/// What the CPU kernels go by.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) from: Vec<u32>,
    pub(super) to: Vec<u32>,
    pub(super) groups: Vec<Group>,
}

/// Consecutive queries and all the keys that they see; no key belongs to two groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Group {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

impl Visible {
    /// Checks the intervals and puts them on the device.
    pub fn new(from: &[u32], to: &[u32], rows: usize, width: usize, device: &Device) -> Result<Self> {
        let tokens = rows * width;
        ensure!(
            from.len() == tokens && to.len() == tokens,
            "{rows} rows of {width} tokens need as many intervals, not {} and {}",
            from.len(),
            to.len()
        );
        for (q, (&from, &to)) in from.iter().zip(to).enumerate() {
            let row = q / width * width;
            let inside = from as usize >= row && to as usize <= row + width;
            ensure!(from == to || (from < to && inside), "token {q} cannot see keys {from} to {to}: not in its row");
        }
        Ok(Self {
            from: upload(from, device),
            to: upload(to, device),
            rows,
            width,
            host: Arc::new(Host { from: from.to_vec(), to: to.to_vec(), groups: groups(from, to) }),
            hidden: Arc::default(),
        })
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// `[rows, 1, query, key]`: true where the query doesn't see the key. Made once a batch.
    pub(super) fn hidden(&self) -> Tensor<4, Bool> {
        let make = || {
            let (rows, width) = (self.rows, self.width);
            let device = self.from.device();
            let keys = Tensor::<1, Int>::arange(0..(rows * width) as i64, &device).reshape([rows, 1, 1, width]);
            let keys = keys.expand([rows, 1, width, width]);
            let column = |x: &Tensor<1, Int>| x.clone().reshape([rows, 1, width, 1]).expand([rows, 1, width, width]);
            keys.clone().lower(column(&self.from)).bool_or(keys.greater_equal(column(&self.to)))
        };
        self.hidden.get_or_init(make).clone()
    }
}

/// Splits the queries where the keys allow it: an example, as a rule, is a group.
fn groups(from: &[u32], to: &[u32]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (q, (&from, &to)) in from.iter().zip(to).enumerate().filter(|(_, (from, to))| from < to) {
        let mut group = Group { queries: q..q + 1, keys: from as usize..to as usize };
        while let Some(last) = groups.pop_if(|last| group.keys.start < last.keys.end) {
            group.queries.start = last.queries.start;
            group.keys = group.keys.start.min(last.keys.start)..group.keys.end.max(last.keys.end);
        }
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_become_groups_and_padding_belongs_to_none() {
        let found = groups(&[0, 0, 0, 3, 3, 5, 6], &[1, 2, 3, 5, 5, 5, 7]);
        let expected = [(0..3, 0..3), (3..5, 3..5), (6..7, 6..7)];
        assert_eq!(found, expected.map(|(queries, keys)| Group { queries, keys }));
    }

    #[test]
    fn groups_that_share_keys_are_one() {
        let found = groups(&[0, 2, 3, 1], &[2, 3, 4, 4]);
        assert_eq!(found, [Group { queries: 0..4, keys: 0..4 }]);
    }

    #[test]
    fn intervals_outside_of_the_row_are_refused() {
        let device = Device::flex();
        for (from, to) in [([0, 0, 0, 2], [1, 1, 3, 4]), ([0, 0, 2, 2], [1, 3, 4, 4]), ([1, 0, 2, 2], [0, 1, 4, 4])] {
            assert!(Visible::new(&from, &to, 2, 2, &device).is_err());
        }
        assert!(Visible::new(&[0; 3], &[1; 3], 2, 2, &device).is_err());
    }
}
