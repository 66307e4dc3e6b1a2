//! What of a model is trained: all of it, or an adapter.

use super::memory::FLOAT;
use crate::{
    model::{Outline, Shapes},
    recipe::spec::Stage,
};

/// The layers that LoRA changes where nobody says: attention's projections, by their names in the families' checkpoints.
const PROJECTIONS: [&str; 8] =
    ["query_key_value", "c_attn", "self.query", "self.key", "self.value", "q_proj", "k_proj", "v_proj"];

/// What is trained, and how the rest is kept.
#[derive(Clone, Debug)]
pub(super) struct Learning {
    name: String,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    /// Its numbers.
    trained: u64,
    /// Those of them that each token is multiplied with.
    multiplied: u64,
    /// Widths of what its layers keep of each token.
    inputs: u64,
    /// How the weights of frozen layers are kept.
    base: Base,
}

/// How the weights of frozen linear layers are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Base {
    F32,
    Bf16,
    Int8,
}

impl Learning {
    /// As the stage has it.
    pub(super) fn of(_stage: &Stage, _outline: &Outline) -> Self {
        Self::all()
    }

    pub(super) fn all() -> Self {
        Self { name: "all weights".into(), adapter: None }
    }

    /// LoRA on attention's projections.
    pub(super) fn lora(outline: &Outline, r: usize, base: Base) -> Self {
        let [trained, inputs] = outline.low_rank(r, &PROJECTIONS);
        let name = format!("LoRA, r {r}{}", base.suffix());
        Self { name, adapter: Some(Adapter { trained, multiplied: trained, inputs, base }) }
    }

    /// P-tuning v2: keys and values of so many tokens in every layer.
    pub(super) fn prefix(outline: &Outline, tokens: usize, base: Base) -> Self {
        let trained = outline.shapes.keys.iter().map(|&width| 2 * (tokens * width) as u64).sum();
        let name = format!("P-tuning, {tokens} tokens{}", base.suffix());
        Self { name, adapter: Some(Adapter { trained, multiplied: 0, inputs: 0, base }) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_all(&self) -> bool {
        self.adapter.is_none()
    }

    /// Numbers that are trained.
    pub(super) fn trained(&self, shapes: &Shapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.count(), |adapter| adapter.trained)
    }

    /// Those of them that each token is multiplied with, the layer that gives logits not among them.
    pub(super) fn multiplied(&self, shapes: &Shapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.multiplied, |adapter| adapter.multiplied)
    }

    /// Numbers of each token that are kept because layers are learned.
    pub(super) fn inputs(&self, shapes: &Shapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.inputs, |adapter| adapter.inputs)
    }

    /// Bytes of all weights.
    pub(super) fn weights(&self, shapes: &Shapes) -> u64 {
        let Some(Adapter { trained, base, .. }) = &self.adapter else { return FLOAT * shapes.count() };
        base.bytes() * shapes.multiplied + FLOAT * (shapes.count() - shapes.multiplied + trained)
    }
}

impl Base {
    fn bytes(self) -> u64 {
        match self {
            Self::F32 => FLOAT,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Bf16 => ", on bf16",
            Self::Int8 => ", on int8",
        }
    }
}
