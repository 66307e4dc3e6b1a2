//! Dropout masks as a hash of what they belong to, so that the backward pass makes them again instead of keeping them.

use std::sync::Arc;

/// Weyl increment: 2^32 over the golden ratio, odd.
pub(super) const WEYL: u32 = 0x9e37_79b9;
/// What [`mix`] multiplies by.
pub(super) const FACTORS: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// One place in the model where activations are dropped.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Probability that an element is dropped; below 1.
    pub p: f32,
    /// A random number for each token; all its masks derive from it.
    pub keys: Arc<[u32]>,
    /// Tells this place from the others.
    pub site: u32,
}

impl Dropout {
    /// Elements whose hash is below this are dropped.
    pub(super) fn threshold(&self) -> u32 {
        // The cast saturates.
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }

    /// What the kept elements are multiplied by.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (1.0 - self.p)
    }

    /// What tells this place's streams from those of others.
    pub(super) fn place(&self) -> u32 {
        self.site.wrapping_mul(WEYL)
    }

    /// Start of the sequence of hashes of a token; `lane` is the head in attention, 0 elsewhere.
    #[inline(always)]
    pub(super) fn stream(&self, token: usize, lane: u32) -> u32 {
        mix(self.keys[token] ^ mix(self.place() ^ lane.rotate_left(16)))
    }

    /// 0 or `scale()` for each element of the token's row, the first of which has the index 0.
    #[cfg(test)]
    pub(super) fn fill(&self, token: usize, lane: u32, row: &mut [f32]) {
        let (stream, threshold, scale) = (self.stream(token, lane), self.threshold(), self.scale());
        for (i, value) in row.iter_mut().enumerate() {
            *value = multiplier(stream, i as u32, threshold, scale);
        }
    }
}

/// What element `index` of a row is multiplied by.
#[inline(always)]
pub(super) fn multiplier(stream: u32, index: u32, threshold: u32, scale: f32) -> f32 {
    if dropped(stream, index, threshold) { 0.0 } else { scale }
}

/// Whether element `index` of a row is dropped.
#[inline(always)]
pub(super) fn dropped(stream: u32, index: u32, threshold: u32) -> bool {
    mix(stream.wrapping_add(index.wrapping_mul(WEYL))) < threshold
}

/// A bijection of 32 bits with little bias between input and output bits (constants of C. Wellons' hash prospector).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(FACTORS[0]);
    x ^= x >> 15;
    x = x.wrapping_mul(FACTORS[1]);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_dropped_as_asked_for_in_rows_and_in_columns() {
        let dropout = Dropout { p: 0.1, keys: (0..512).collect(), site: 3 };
        let mut row = vec![0.0; 512];
        let (mut columns, mut total) = (vec![0; 512], 0);
        for token in 0..512 {
            dropout.fill(token, 0, &mut row);
            let dropped = row.iter().filter(|&&v| v == 0.0).count();
            assert!((20..90).contains(&dropped), "row {token}: {dropped}");
            total += dropped;
            row.iter().zip(&mut columns).for_each(|(&v, c)| *c += usize::from(v == 0.0));
        }
        assert!(columns.iter().all(|c| (20..90).contains(c)));
        assert!((total as f64 / 512.0 / 512.0 - 0.1).abs() < 0.003, "{total}");
    }

    #[test]
    fn sites_heads_and_tokens_have_masks_of_their_own() {
        let rows: Vec<Vec<f32>> = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
            .map(|(site, token, lane)| {
                let mut row = vec![0.0; 64];
                Dropout { p: 0.5, keys: Arc::from([7, 8]), site }.fill(token, lane, &mut row);
                row
            })
            .into();
        for i in 0..rows.len() {
            for j in 0..i {
                assert_ne!(rows[i], rows[j]);
            }
        }
    }
}
