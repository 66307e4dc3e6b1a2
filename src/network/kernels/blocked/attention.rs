//! Attention by blocks of queries, each with all keys that any of them sees: no scores but those of a block exist, and the
//! backward pass makes them again (Dao et al. 2022, <https://arxiv.org/abs/2205.14135>). Blocks are large, since each
//! operation is a kernel of its own: a softmax sees all of its keys, and needs no running maximum.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use super::{Between, Softmax};
use crate::network::kernels::{
    AttentionSpans, Dropout, KeyValue, PrefixKeys,
    custom_backward::{Grads, custom_backward},
    matmul::matmul,
};

/// Scores that exist at a time; some four tensors of their size are alive together.
pub const SCORES: usize = 1 << 26;
/// Fewest queries of a block, however many keys there are.
const QUERIES: usize = 64;
/// Most queries of a block where the last of them see keys that the first don't: a block's products leave out what none of
/// its queries sees.
const CAUSAL: usize = 256;

/// See [`crate::network::kernels::attention`]; in blocks of at most so many queries of each row, or of as many as [`SCORES`]
/// allows. Queries, keys and values are in one tensor, so that their gradients are put together once.
pub(in crate::network::kernels) fn attention(
    between: &dyn Between,
    qkv: Tensor<2>,
    spans: &AttentionSpans,
    heads: usize,
    dropout: Option<&Dropout>,
    most: Option<usize>,
) -> Tensor<2> {
    let (tokens, hidden) = (qkv.dims()[0], qkv.dims()[1] / 3);
    if tokens == 0 {
        return qkv.narrow(1, 0, hidden);
    }
    let rows = spans.rows;
    let plain = qkv.clone().inner();
    let parts = [0, 1, 2].map(|at| apart(plain.clone().narrow(1, at * hidden, hidden), rows, heads));
    let blocks = Blocks::new(between, spans, 0, heads, dropout, most);
    let context = together(blocks.contexts(&parts));
    custom_backward(context, vec![qkv], move |gradient: Tensor<2>| {
        let grads = blocks.grads(&parts, apart(gradient, rows, heads));
        Grads::of([Some(Tensor::cat(grads.map(together).into(), 1))])
    })
}

/// `[rows * length, heads * size]` as `[rows, heads, length, size]`.
fn apart(x: Tensor<2>, rows: usize, heads: usize) -> Tensor<4> {
    let [tokens, width] = x.dims();
    x.reshape([rows, tokens / rows, heads, width / heads]).swap_dims(1, 2)
}

/// And back.
fn together(x: Tensor<4>) -> Tensor<2> {
    let [rows, heads, length, size] = x.dims();
    x.swap_dims(1, 2).reshape([rows * length, heads * size])
}

/// See [`crate::network::kernels::grouped_attention`].
#[expect(clippy::too_many_arguments, reason = "it takes what attention takes")]
pub(in crate::network::kernels) fn grouped_attention(
    between: &dyn Between,
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<PrefixKeys>,
    spans: &AttentionSpans,
    heads: usize,
    kv_heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let rows = spans.rows;
    if query.dims()[0] == 0 {
        return query;
    }
    // A cache may hold them in fewer bits.
    let keys = [keys.key, keys.value].map(|x| apart(x.cast(query.dtype()), rows, kv_heads));
    let ([mut key, mut value], query) = (keys, apart(query, rows, heads));
    let shared = match prefix {
        Some(PrefixKeys::Beside(prefix)) => {
            let shared = prefix.key.dims()[0];
            let first = |x: Tensor<2>, rest: Tensor<4>| {
                let [_, _, _, size] = rest.dims();
                Tensor::cat(vec![apart(x, 1, kv_heads).expand([rows, kv_heads, shared, size]), rest], 2)
            };
            (key, value) = (first(prefix.key, key), first(prefix.value, value));
            shared
        }
        Some(PrefixKeys::First(shared)) => shared,
        None => 0,
    };
    let inputs = [query, key, value];
    let plain = inputs.each_ref().map(|input| input.clone().inner());
    let blocks = Blocks::new(between, spans, shared, heads, dropout, None);
    let context = blocks.contexts(&plain);
    together(custom_backward(context, inputs.into(), move |gradient| {
        Grads::of(blocks.grads(&plain, gradient).map(Some))
    }))
}

/// Which scores there are, and how many at a time.
#[derive(Debug)]
struct Blocks {
    spans: AttentionSpans,
    /// Keys before those that `spans` counts; every query that sees any sees them.
    shared: usize,
    heads: usize,
    /// Queries of a block; the last one may have fewer.
    length: usize,
    softmax: Box<dyn Softmax>,
}

impl Blocks {
    /// Blocks of equal lengths: of `most` queries, or of as many as memory and what they see allow.
    fn new(
        between: &dyn Between,
        spans: &AttentionSpans,
        shared: usize,
        heads: usize,
        dropout: Option<&Dropout>,
        most: Option<usize>,
    ) -> Self {
        let queries = spans.width;
        let most = most.unwrap_or_else(|| {
            let fits = (SCORES / (spans.rows * heads * (shared + spans.keys)).max(1)).max(QUERIES);
            let [first, all] = [0..1, 0..queries].map(|queries| spans.span(queries).len());
            if first < all { fits.min(CAUSAL) } else { fits }
        });
        let length = queries.div_ceil(queries.div_ceil(most));
        let softmax = between.softmax(spans, shared, heads, dropout);
        Self { spans: spans.clone(), shared, heads, length, softmax }
    }

    /// Context `[rows, heads, queries, size]` from queries of that shape, and keys and values `[rows, kv_heads, keys, size]`.
    fn contexts(&self, inputs: &[Tensor<4>; 3]) -> Tensor<4> {
        Tensor::cat(self.each().map(|queries| self.context(inputs, queries)).collect(), 2)
    }

    /// The queries of each block.
    fn each(&self) -> impl Iterator<Item = Range<usize>> {
        let (queries, length) = (self.spans.width, self.length);
        (0..queries).step_by(length).map(move |first| first..(first + length).min(queries))
    }

    /// The keys that any of these queries sees in any row, the shared ones before the others; at least one.
    fn keys(&self, queries: &Range<usize>) -> Range<usize> {
        let seen = self.spans.span(queries.clone());
        let start = if self.shared > 0 { 0 } else { seen.start };
        start..(self.shared + seen.end).max(start + 1)
    }

    /// The query heads of a key/value head as further queries of its keys: `[rows, heads, queries, n]` to `[rows, kv_heads, …, n]`.
    fn grouped(x: Tensor<4>, kv_heads: usize) -> Tensor<4> {
        let [rows, heads, queries, width] = x.dims();
        x.reshape([rows, kv_heads, heads / kv_heads * queries, width])
    }

    /// And back.
    fn apart(&self, x: Tensor<4>) -> Tensor<4> {
        let [rows, kv_heads, queries, width] = x.dims();
        x.reshape([rows, self.heads, queries * kv_heads / self.heads, width])
    }

    /// A block's queries by key/value head, scaled.
    fn scaled(query: &Tensor<4>, kv_heads: usize, queries: &Range<usize>) -> Tensor<4> {
        let size = query.dims()[3];
        let block = query.clone().narrow(2, queries.start, queries.len());
        Self::grouped(block, kv_heads).mul_scalar((size as f32).powf(-0.5))
    }

    /// A block's scores: `[rows, heads, queries, keys]`.
    fn scores(&self, scaled: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
        self.apart(matmul(scaled, key.swap_dims(2, 3)))
    }

    /// A block's context, `[rows, heads, queries, size]`.
    fn context(&self, [query, key, value]: &[Tensor<4>; 3], queries: Range<usize>) -> Tensor<4> {
        let (kv_heads, keys) = (value.dims()[1], self.keys(&queries));
        let [key, value] = [key, value].map(|x| x.clone().narrow(2, keys.start, keys.len()));
        let scores = self.scores(Self::scaled(query, kv_heads, &queries), key);
        let probabilities = self.softmax.probabilities(scores, queries, keys);
        self.apart(matmul(Self::grouped(probabilities, kv_heads), value))
    }

    /// Gradients of queries, keys and values.
    fn grads(&self, [query, key, value]: &[Tensor<4>; 3], gradient: Tensor<4>) -> [Tensor<4>; 3] {
        let kv_heads = key.dims()[1];
        let mut d_queries = Vec::new();
        let mut sums: Option<[Tensor<4>; 2]> = None;
        // The last block first: it sees most keys, so that what the others add fits into its sums.
        for queries in self.each().collect::<Vec<_>>().into_iter().rev() {
            let keys = self.keys(&queries);
            let [key, value] = [key, value].map(|x| x.clone().narrow(2, keys.start, keys.len()));
            let scaled = Self::scaled(query, kv_heads, &queries);
            let gradient = Self::grouped(gradient.clone().narrow(2, queries.start, queries.len()), kv_heads);
            let scores = self.scores(scaled.clone(), key.clone());
            let grads = self.apart(matmul(gradient.clone(), value.swap_dims(2, 3)));
            let [dropped, grads] =
                self.softmax.grads(scores, grads, queries, keys.clone()).map(|x| Self::grouped(x, kv_heads));
            let d_value = matmul(dropped.swap_dims(2, 3), gradient);
            let d_key = matmul(grads.clone().swap_dims(2, 3), scaled);
            let d_query = matmul(grads, key).mul_scalar((query.dims()[3] as f32).powf(-0.5));
            d_queries.push(self.apart(d_query));
            sums = Some(self.added(sums.take(), [d_key, d_value].map(|part| part.cast(DType::F32)), keys));
        }
        d_queries.reverse();
        let [d_key, d_value] = sums.unwrap_or_else(|| unreachable!("there are queries"));
        [Tensor::cat(d_queries, 2), d_key.cast(key.dtype()), d_value.cast(value.dtype())]
    }

    /// Sums over blocks with those of some keys added.
    fn added(&self, sums: Option<[Tensor<4>; 2]>, parts: [Tensor<4>; 2], keys: Range<usize>) -> [Tensor<4>; 2] {
        let all = self.shared + self.spans.keys;
        let Some(sums) = sums else {
            return match keys.len() == all {
                true => parts,
                false => parts.map(|part| {
                    let [rows, kv_heads, _, size] = part.dims();
                    let whole = Tensor::zeros([rows, kv_heads, all, size], (&part.device(), DType::F32));
                    whole.slice_assign([0..rows, 0..kv_heads, keys.clone(), 0..size], part)
                }),
            };
        };
        let [sum, other] = sums;
        let [part, rest] = parts;
        [(sum, part), (other, rest)].map(|(sum, part)| {
            if keys.len() == all {
                return sum + part;
            }
            let [rows, kv_heads, _, size] = part.dims();
            let place = [0..rows, 0..kv_heads, keys.clone(), 0..size];
            let part = sum.clone().slice(place.clone()) + part;
            sum.slice_assign(place, part)
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::network::kernels::reference::Reference;

    /// Context and gradients of two rows of nine queries, with so many of them in a block.
    fn run(most: usize, shared: usize, dtype: DType) -> Vec<Vec<f32>> {
        let device = Device::flex();
        let noise = |shape: [usize; 4], seed: f32| {
            let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin()).collect::<Vec<f32>>();
            Tensor::<4>::from_data(TensorData::new(values, shape), &device).cast(dtype).autodiff()
        };
        let from: Vec<u32> = (0..18).map(|q| q / 9 * 9 + if q % 9 < 4 { 0 } else { 4 }).collect();
        // Whole examples and causal ones; the last query of each row sees nothing.
        let to: Vec<u32> = (0..18).map(|q| if q % 9 == 8 { from[q as usize] } else { q / 9 * 9 + q % 9 + 1 }).collect();
        let spans = AttentionSpans::new(&from, &to, 2, 9, &device.clone().autodiff()).expect("intervals");
        let dropout = Dropout { p: 0.25, keys: (0..18).map(|i| i * i + 3).collect(), site: 4 };
        let keys = [2, 2, shared + 9, 3];
        let inputs = [noise([2, 4, 9, 3], 1.1), noise(keys, 1.7), noise(keys, 2.3)].map(Tensor::require_grad);
        let plain = inputs.each_ref().map(|input| input.clone().inner());
        let blocks = Blocks::new(&Reference, &spans, shared, 4, Some(&dropout), Some(most));
        let context = custom_backward(blocks.contexts(&plain), inputs.clone().into(), move |gradient| {
            Grads::of(blocks.grads(&plain, gradient).map(Some))
        });
        let gradients = (context.clone() * noise([2, 4, 9, 3], 3.1)).sum().backward();
        let grads = inputs.iter().map(|input| input.grad(&gradients).expect("a gradient"));
        let values = |tensor: Tensor<4>| tensor.try_into_vec_as::<f32>().expect("values");
        std::iter::once(context.inner()).chain(grads).map(values).collect()
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
            for dtype in [DType::BF16, DType::F16] {
                assert_near(&run(4, shared, dtype), &whole, 3e-2);
            }
        }
    }
}
