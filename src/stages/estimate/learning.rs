//! What of a model is trained: all of it, or an adapter.

use crate::{
    learning::train::optimizers::{self, UpdateRule},
    network::model::{Outline, ParameterShapes, WeightRole},
    spec::{Adapter, WeightForm},
};

/// The layers that LoRA changes where nobody says: attention's projections, by their names in the families' checkpoints.
const PROJECTIONS: [&str; 8] =
    ["query_key_value", "c_attn", "self.query", "self.key", "self.value", "q_proj", "k_proj", "v_proj"];

/// Bytes of an f32.
pub(super) const FLOAT: u64 = 4;
/// The rank of the LoRA adapters that are looked at where the recipe asks for none.
pub(super) const RANK: usize = 8;

/// What is trained, and how the rest is kept.
#[derive(Clone, Debug)]
pub(super) struct Learning {
    name: String,
    adapter: Option<Small>,
}

/// The sizes of an adapter.
#[derive(Clone, Debug)]
struct Small {
    /// Its parameters.
    trained: u64,
    /// Those of them that each token is multiplied with.
    multiplied: u64,
    /// Widths of what its layers keep of each token.
    inputs: u64,
    /// How the weights of frozen layers are kept.
    base: WeightForm,
}

impl Learning {
    /// As a stage has it.
    pub(super) fn of(adapter: Option<&Adapter>, outline: &Outline) -> Self {
        let form = adapter.map_or(WeightForm::F32, Adapter::weights);
        match adapter {
            None => Self::all(),
            Some(Adapter::Lora(lora)) => {
                let targets: Vec<&str> = lora.targets.iter().map(String::as_str).collect();
                Self::low_rank(outline, lora.r, &targets, form)
            }
            Some(Adapter::PTuning(tuning)) => Self::prefix(outline, tuning.tokens, form),
        }
    }

    pub(super) fn all() -> Self {
        Self { name: "all weights".into(), adapter: None }
    }

    /// LoRA on attention's projections.
    pub(super) fn lora(outline: &Outline, r: usize, base: WeightForm) -> Self {
        Self::low_rank(outline, r, &PROJECTIONS, base)
    }

    fn low_rank(outline: &Outline, r: usize, targets: &[&str], base: WeightForm) -> Self {
        let [trained, inputs] = outline.low_rank(r, targets);
        let name = format!("LoRA, r {r}{}", suffix(base));
        Self { name, adapter: Some(Small { trained, multiplied: trained, inputs, base }) }
    }

    /// P-tuning v2: keys and values of so many tokens in every layer.
    pub(super) fn prefix(outline: &Outline, tokens: usize, base: WeightForm) -> Self {
        let trained = outline.shapes.keys.iter().map(|&width| 2 * (tokens * width) as u64).sum();
        let name = format!("P-tuning, {tokens} tokens{}", suffix(base));
        Self { name, adapter: Some(Small { trained, multiplied: 0, inputs: 0, base }) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_all(&self) -> bool {
        self.adapter.is_none()
    }

    /// Parameters that are trained.
    pub(super) fn trained(&self, shapes: &ParameterShapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.count(), |adapter| adapter.trained)
    }

    /// Bytes that an optimizer keeps of what is trained.
    pub(super) fn optimizer_state(&self, shapes: &ParameterShapes, optimizer: &dyn UpdateRule) -> u64 {
        match &self.adapter {
            // However it's divided into matrices, no optimizer keeps another share of them.
            Some(adapter) => optimizers::state_bytes(optimizer, WeightRole::Adapter, &[adapter.trained as usize]),
            None => shapes.iter().map(|shape| optimizers::state_bytes(optimizer, shape.role, &shape.shape)).sum(),
        }
    }

    /// Those of them that each token is multiplied with, the layer that gives logits not among them.
    pub(super) fn multiplied(&self, shapes: &ParameterShapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.multiplied, |adapter| adapter.multiplied)
    }

    /// Elements of each token that are kept because layers are learned.
    pub(super) fn inputs(&self, shapes: &ParameterShapes) -> u64 {
        self.adapter.as_ref().map_or(shapes.inputs, |adapter| adapter.inputs)
    }

    /// Bytes of all weights.
    pub(super) fn weights(&self, shapes: &ParameterShapes) -> u64 {
        let Some(Small { trained, base, .. }) = &self.adapter else { return FLOAT * shapes.count() };
        sixteenths(*base) * shapes.multiplied / 16 + FLOAT * (shapes.count() - shapes.multiplied + trained)
    }
}

/// Sixteenths of a byte that a frozen layer's number takes; in four bits with its share of a scale.
fn sixteenths(base: WeightForm) -> u64 {
    match base {
        WeightForm::F32 => 64,
        WeightForm::Bf16 | WeightForm::F16 => 32,
        WeightForm::Int8 => 16,
        WeightForm::Int4 => 9,
    }
}

fn suffix(base: WeightForm) -> &'static str {
    match base {
        WeightForm::F32 => "",
        WeightForm::Bf16 => ", on bf16",
        WeightForm::F16 => ", on f16",
        WeightForm::Int8 => ", on int8",
        WeightForm::Int4 => ", on int4",
    }
}
