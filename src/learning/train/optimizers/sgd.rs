//! Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD` has it (without dampening): with Sutskever et
//! al. 2013 (<https://proceedings.mlr.press/v28/sutskever13.html>) for Nesterov's momentum, which PyTorch takes at the
//! place where the parameters are.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    definition::OptimizerDef,
    rule::{Slot, UpdateContext, UpdateRule},
};
use crate::network::model::{AnyTensor, WeightRole};

/// `sgd` in recipes.
pub(super) static SGD: OptimizerDef =
    OptimizerDef::new::<SgdSettings, Sgd>("sgd", "Stochastic gradient descent with momentum", 1);

/// Settings of SGD
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
struct SgdSettings {
    /// Share of the last step's direction that this one keeps; 0 keeps none
    #[schemars(range(min = 0.0, max = 1.0))]
    momentum: f64,
    /// Whether a step looks ahead by the momentum that it will have (Nesterov)
    nesterov: bool,
    /// Share of the weights that is added to their gradients, which momentum sees too, as in PyTorch (L2 regularization);
    /// biases and norms have none
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false, weight_decay: 0.0 }
    }
}

/// The rule: `g ← g + λ p`, `b ← μ b + g`, `p ← p - lr b`; with Nesterov's momentum `p ← p - lr (g + μ b)`.
#[derive(Clone, Copy, Debug)]
struct Sgd(SgdSettings);

impl From<SgdSettings> for Sgd {
    fn from(settings: SgdSettings) -> Self {
        Self(settings)
    }
}

impl UpdateRule for Sgd {
    fn slots(&self, _role: WeightRole, shape: &[usize]) -> Vec<Slot> {
        match self.0.momentum > 0.0 {
            true => vec![Slot { name: "momentum", shape: shape.to_vec() }],
            false => Vec::new(),
        }
    }

    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        let SgdSettings { momentum, nesterov, weight_decay } = self.0;
        let mut gradient = context.clip.apply(gradient);
        if weight_decay > 0.0 && context.role.is_decayed() && !context.only_rows {
            gradient = gradient + value.clone() * weight_decay as f32;
        }
        if momentum == 0.0 {
            return Ok((value - gradient * context.lr as f32, Vec::new()));
        }
        let momentum = momentum as f32;
        let velocity = match kept.and_then(|kept| kept.into_iter().next()) {
            Some(velocity) => velocity * momentum + gradient.clone(),
            None => gradient.clone(),
        };
        let direction = match nesterov {
            true => gradient + velocity.clone() * momentum,
            false => velocity.clone(),
        };
        Ok((value - direction * context.lr as f32, vec![velocity]))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use serde_json::{Value, json};

    use super::*;
    use crate::learning::train::optimizers::Clip;

    const LR: f64 = 0.05;

    fn gradient(step: u64, at: usize) -> f64 {
        (0.3 + 0.1 * step as f64) * (at as f64 - 1.5)
    }

    /// PyTorch's `_single_tensor_sgd` with dampening 0, element by element in f64.
    fn reference(momentum: f64, nesterov: bool, weight_decay: f64) -> Vec<f64> {
        let (mut values, mut buffers) = (vec![1.0; 4], [0.0; 4]);
        for step in 1..=4 {
            for (at, (value, buffer)) in values.iter_mut().zip(&mut buffers).enumerate() {
                let mut g = 0.5 * gradient(step, at) + weight_decay * *value;
                if momentum != 0.0 {
                    *buffer = if step > 1 { momentum * *buffer + g } else { g };
                    g = if nesterov { g + momentum * *buffer } else { *buffer };
                }
                *value -= LR * g;
            }
        }
        values
    }

    /// Four steps of `[1, 4]` ones.
    fn trained(settings: Value, role: WeightRole) -> Vec<f32> {
        let rule = SGD.rule(&settings).unwrap();
        let device = Device::flex();
        let (mut value, mut kept) = (AnyTensor::Matrix(Tensor::ones([1, 4], &device)), None);
        for step in 1..=4 {
            let gradient: Vec<f32> = (0..4).map(|at| gradient(step, at) as f32).collect();
            let gradient = AnyTensor::folded(Tensor::from_floats(&gradient[..], &device), &[1, 4]);
            let clip = Clip::Host(0.5);
            let context = UpdateContext {
                name: "weight",
                role,
                sparse_rows: false,
                only_rows: false,
                lr: LR,
                step,
                parameter_step: step,
                clip: &clip,
            };
            let (next, tensors) = rule.update(&context, value, gradient, kept.take()).unwrap();
            assert_eq!(tensors.len(), rule.slots(role, &[1, 4]).len());
            (value, kept) = (next, Some(tensors));
        }
        value.into_data().unwrap().try_to_vec().unwrap()
    }

    #[test]
    fn sgd_agrees_with_pytorchs_formula() {
        for (momentum, nesterov, weight_decay) in
            [(0.0, false, 0.0), (0.9, false, 0.0), (0.9, true, 0.0), (0.8, true, 0.1), (0.0, false, 0.1)]
        {
            let settings = json!({ "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay });
            let found = trained(settings, WeightRole::Linear);
            for (found, expected) in found.iter().zip(reference(momentum, nesterov, weight_decay)) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} instead of {expected}");
            }
        }
        assert_eq!(trained(json!({ "weight_decay": 0.1 }), WeightRole::Vector), trained(json!({}), WeightRole::Vector));
    }
}
