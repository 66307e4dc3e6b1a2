//! The feed-forward half of a layer.

use burn::tensor::{Tensor, activation};

use super::{Branch, Linear};
use crate::network::{
    kernels::{self, Gelu},
    model::pass::Pass,
};

/// What stands between the two linear layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// One of the Gaussian error linear units.
    Gelu(Gelu),
    /// `max(x, 0)` (Vaswani et al. 2017).
    Relu,
    /// `x sigmoid(x)`.
    Silu,
    /// `silu(first half) * second half` (Shazeer 2020, <https://arxiv.org/abs/2002.05202>): the first layer gives twice
    /// what the second one takes.
    SwiGlu,
}

impl Activation {
    /// Rows of the first layer that give `width` activations.
    pub fn rows(self, width: usize) -> usize {
        match self {
            Self::Gelu(_) | Self::Relu | Self::Silu => width,
            Self::SwiGlu => 2 * width,
        }
    }
}

/// Two linear layers with an activation between them.
#[derive(Clone, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl FeedForward {
    /// From the two layers: `[activation.rows(width), hidden]` and `[hidden, width]`.
    pub fn new(up: Linear, down: Linear, activation: Activation) -> Self {
        Self { up, down, activation }
    }
}

impl Branch for FeedForward {
    fn inner(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        match self.activation {
            Activation::Gelu(kind) => self.up.gelu(pass, x, kind),
            Activation::Relu => activation::relu(self.up.forward(pass, x)),
            Activation::Silu => kernels::silu(self.up.forward(pass, x)),
            Activation::SwiGlu => kernels::swiglu(self.up.forward(pass, x)),
        }
    }

    fn last(&self) -> &Linear {
        &self.down
    }
}
