//! Self-attention: projections to queries, keys and values, rotary embeddings, and the heads' attention.

use burn::tensor::Tensor;

use super::{Branch, Linear};
use crate::network::{
    kernels::{self, KeyValue, Rotation},
    model::{
        builder::Builder,
        pass::{Along, Pass},
    },
};

/// The linear layers that make queries, keys and values, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Projection {
    /// By one layer with the rows `[queries | keys | values]`.
    Stacked(&'static str),
    /// By one layer with the rows `[query | key | value]` of one head after the other.
    PerHead(&'static str),
    /// By a layer each.
    Separate([&'static str; 3]),
}

/// Rotary embedding of a part of each head (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryEmbedding {
    /// Which dimensions, and at which frequencies.
    pub rotation: Rotation,
    /// Which positions.
    pub along: Along,
}

/// The sizes of an attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionDesign {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub size: usize,
    /// How queries, keys and values are made.
    pub projection: Projection,
    /// Whether that has a bias.
    pub bias: bool,
    /// Rotary embeddings of queries and keys.
    pub rotary: Vec<RotaryEmbedding>,
}

impl AttentionDesign {
    /// Multi-head attention (Vaswani et al. 2017): as many key heads as query heads, together as wide as the hidden
    /// states; a bias and no rotary embeddings.
    pub fn multi_head(hidden: usize, heads: usize, projection: Projection) -> Self {
        Self { heads, kv_heads: heads, size: hidden / heads, projection, bias: true, rotary: Vec::new() }
    }

    /// The layers that make queries, keys and values of `[T, hidden]`, `name`d within their model.
    pub(super) fn projections(
        &self,
        builder: &mut Builder,
        name: &dyn Fn(&str) -> String,
        hidden: usize,
        deviation: f64,
    ) -> Vec<Linear> {
        let (queries, keys) = (self.heads * self.size, self.kv_heads * self.size);
        builder.attends(self.kv_heads, keys);
        builder.keeps(queries + 2 * keys);
        let mut linear = |part, rows| Linear::new(builder, &name(part), [rows, hidden], self.bias, deviation);
        match self.projection {
            Projection::Stacked(all) | Projection::PerHead(all) => vec![linear(all, queries + 2 * keys)],
            Projection::Separate([query, key, value]) => {
                vec![linear(query, queries), linear(key, keys), linear(value, keys)]
            }
        }
    }
}

/// Multi-head self-attention.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    design: AttentionDesign,
    /// One layer, or three.
    projections: Vec<Linear>,
    dense: Linear,
}

impl SelfAttention {
    /// From the layers that the design asks for, and the one that puts the heads together again:
    /// `[hidden, heads * size]`.
    pub fn new(design: AttentionDesign, projections: Vec<Linear>, dense: Linear) -> Self {
        Self { design, projections, dense }
    }

    /// Queries `[T, heads * size]`, keys and values `[T, kv_heads * size]`, with rotary embeddings.
    fn projected(&self, pass: &Pass, x: Tensor<2>) -> (Tensor<2>, KeyValue) {
        let AttentionDesign { heads, kv_heads, .. } = self.design;
        let [query, key, value] = match &self.projections[..] {
            [all] => self.parts(all.forward(pass, x)),
            layers => [0, 1, 2].map(|part| layers[part].forward(pass, x.clone())),
        };
        let rotated = |x, heads| {
            let rotary = self.design.rotary.iter();
            rotary.fold(x, |x, part| kernels::rotary(x, heads, &pass.rotary(part.rotation, part.along)))
        };
        (rotated(query, heads), KeyValue { key: rotated(key, kv_heads), value })
    }

    /// Queries, keys and values out of the output of the one layer.
    fn parts(&self, all: Tensor<2>) -> [Tensor<2>; 3] {
        let AttentionDesign { heads, kv_heads, size, projection, .. } = self.design;
        match projection {
            Projection::PerHead(_) => {
                let tokens = all.dims()[0];
                let all = all.reshape([tokens, heads, 3 * size]);
                [0, 1, 2].map(|part| all.clone().narrow(2, part * size, size).reshape([tokens, heads * size]))
            }
            _ => {
                let (queries, keys) = (heads * size, kv_heads * size);
                [(0, queries), (queries, keys), (queries + keys, keys)]
                    .map(|(start, width)| all.clone().narrow(1, start, width))
            }
        }
    }

    /// Whether the output of the one layer is what the kernel for plain multi-head attention takes.
    fn is_multi_head(&self) -> bool {
        let AttentionDesign { heads, kv_heads, projection, rotary, .. } = &self.design;
        matches!(projection, Projection::Stacked(_)) && heads == kv_heads && rotary.is_empty()
    }
}

impl Branch for SelfAttention {
    fn inner(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let AttentionDesign { heads, kv_heads, .. } = self.design;
        if self.is_multi_head() {
            return pass.self_attention(self.projections[0].forward(pass, x), heads);
        }
        let (query, keys) = self.projected(pass, x);
        pass.attention(query, keys, heads, kv_heads)
    }

    fn last(&self) -> &Linear {
        &self.dense
    }
}
