//! A decoder's layer: between its two halves it reads what an encoder made of a source.

use burn::tensor::Tensor;

use super::{Branch, Layer, LayerDesign, Linear, Norm, layer::Residual};
use crate::network::{
    kernels::{self, AttentionSpans, KeyValue},
    model::{builder::Builder, pass::Pass},
};

/// What the parameters of the attention to the source are called.
#[derive(Debug)]
pub struct CrossAttentionNames {
    /// The layers that make queries, keys and values.
    pub projections: [&'static str; 3],
    /// The last linear layer.
    pub dense: &'static str,
    /// The norm behind it.
    pub norm: &'static str,
}

/// What an encoder made of the sources of a batch.
#[derive(Debug)]
pub struct EncoderStates {
    /// Its hidden states, `[S, hidden]`.
    pub states: Tensor<2>,
    /// Which of them each of the decoder's tokens reads.
    pub reads: AttentionSpans,
}

impl EncoderStates {
    /// The same for one layer, and for those after it, whose gradients are added up in this order.
    pub fn fork(self) -> [Self; 2] {
        let Self { states, reads } = self;
        kernels::fork_in_order(&states).map(|states| Self { states, reads: reads.clone() })
    }
}

/// One layer, with norms behind the branches.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    halves: Layer,
    residual: Residual,
    cross_attention: CrossAttention,
}

/// Attention to the source.
#[derive(Clone, Debug)]
struct CrossAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    heads: usize,
}

impl DecoderLayer {
    /// Adds the parameters of the layer of this number.
    pub fn new(builder: &mut Builder, design: &LayerDesign, names: &CrossAttentionNames, index: usize) -> Self {
        let LayerDesign { hidden, bias, deviation, last_deviation, .. } = *design;
        let halves = Layer::new(builder, design, index);
        let name = |part: &str| format!("{}.{index}.{part}", design.names.layers);
        builder.keeps(3 * hidden);
        let mut linear = |part: &str, deviation| Linear::new(builder, &name(part), [hidden, hidden], bias, deviation);
        let [query, key, value] = names.projections.map(|part| linear(part, deviation));
        let dense = linear(names.dense, last_deviation);
        let residual = Residual::Post(Norm::new(builder, &name(names.norm), hidden, design.norm));
        Self {
            halves,
            residual,
            cross_attention: CrossAttention { query, key, value, dense, heads: design.attention.heads },
        }
    }

    /// `[T, hidden]` to the same.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>, memory: EncoderStates) -> Tensor<2> {
        let (layer, EncoderStates { states, reads }) = (self.clone(), memory);
        pass.block([x, states], move |pass, [x, states]| {
            let x = layer.halves.attended(pass, x);
            let memory = &EncoderStates { states, reads: reads.clone() };
            let x = layer.residual.around(pass, x, &CrossAttending { attention: &layer.cross_attention, memory });
            layer.halves.fed(pass, x)
        })
    }
}

/// The attention with what it reads.
struct CrossAttending<'a> {
    attention: &'a CrossAttention,
    memory: &'a EncoderStates,
}

impl Branch for CrossAttending<'_> {
    fn inner(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let CrossAttention { query, key, value, heads, .. } = self.attention;
        let states = &self.memory.states;
        let keys = KeyValue { key: key.forward(pass, states.clone()), value: value.forward(pass, states.clone()) };
        let (reads, dropout) = (&self.memory.reads, pass.attention_dropout());
        kernels::grouped_attention(query.forward(pass, x), keys, None, reads, *heads, *heads, dropout.as_ref())
    }

    fn last(&self) -> &Linear {
        &self.attention.dense
    }
}
