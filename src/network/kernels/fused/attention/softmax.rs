//! A query's row of scores.

use std::ops::Range;

use crate::network::kernels::{
    dropout::dropped,
    fused::math::exp,
    simd::{map_sum, max, simd, sum2},
};

/// The columns of a row of scores that its query sees: those in front that all queries share, and its own.
pub(super) struct Seen {
    shared: usize,
    own: Range<usize>,
}

impl Seen {
    /// `shared` columns and then, not before those, the query's `own`; nothing if these are none.
    pub(super) fn new(shared: usize, own: Range<usize>) -> Self {
        Self { shared, own }
    }

    /// From the first to the last.
    fn whole(&self) -> Range<usize> {
        match (self.own.is_empty(), self.shared) {
            (true, _) => 0..0,
            (false, 0) => self.own.clone(),
            (false, _) => 0..self.own.end,
        }
    }

    /// What isn't seen in between.
    fn gap(&self) -> Range<usize> {
        if self.shared == 0 || self.own.is_empty() { 0..0 } else { self.shared..self.own.start }
    }

    /// Which of the seen columns, for dropout, a column of the whole is. A column of the gap is any.
    #[inline(always)]
    fn index(&self) -> impl Fn(usize) -> u32 {
        let (shared, skipped) = (self.shared as u32, self.gap().len() as u32);
        move |i| if i as u32 >= shared { (i as u32).wrapping_sub(skipped) } else { i as u32 }
    }
}

simd! {
    /// Turns scores into probabilities times their sum, 0 where not seen or dropped; gives 1 / sum.
    pub(super) fn softmax(row: &mut [f32], seen: &Seen, dropout: Option<(u32, u32)>) -> f32 {
        let Some((row, scale)) = exponentials(row, seen) else { return 0.0 };
        if let Some((stream, threshold)) = dropout {
            let index = seen.index();
            for (i, p) in row.iter_mut().enumerate() {
                *p = if dropped(stream, index(i), threshold) { 0.0 } else { *p };
            }
        }
        scale
    }
}

/// Exponentials of what is seen of a row, up to a factor, and 1 / their sum. Sets the rest to 0.
#[inline(always)]
fn exponentials<'a>(row: &'a mut [f32], seen: &Seen) -> Option<(&'a mut [f32], f32)> {
    let whole = seen.whole();
    row[..whole.start].fill(0.0);
    row[whole.end..].fill(0.0);
    if whole.is_empty() {
        return None;
    }
    row[seen.gap()].fill(f32::NEG_INFINITY);
    let row = &mut row[whole];
    let top = max(row);
    let total = map_sum(row, |x| exp(x - top));
    Some((row, 1.0 / total))
}

simd! {
    /// From scores and the gradients of the (kept) probabilities: the kept probabilities and the scores' gradients.
    pub(super) fn score_grads(scores: &mut [f32], grads: &mut [f32], seen: &Seen, dropout: Option<(u32, u32)>) {
        let whole = seen.whole();
        grads[..whole.start].fill(0.0);
        grads[whole.end..].fill(0.0);
        grads[seen.gap()].fill(0.0);
        let grads = &mut grads[whole];
        let Some((scores, scale)) = exponentials(scores, seen) else { return };
        for p in scores.iter_mut() {
            *p *= scale;
        }
        if let Some((stream, threshold)) = dropout {
            // Until the last loop dropped probabilities are kept as negative numbers.
            let index = seen.index();
            for (i, (p, d)) in scores.iter_mut().zip(grads.iter_mut()).enumerate() {
                let dropped = dropped(stream, index(i), threshold);
                *p = if dropped { -*p } else { *p };
                *d = if dropped { 0.0 } else { *d };
            }
        }
        let mean = sum2(scores, grads, |p, d| p * d);
        for (p, d) in scores.iter_mut().zip(grads.iter_mut()) {
            *d = p.abs() * (*d - mean);
            *p = if *p > 0.0 { *p } else { 0.0 };
        }
    }
}
