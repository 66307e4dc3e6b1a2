//! The CPU's operations.

use std::sync::Arc;

use burn::{
    backend::Flex,
    tensor::{DType, Tensor, activation},
};

use super::{
    attention::{Attention, CachedAttention},
    compact::look_up,
    cross_entropy::LinearCrossEntropy,
    dropout_add::DropoutAdd,
    embedding::{AddEmbedding, Embedding},
    gelu::GeluKernel,
    kernel::{binary, ternary, unary},
    layer_norm::LayerNorm,
    linear::{CompactLinear, Linear, MatMul},
    reductions::{LogSoftmax, Sum},
    rms_norm::RmsNorm,
    rotary::RotaryKernel,
    swiglu::SwiGlu,
    unit::Unit,
};
use crate::{
    network::kernels::{
        AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, Rotary, RowIds, Weight, operations::Operations,
    },
    support::arithmetic::Arithmetic,
};

/// Kernels for burn's flex backend.
///
/// Most compute alike in either [`Arithmetic`], since their sums are in an order of their own; the others look it up. What is
/// left to burn's operations in fast mode, since it hardly takes time, has a kernel for portable mode.
pub(in crate::network::kernels) struct Fused;

fn is_portable() -> bool {
    Arithmetic::current() == Arithmetic::Portable
}

impl Operations for Fused {
    fn matmul(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        if is_portable() { binary(MatMul, a, b) } else { a.matmul(b) }
    }

    fn attention(&self, qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
        let spans = spans.host().clone();
        unary(Attention { spans, heads, kv_heads: heads, shared: 0, dropout: dropout.cloned() }, qkv)
    }

    fn grouped_attention(
        &self,
        query: Tensor<2>,
        keys: KeyValue,
        prefix: Option<PrefixKeys>,
        spans: &AttentionSpans,
        heads: usize,
        kv_heads: usize,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let (shared, KeyValue { key, value }) = match prefix {
            Some(PrefixKeys::Beside(prefix)) => {
                let behind = |first: Tensor<2>, rest: Tensor<2>| Tensor::cat(vec![first.cast(rest.dtype()), rest], 0);
                let shared = prefix.key.dims()[0];
                (shared, KeyValue { key: behind(prefix.key, keys.key), value: behind(prefix.value, keys.value) })
            }
            Some(PrefixKeys::First(shared)) => (shared, keys),
            None => (0, keys),
        };
        let spans = spans.host().clone();
        let attention = Attention { spans, heads, kv_heads, shared, dropout: dropout.cloned() };
        // Queries in f32 beside keys in bf16 are those of a cache.
        if query.dtype() == DType::F32 && key.dtype() == DType::BF16 {
            return unary(CachedAttention { attention, keys: KeyValue { key, value } }, query);
        }
        ternary(attention, query, key, value)
    }

    fn rotary(&self, x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
        unary(RotaryKernel { heads, rotary: rotary.clone() }, x)
    }

    fn rms_norm(&self, x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
        binary(RmsNorm { eps }, x, gamma)
    }

    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
        ternary(LayerNorm { eps }, x, gamma, beta)
    }

    fn gelu(&self, x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
        match bias {
            Some(bias) => binary(GeluKernel(kind), x, bias),
            None => unary(GeluKernel(kind), x),
        }
    }

    fn swiglu(&self, x: Tensor<2>) -> Tensor<2> {
        unary(SwiGlu, x)
    }

    fn silu(&self, x: Tensor<2>) -> Tensor<2> {
        if is_portable() { unary(Unit::Silu, x) } else { activation::silu(x) }
    }

    fn tanh(&self, x: Tensor<2>) -> Tensor<2> {
        if is_portable() { unary(Unit::Tanh, x) } else { x.tanh() }
    }

    fn log_softmax(&self, x: Tensor<2>) -> Tensor<2> {
        if is_portable() { unary(LogSoftmax, x) } else { activation::log_softmax(x, 1) }
    }

    fn sum(&self, x: Tensor<2>) -> Tensor<1> {
        if is_portable() { unary(Sum, x) } else { x.sum() }
    }

    fn sum_by_rows(&self, x: Tensor<2>) -> Tensor<2> {
        if is_portable() { unary::<1, _, 2>(Sum, x).unsqueeze() } else { x.sum_dim(1).sum_dim(0) }
    }

    fn dropout_add(
        &self,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let kernel = DropoutAdd(dropout.cloned());
        match bias {
            Some(bias) => ternary(kernel, x, residual, bias),
            None => binary(kernel, x, residual),
        }
    }

    fn dropout(&self, x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
        unary(DropoutAdd(Some(dropout.clone())), x)
    }

    fn linear(&self, x: Tensor<2>, weight: Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
        match (weight, bias) {
            (Weight::Full(weight), Some(bias)) => ternary(Linear, x, weight, bias),
            (Weight::Full(weight), None) => binary(Linear, x, weight),
            (Weight::Compact(weight), Some(bias)) => binary(CompactLinear(weight), x, bias),
            (Weight::Compact(weight), None) => unary(CompactLinear(weight), x),
        }
    }

    fn embedding(&self, table: Weight, ids: &RowIds) -> Tensor<2> {
        match table {
            Weight::Full(table) => unary(Embedding(ids.host.clone()), table),
            Weight::Compact(table) => Tensor::from_primitive::<Flex>(look_up(&table, ids)),
        }
    }

    fn add_embedding(&self, sum: Tensor<2>, table: Weight, ids: &RowIds) -> Tensor<2> {
        match table {
            Weight::Full(table) => binary(AddEmbedding(ids.host.clone()), sum, table),
            Weight::Compact(_) => sum + self.embedding(table, ids),
        }
    }

    fn linear_cross_entropy(
        &self,
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        targets: Arc<[u32]>,
        weights: Arc<[f32]>,
        smoothing: f32,
    ) -> Tensor<1> {
        let kernel = LinearCrossEntropy { targets, weights, smoothing };
        let hidden = hidden.cast(DType::F32);
        match bias {
            Some(bias) => ternary(kernel, hidden, weight, bias),
            None => binary(kernel, hidden, weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// A result and the gradients of the inputs of `f`, for a gradient of the result that isn't 1 everywhere.
    fn results(f: &dyn Fn(&[Tensor<2>]) -> Tensor<2>, shapes: &[[usize; 2]]) -> Vec<f32> {
        let noise = |shape: [usize; 2], seed: f32| {
            let values = (0..shape[0] * shape[1]).map(|i| 3.0 * (i as f32 * seed).sin()).collect::<Vec<f32>>();
            Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex())
        };
        let inputs = shapes.iter().zip([1.1, 1.7]).map(|(&shape, seed)| noise(shape, seed).autodiff().require_grad());
        let inputs: Vec<Tensor<2>> = inputs.collect();
        let y = f(&inputs);
        let found = (y.clone() * noise(y.dims(), 2.3).autodiff()).sum().backward();
        let grads = inputs.iter().map(|input| input.grad(&found).expect("a gradient"));
        std::iter::once(y.inner()).chain(grads).flat_map(|x| x.try_into_vec_as::<f32>().expect("values")).collect()
    }

    #[test]
    fn kernels_of_portable_mode_give_what_burns_operations_do() {
        type Operation = fn(&[Tensor<2>]) -> Tensor<2>;
        let both: [(&str, &[[usize; 2]], Operation, Operation); 5] = [
            ("silu", &[[5, 19]], |x| unary(Unit::Silu, x[0].clone()), |x| activation::silu(x[0].clone())),
            ("tanh", &[[40, 3]], |x| unary(Unit::Tanh, x[0].clone()), |x| x[0].clone().tanh()),
            (
                "log softmax",
                &[[7, 33]],
                |x| unary(LogSoftmax, x[0].clone()),
                |x| activation::log_softmax(x[0].clone(), 1),
            ),
            (
                "sum",
                &[[6, 21]],
                |x| unary::<1, _, 2>(Sum, x[0].clone()).unsqueeze(),
                |x| x[0].clone().sum().unsqueeze(),
            ),
            (
                "matmul",
                &[[5, 18], [18, 7]],
                |x| binary(MatMul, x[0].clone(), x[1].clone()),
                |x| x[0].clone().matmul(x[1].clone()),
            ),
        ];
        for (name, shapes, kernel, operation) in both {
            let (found, expected) = (results(&kernel, shapes), results(&operation, shapes));
            assert_eq!(found.len(), expected.len(), "{name}");
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let near = (found - expected).abs() <= 3e-6 * expected.abs().max(1.0);
                assert!(near, "{name}, {at}: {found} instead of {expected}");
            }
        }
    }
}
