//! A transformer's layer: attention and feed-forward, each beside the residual stream.

use burn::tensor::Tensor;

use super::{Activation, AttentionDesign, Branch, FeedForward, Linear, Norm, NormKind, SelfAttention};
use crate::network::{
    kernels,
    model::{builder::Builder, pass::Pass},
};

/// Where a layer's norms are, relative to its branches and the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormPlacement {
    /// `x + f(norm(x))` (GPT-2, GLM, ChatGLM2).
    Pre,
    /// `norm(x + f(x))` (BERT).
    Post,
    /// `x + after(f(norm(x)))` (GLM-4), with the names of the norms after attention and feed-forward.
    Sandwich([&'static str; 2]),
    /// `alpha norm(x) + f(norm(x))`: the residual stream begins behind the norm. With an alpha above 1, DeepNorm (Wang
    /// et al. 2022, <https://arxiv.org/abs/2203.00555>) as GLM-130B and ChatGLM have it.
    DeepNorm(f64),
}

/// Names of a layer's parameters.
#[derive(Debug)]
pub struct LayerNames {
    /// What precedes the layer's number.
    pub layers: &'static str,
    /// The norm that belongs to attention.
    pub attention_norm: &'static str,
    /// Attention's last linear layer.
    pub dense: &'static str,
    /// The norm that belongs to the feed-forward half.
    pub feed_forward_norm: &'static str,
    /// The first linear layer of the feed-forward half.
    pub up: &'static str,
    /// Its last one.
    pub down: &'static str,
}

/// The design that all layers of a model share.
#[derive(Clone, Debug)]
pub struct LayerDesign {
    /// Names of the parameters.
    pub names: &'static LayerNames,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads and projections.
    pub attention: AttentionDesign,
    /// Width of the feed-forward half: the input of its second linear layer.
    pub feed_forward: usize,
    /// The activation before it.
    pub activation: Activation,
    /// Whether linear layers have a bias, but for the projections to queries, keys and values.
    pub bias: bool,
    /// Which norms.
    pub norm: NormKind,
    /// Where they are.
    pub placement: NormPlacement,
    /// Standard deviation of new weights.
    pub deviation: f64,
    /// The same for the last layers of the two halves.
    pub last_deviation: f64,
}

impl LayerDesign {
    /// The deviation of a branch's last layer in a pre-norm model: each of its `2 layers` branches adds a share to the
    /// variance of the stream (Radford et al. 2019).
    pub fn scaled_deviation(deviation: f64, layers: usize) -> f64 {
        deviation / (2.0 * layers as f64).sqrt()
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    attention: (Residual, SelfAttention),
    feed_forward: (Residual, FeedForward),
}

impl Layer {
    /// Adds the parameters of the layer of this number.
    pub fn new(builder: &mut Builder, design: &LayerDesign, index: usize) -> Self {
        let LayerDesign { names, hidden, activation, bias, deviation, last_deviation, .. } = *design;
        let name = |part: &str| format!("{}.{index}.{part}", names.layers);
        let last = |builder: &mut Builder, part, width| {
            Linear::new(builder, &name(part), [hidden, width], bias, last_deviation)
        };

        let residual = Residual::new(builder, design, 0, &name);
        let projections = design.attention.projections(builder, &name, hidden, deviation);
        let dense = last(builder, names.dense, design.attention.heads * design.attention.size);
        let attention = (residual, SelfAttention::new(design.attention.clone(), projections, dense));

        let residual = Residual::new(builder, design, 1, &name);
        let rows = activation.rows(design.feed_forward);
        builder.keeps(rows);
        let up = Linear::new(builder, &name(names.up), [rows, hidden], bias, deviation);
        let down = last(builder, names.down, design.feed_forward);
        Self { attention, feed_forward: (residual, FeedForward::new(up, down, activation)) }
    }

    /// `[T, hidden]` to the same.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let layer = self.clone();
        pass.block([x], move |pass, [x]| layer.fed(pass, layer.attended(pass, x)))
    }

    /// The first half.
    pub(super) fn attended(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        self.attention.0.around(pass, x, &self.attention.1)
    }

    /// The second half.
    pub(super) fn fed(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        self.feed_forward.0.around(pass, x, &self.feed_forward.1)
    }
}

/// How a branch is joined to the residual stream.
#[derive(Clone, Debug)]
pub(super) enum Residual {
    Pre(Norm),
    Post(Norm),
    Sandwich(Norm, Norm),
    DeepNorm(Norm, f32),
}

impl Residual {
    /// Of a layer's first or second `half`.
    fn new(builder: &mut Builder, design: &LayerDesign, half: usize, name: &dyn Fn(&str) -> String) -> Self {
        let mut norm = |part: &str| Norm::new(builder, &name(part), design.hidden, design.norm);
        let own = norm([design.names.attention_norm, design.names.feed_forward_norm][half]);
        match design.placement {
            NormPlacement::Pre => Self::Pre(own),
            NormPlacement::Post => Self::Post(own),
            NormPlacement::Sandwich(after) => Self::Sandwich(own, norm(after[half])),
            NormPlacement::DeepNorm(alpha) => Self::DeepNorm(own, alpha as f32),
        }
    }

    /// The stream `[T, hidden]` after the branch.
    pub(super) fn around(&self, pass: &Pass, x: Tensor<2>, branch: &impl Branch) -> Tensor<2> {
        match self {
            Self::Pre(norm) => {
                let inner = branch.inner(pass, norm.forward(pass, x.clone()));
                branch.last().add_to(pass, inner, x)
            }
            Self::Post(norm) => {
                let inner = branch.inner(pass, x.clone());
                norm.forward(pass, branch.last().add_to(pass, inner, x))
            }
            Self::Sandwich(before, after) => {
                let inner = branch.inner(pass, before.forward(pass, x.clone()));
                let normed = after.forward(pass, branch.last().forward(pass, inner));
                kernels::dropout_add(normed, None, x, pass.dropout().as_ref())
            }
            Self::DeepNorm(norm, alpha) => {
                let x = norm.forward(pass, x);
                let inner = branch.inner(pass, x.clone());
                branch.last().add_to(pass, inner, x * *alpha)
            }
        }
    }
}
