//! AdamW (Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>) as PyTorch has it: decoupled weight decay,
//! corrected bias.

use anyhow::{Context, Result, ensure};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    definition::OptimizerDef,
    rule::{Clip, Slot, UpdateContext, UpdateRule},
};
use crate::{
    network::{
        kernels,
        model::{AnyTensor, WeightRole},
    },
    support::math,
};

/// `adamw` in recipes.
pub(super) static ADAMW: OptimizerDef =
    OptimizerDef::new::<AdamWSettings, AdamW>("adamw", "Adam with decoupled weight decay", 1);

/// Settings of AdamW
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWSettings {
    /// Decay of the first moment
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta1: f64,
    /// Decay of the second moment
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta2: f64,
    /// Keeps the division finite
    #[schemars(range(min = 0.0))]
    pub epsilon: f64,
    /// Share of the learning rate by which weights shrink; biases and norms don't
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// Of a table whose rows alone have gradients, these take the steps of PyTorch's `SparseAdam`: their means stand still while they
/// aren't looked up, and they don't decay.
///
/// The rule, with the bias of both means corrected by the steps in which the parameter had a gradient: `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`, `p ← p (1 - lr λ) - lr m̂ / (√v̂ + ε)`.
#[derive(Clone, Copy, Debug)]
pub struct AdamW(AdamWSettings);

impl TryFrom<AdamWSettings> for AdamW {
    type Error = anyhow::Error;

    fn try_from(settings: AdamWSettings) -> Result<Self> {
        for (name, beta) in [("beta1", settings.beta1), ("beta2", settings.beta2)] {
            ensure!(beta < 1.0, "`{name}` must be less than 1");
        }
        Ok(Self(settings))
    }
}

impl UpdateRule for AdamW {
    fn slots(&self, _role: WeightRole, shape: &[usize]) -> Vec<Slot> {
        ["mean", "square"].map(|name| Slot { name, shape: shape.to_vec() }).into()
    }

    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.0;
        // PyTorch's SparseAdam adds epsilon before the correction of the bias rather than behind it.
        let before = (1.0 - math::pow(beta2, context.parameter_step as f64)).sqrt();
        let decays = context.role.is_decayed() && !context.only_rows;
        let step = kernels::AdamWStep {
            lr: context.lr as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: if context.only_rows { epsilon / before } else { epsilon } as f32,
            weight_decay: if decays { weight_decay as f32 } else { 0.0 },
            step: context.parameter_step,
        };
        match value {
            AnyTensor::Vector(value) => update(context, step, value, gradient, kept),
            AnyTensor::Matrix(value) => update(context, step, value, gradient, kept),
        }
    }
}

fn update<const D: usize>(
    context: &UpdateContext<'_>,
    step: kernels::AdamWStep,
    value: Tensor<D>,
    gradient: AnyTensor,
    kept: Option<Vec<AnyTensor>>,
) -> Result<(AnyTensor, Vec<AnyTensor>)>
where
    AnyTensor: From<Tensor<D>> + TryInto<Tensor<D>>,
{
    let gradient: Option<Tensor<D>> = gradient.try_into().ok();
    let gradient = gradient.with_context(|| format!("{}'s gradient has another rank", context.name))?;
    let kept = kept.and_then(|kept| kept.into_iter().map(|tensor| tensor.try_into().ok()).collect());
    let moments: Option<[Tensor<D>; 2]> = kept.and_then(|kept: Vec<Tensor<D>>| kept.try_into().ok());
    let (value, moments) = match context.clip {
        Clip::Host(clip) => {
            let zeros = || Tensor::zeros(gradient.dims(), &gradient.device());
            let moments = moments.unwrap_or_else(|| [zeros(), zeros()]);
            let updated = step.update_in_place(value, &gradient, moments, *clip);
            updated.with_context(|| format!("{}, its gradient and its moments aren't all on the CPU", context.name))?
        }
        Clip::Device(clip) => step.update_on_device(value, gradient, moments, Some(clip)),
        Clip::Off => step.update_on_device(value, gradient, moments, None),
    };
    Ok((value.into(), moments.map(AnyTensor::from).into()))
}
