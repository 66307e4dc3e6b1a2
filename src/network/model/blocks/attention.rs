//! Self-attention: projections to queries, keys and values, rotary positions, and what becomes of the heads.

use burn::tensor::Tensor;

use super::{Branch, Linear};
use crate::network::{
    kernels::{self, KeyValue, Rotation},
    model::{
        parameters::Builder,
        pass::{Along, Pass},
    },
};

/// How queries, keys and values are made, by the names of the layers that make them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Projection {
    /// By one layer with the rows `[queries | keys | values]`.
    Stacked(&'static str),
    /// By one layer with the rows `[query | key | value]` of one head after the other.
    PerHead(&'static str),
    /// By a layer each.
    Separate([&'static str; 3]),
}

/// A part of each head that is turned by the tokens' positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Which numbers, and by how much.
    pub rotation: Rotation,
    /// Which positions.
    pub along: Along,
}

/// The sizes of an attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionDesign {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, each for `heads / groups` heads of queries.
    pub groups: usize,
    /// Numbers a head.
    pub size: usize,
    /// How queries, keys and values are made.
    pub projection: Projection,
    /// Whether that has a bias.
    pub bias: bool,
    /// What is turned in queries and keys.
    pub turns: Vec<Turn>,
}

impl AttentionDesign {
    /// As many heads of keys as of queries, together as wide as the hidden states; a bias and no turns.
    pub fn classic(hidden: usize, heads: usize, projection: Projection) -> Self {
        Self { heads, groups: heads, size: hidden / heads, projection, bias: true, turns: Vec::new() }
    }

    /// The layers that make queries, keys and values of `[T, hidden]`, `name`d within their model.
    pub(super) fn projections(
        &self,
        builder: &mut Builder,
        name: &dyn Fn(&str) -> String,
        hidden: usize,
        deviation: f64,
    ) -> Vec<Linear> {
        let (queries, keys) = (self.heads * self.size, self.groups * self.size);
        builder.attends(self.groups, keys);
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

    /// Queries `[T, heads * size]`, keys and values `[T, groups * size]`, turned.
    fn projected(&self, pass: &Pass, x: Tensor<2>) -> (Tensor<2>, KeyValue) {
        let AttentionDesign { heads, groups, .. } = self.design;
        let [query, key, value] = match &self.projections[..] {
            [all] => self.parts(all.forward(pass, x)),
            layers => [0, 1, 2].map(|part| layers[part].forward(pass, x.clone())),
        };
        let turned = |x, heads| {
            let turns = self.design.turns.iter();
            turns.fold(x, |x, turn| kernels::rotary(x, heads, &pass.rotary(turn.rotation, turn.along)))
        };
        (turned(query, heads), KeyValue { key: turned(key, groups), value })
    }

    /// Queries, keys and values out of the product of the one layer.
    fn parts(&self, all: Tensor<2>) -> [Tensor<2>; 3] {
        let AttentionDesign { heads, groups, size, projection, .. } = self.design;
        match projection {
            Projection::PerHead(_) => {
                let tokens = all.dims()[0];
                let all = all.reshape([tokens, heads, 3 * size]);
                [0, 1, 2].map(|part| all.clone().narrow(2, part * size, size).reshape([tokens, heads * size]))
            }
            _ => {
                let (queries, keys) = (heads * size, groups * size);
                [(0, queries), (queries, keys), (queries + keys, keys)]
                    .map(|(start, width)| all.clone().narrow(1, start, width))
            }
        }
    }

    /// Whether the product of the one layer is what the kernel for classic attention takes.
    fn is_classic(&self) -> bool {
        let AttentionDesign { heads, groups, projection, turns, .. } = &self.design;
        matches!(projection, Projection::Stacked(_)) && heads == groups && turns.is_empty()
    }
}

impl Branch for SelfAttention {
    fn inner(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let AttentionDesign { heads, groups, .. } = self.design;
        if self.is_classic() {
            return pass.self_attention(self.projections[0].forward(pass, x), heads);
        }
        let (query, keys) = self.projected(pass, x);
        pass.attention(query, keys, heads, groups)
    }

    fn last(&self) -> &Linear {
        &self.dense
    }
}
