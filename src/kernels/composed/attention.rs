//! Attention by blocks of queries, each with all keys: no scores but those of a block exist, and the backward pass makes
//! them again (Dao et al. 2022, <https://arxiv.org/abs/2205.14135>). Blocks are large, since each operation is a kernel of
//! its own: a softmax sees all of its keys, and needs no running maximum.

use std::ops::Range;

use burn::tensor::{Bool, DType, Int, IntDType, Tensor, activation};

use super::{product, whole};
use crate::kernels::{
    Dropout, KeyValue, Visible,
    handwritten::{Slopes, recorded},
};

/// Scores that exist at a time, in f32; some four numbers of their size are alive together.
pub const SCORES: usize = 1 << 26;
/// Fewest queries of a block, however many keys there are.
const QUERIES: usize = 64;
/// Stands for a hidden key's score: far below any real one, and finite so that rows without keys don't become NaN.
const HIDDEN: f32 = -1e30;

/// See [`crate::kernels::attention`].
pub fn attention(qkv: Tensor<2>, visible: &Visible, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
    let (query, keys) = parts(&qkv);
    by_blocks(query, keys, None, visible, heads, dropout, None)
}

/// The same in blocks of at most so many queries of each row, in place of as many as [`SCORES`] allows.
pub fn attention_in_blocks(
    queries: usize,
    qkv: Tensor<2>,
    visible: &Visible,
    heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let (query, keys) = parts(&qkv);
    by_blocks(query, keys, None, visible, heads, dropout, Some(queries))
}

fn parts(qkv: &Tensor<2>) -> (Tensor<2>, KeyValue) {
    let hidden = qkv.dims()[1] / 3;
    let part = |i: usize| qkv.clone().narrow(1, i * hidden, hidden);
    (part(0), KeyValue { key: part(1), value: part(2) })
}

/// See [`crate::kernels::grouped_attention`].
pub fn grouped_attention(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<KeyValue>,
    visible: &Visible,
    heads: usize,
    groups: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    debug_assert_eq!(query.dims()[1] * groups, keys.key.dims()[1] * heads, "heads and groups are of one size");
    by_blocks(query, keys, prefix, visible, heads, dropout, None)
}

/// In blocks of `most` queries of each row.
fn by_blocks(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<KeyValue>,
    visible: &Visible,
    heads: usize,
    dropout: Option<&Dropout>,
    most: Option<usize>,
) -> Tensor<2> {
    let (rows, queries) = (visible.rows, visible.width);
    if rows * queries == 0 {
        return query;
    }
    let size = query.dims()[1] / heads;
    let groups = keys.key.dims()[1] / size;
    let shared = prefix.as_ref().map_or(0, |prefix| prefix.key.dims()[0]);
    let split = |x: Tensor<2>, rows: usize, heads: usize| {
        let length = x.dims()[0] / rows;
        x.reshape([rows, length, heads, size]).swap_dims(1, 2)
    };
    let query = split(query, rows, heads);
    let (mut key, mut value) = (split(keys.key, rows, groups), split(keys.value, rows, groups));
    if let Some(prefix) = prefix {
        let first =
            |x: Tensor<2>, rest| Tensor::cat(vec![split(x, 1, groups).expand([rows, groups, shared, size]), rest], 2);
        (key, value) = (first(prefix.key, key), first(prefix.value, value));
    }
    let most = most.unwrap_or_else(|| (SCORES / (rows * heads * (shared + visible.keys)).max(1)).max(QUERIES));
    let blocks = Blocks::new(visible, shared, heads, dropout, most);
    blocks.attention([query, key, value]).swap_dims(1, 2).reshape([rows * queries, heads * size])
}

/// Which scores there are, and how many at a time.
#[derive(Debug)]
struct Blocks {
    visible: Visible,
    /// Keys before those that `visible` counts; every query that sees any sees them.
    shared: usize,
    heads: usize,
    dropout: Option<Drops>,
    /// Queries of a block.
    length: usize,
}

/// Dropout of probabilities.
#[derive(Debug)]
struct Drops {
    dropout: Dropout,
    /// Where each query's random numbers begin, `[rows, heads, queries, 1]`.
    streams: Tensor<4, Int>,
}

/// A block's probabilities, in f32.
struct Probabilities {
    /// `[rows, heads, queries, keys]`.
    all: Tensor<4>,
    /// What they're multiplied by, in the same shape.
    kept: Option<Tensor<4>>,
}

impl Probabilities {
    /// Those that values are multiplied with.
    fn dropped(&self) -> Tensor<4> {
        match &self.kept {
            Some(kept) => self.all.clone() * kept.clone(),
            None => self.all.clone(),
        }
    }
}

impl Blocks {
    /// Blocks of equal lengths, of `most` queries.
    fn new(visible: &Visible, shared: usize, heads: usize, dropout: Option<&Dropout>, most: usize) -> Self {
        let (rows, queries) = (visible.rows, visible.width);
        let count = queries.div_ceil(most);
        let drops = |dropout: &Dropout| {
            let token = |at: usize| (at / queries / heads * queries + at % queries, at / queries % heads);
            let streams =
                (0..rows * heads * queries).map(token).map(|(token, head)| dropout.stream(token, head as u32));
            let streams = whole(streams.collect(), [rows, heads, queries, 1], &visible.from.device().inner());
            Drops { dropout: dropout.clone(), streams }
        };
        let length = queries.div_ceil(count);
        Self { visible: visible.clone(), shared, heads, dropout: dropout.map(drops), length }
    }

    /// Context `[rows, heads, queries, size]` from queries of that shape, and keys and values `[rows, groups, keys, size]`.
    fn attention(self, inputs: [Tensor<4>; 3]) -> Tensor<4> {
        let plain = inputs.each_ref().map(|input| input.clone().inner());
        let contexts = self.each().map(|queries| self.context(&plain, queries)).collect();
        recorded(Tensor::cat(contexts, 2), inputs.into(), move |gradient| {
            Slopes::of(self.slopes(&plain, gradient).map(Some))
        })
    }

    /// The queries of each block.
    fn each(&self) -> impl Iterator<Item = Range<usize>> {
        let (queries, length) = (self.visible.width, self.length);
        (0..queries).step_by(length).map(move |first| first..(first + length).min(queries))
    }

    /// A group's heads as further queries of its keys: `[rows, heads, queries, n]` to `[rows, groups, …, n]`.
    fn grouped(x: Tensor<4>, groups: usize) -> Tensor<4> {
        let [rows, heads, queries, width] = x.dims();
        x.reshape([rows, groups, heads / groups * queries, width])
    }

    /// And back.
    fn apart(&self, x: Tensor<4>) -> Tensor<4> {
        let [rows, groups, queries, width] = x.dims();
        x.reshape([rows, self.heads, queries * groups / self.heads, width])
    }

    /// A block's queries by group, scaled.
    fn scaled(query: &Tensor<4>, groups: usize, queries: &Range<usize>) -> Tensor<4> {
        let size = query.dims()[3];
        let block = query.clone().narrow(2, queries.start, queries.len());
        Self::grouped(block, groups).mul_scalar((size as f32).powf(-0.5))
    }

    /// A block's context, `[rows, heads, queries, size]`.
    fn context(&self, inputs @ [query, _, value]: &[Tensor<4>; 3], queries: Range<usize>) -> Tensor<4> {
        let groups = value.dims()[1];
        let probabilities = self.probabilities(inputs, queries).dropped().cast(query.dtype());
        self.apart(product(Self::grouped(probabilities, groups), value.clone()))
    }

    fn probabilities(&self, [query, key, _]: &[Tensor<4>; 3], queries: Range<usize>) -> Probabilities {
        let scaled = Self::scaled(query, key.dims()[1], &queries);
        let scores = self.apart(product(scaled, key.clone().swap_dims(2, 3))).cast(DType::F32);
        let hidden = self.hidden(&queries).expand(scores.dims());
        let scores = scores.mask_fill(hidden.clone(), HIDDEN);
        // The second time for queries that see nothing.
        let all = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
        Probabilities { all, kept: self.dropout.as_ref().map(|drops| self.multipliers(drops, queries)) }
    }

    /// `[rows, 1, queries, keys]`: true where the query doesn't see the key.
    fn hidden(&self, queries: &Range<usize>) -> Tensor<4, Bool> {
        let hidden = self.visible.hidden(queries.clone());
        if self.shared == 0 {
            return hidden;
        }
        let blind = self.visible.blind(queries.clone());
        Tensor::cat(vec![blind.expand([self.visible.rows, 1, queries.len(), self.shared]), hidden], 3)
    }

    /// What a block's probabilities are multiplied by.
    ///
    /// A mask's element is counted from the first key that the query sees, the shared ones included. What hidden keys are
    /// multiplied by doesn't matter.
    fn multipliers(&self, drops: &Drops, queries: Range<usize>) -> Tensor<4> {
        let Visible { rows, keys, from, .. } = &self.visible;
        let (rows, keys, shared) = (*rows, *keys, self.shared as u32);
        let device = from.device().inner();
        let key = whole((0..(rows * keys) as u32).collect(), [rows, 1, 1, keys], &device).add_scalar(shared);
        let from = from.clone().cast(IntDType::U32).reshape([rows, 1, self.visible.width, 1]);
        let mut index: Tensor<4, Int> = key - from.narrow(2, queries.start, queries.len());
        if shared > 0 {
            let first = whole((0..shared).collect(), [1, 1, 1, self.shared], &device);
            index = Tensor::cat(vec![first.expand([rows, 1, queries.len(), self.shared]), index], 3);
        }
        let streams = drops.streams.clone().narrow(2, queries.start, queries.len());
        super::multipliers(&drops.dropout, streams, index)
    }

    /// Gradients of queries, keys and values.
    fn slopes(&self, inputs @ [query, key, value]: &[Tensor<4>; 3], gradient: Tensor<4>) -> [Tensor<4>; 3] {
        let (numbers, groups) = (query.dtype(), key.dims()[1]);
        let mut d_queries = Vec::new();
        let mut sums: Option<[Tensor<4>; 2]> = None;
        for queries in self.each() {
            let probabilities = self.probabilities(inputs, queries.clone());
            let gradient = Self::grouped(gradient.clone().narrow(2, queries.start, queries.len()), groups);
            let dropped = Self::grouped(probabilities.dropped().cast(numbers), groups);
            let d_value = product(dropped.swap_dims(2, 3), gradient.clone());

            let mut slopes = self.apart(product(gradient, value.clone().swap_dims(2, 3))).cast(DType::F32);
            let Probabilities { all, kept } = probabilities;
            if let Some(kept) = kept {
                slopes = slopes * kept;
            }
            let slopes = all.clone() * slopes;
            let slopes = slopes.clone() - all * slopes.sum_dim(3);
            let slopes = Self::grouped(slopes.cast(numbers), groups);
            let d_key = product(slopes.clone().swap_dims(2, 3), Self::scaled(query, groups, &queries));
            let d_query = product(slopes, key.clone()).mul_scalar((query.dims()[3] as f32).powf(-0.5));
            d_queries.push(self.apart(d_query));
            let parts = [d_key, d_value].map(|part| part.cast(DType::F32));
            sums = Some(match sums.take() {
                Some([keys, values]) => {
                    let [key, value] = parts;
                    [keys + key, values + value]
                }
                None => parts,
            });
        }
        let [d_key, d_value] = sums.unwrap_or_else(|| unreachable!("there are queries"));
        [Tensor::cat(d_queries, 2), d_key.cast(key.dtype()), d_value.cast(value.dtype())]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Context and gradients of two rows of nine queries, with so many of them in a block.
    fn run(most: usize, shared: usize, numbers: DType) -> Vec<Vec<f32>> {
        let device = Device::flex();
        let noise = |shape: [usize; 4], seed: f32| {
            let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin()).collect::<Vec<f32>>();
            Tensor::<4>::from_data(TensorData::new(values, shape), &device).cast(numbers).autodiff()
        };
        let from: Vec<u32> = (0..18).map(|q| q / 9 * 9 + if q % 9 < 4 { 0 } else { 4 }).collect();
        // Whole examples and causal ones; the last query of each row sees nothing.
        let to: Vec<u32> = (0..18).map(|q| if q % 9 == 8 { from[q as usize] } else { q / 9 * 9 + q % 9 + 1 }).collect();
        let visible = Visible::new(&from, &to, 2, 9, &device.clone().autodiff()).expect("intervals");
        let dropout = Dropout { p: 0.25, keys: (0..18).map(|i| i * i + 3).collect(), site: 4 };
        let keys = [2, 2, shared + 9, 3];
        let inputs = [noise([2, 4, 9, 3], 1.1), noise(keys, 1.7), noise(keys, 2.3)].map(Tensor::require_grad);
        let context = Blocks::new(&visible, shared, 4, Some(&dropout), most).attention(inputs.clone());
        let gradients = (context.clone() * noise([2, 4, 9, 3], 3.1)).sum().backward();
        let slopes = inputs.iter().map(|input| input.grad(&gradients).expect("a gradient"));
        let values = |tensor: Tensor<4>| tensor.try_into_vec_as::<f32>().expect("numbers");
        std::iter::once(context.inner()).chain(slopes).map(values).collect()
    }

    fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
        for (part, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= tolerance, "{part}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn blocks_of_any_size_give_the_same() {
        for shared in [0, 3] {
            let whole = run(100, shared, DType::F32);
            for most in [1, 2, 4, 8, 9] {
                assert_near(&run(most, shared, DType::F32), &whole, 2e-6);
            }
            for numbers in [DType::BF16, DType::F16] {
                assert_near(&run(4, shared, numbers), &whole, 3e-2);
            }
        }
    }
}
