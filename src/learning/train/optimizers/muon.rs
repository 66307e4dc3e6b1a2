//! Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose matrices are made orthogonal by
//! Newton and Schulz's iteration. It's for the weights of linear layers between hidden states; embeddings, heads, adapters,
//! biases and norms take AdamW's steps.
//!
//! Steps are scaled as in Liu et al. 2025 (<https://arxiv.org/abs/2502.16982>), by `0.2 √max(rows, columns)`, and not by
//! Jordan's `√max(1, rows / columns)`: their elements have then about the mean square of AdamW's, so that `lr`, its schedule
//! and weight decay mean the same for all parameters, and those that were found for AdamW are a start. Everything is
//! computed in f32.

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    adamw::{AdamW, AdamWSettings},
    definition::OptimizerDef,
    rule::{Slot, UpdateContext, UpdateRule},
};
use crate::network::{
    kernels,
    model::{AnyTensor, WeightRole},
};

/// `muon` in recipes.
pub(super) static MUON: OptimizerDef =
    OptimizerDef::new::<MuonSettings, Muon>("muon", "Orthogonal momentum for hidden matrices, AdamW for all else", 1);

/// The iteration's polynomial `a x + b x³ + c x⁵`, Jordan's: steep at 0, and within 0.7 to 1.2 after five rounds.
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Keeps the division by a gradient of zeros finite, as Jordan does.
const NORM_EPSILON: f32 = 1e-7;
/// The root mean square of AdamW's steps, over the learning rate (Liu et al. 2025, section 2.2).
const ROOT_MEAN_SQUARE: f64 = 0.2;

/// Settings of Muon
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
struct MuonSettings {
    /// Share of the last step's direction that this one keeps
    #[schemars(range(min = 0.0, max = 1.0))]
    momentum: f64,
    /// Whether a step looks ahead by the momentum that it will have (Nesterov)
    nesterov: bool,
    /// Rounds of Newton and Schulz's iteration
    #[schemars(range(min = 1, max = 20))]
    newton_schulz_steps: usize,
    /// Share of the learning rate by which hidden matrices shrink
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// AdamW's settings for all other parameters
    adamw: AdamWSettings,
}

impl Default for MuonSettings {
    fn default() -> Self {
        let adamw = AdamWSettings::default();
        let AdamWSettings { weight_decay, .. } = adamw;
        Self { momentum: 0.95, nesterov: true, newton_schulz_steps: 5, weight_decay, adamw }
    }
}

/// The rule for hidden matrices: `m ← μ m + g`, `u ← g + μ m`, `p ← p (1 - lr λ) - lr 0.2 √max(rows, columns) NS(u)`.
#[derive(Clone, Copy, Debug)]
struct Muon {
    settings: MuonSettings,
    others: AdamW,
}

impl TryFrom<MuonSettings> for Muon {
    type Error = anyhow::Error;

    fn try_from(settings: MuonSettings) -> Result<Self> {
        Ok(Self { settings, others: AdamW::try_from(settings.adamw).context("`adamw`")? })
    }
}

impl UpdateRule for Muon {
    fn slots(&self, role: WeightRole, shape: &[usize]) -> Vec<Slot> {
        match role {
            WeightRole::Linear => vec![Slot { name: "momentum", shape: shape.to_vec() }],
            _ => self.others.slots(role, shape),
        }
    }

    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        if context.role != WeightRole::Linear {
            return self.others.update(context, value, gradient, kept);
        }
        let MuonSettings { momentum, nesterov, newton_schulz_steps, weight_decay, .. } = self.settings;
        let (momentum, gradient) = (momentum as f32, context.clip.apply(gradient));
        let kept = match kept.and_then(|kept| kept.into_iter().next()) {
            Some(kept) => kept * momentum + gradient.clone(),
            None => gradient.clone(),
        };
        let direction = if nesterov { gradient + kept.clone() * momentum } else { kept.clone() };
        let direction: Option<Tensor<2>> = direction.try_into().ok();
        let direction = direction.with_context(|| format!("{} isn't a matrix", context.name))?;
        let [rows, columns] = direction.dims();
        let scale = ROOT_MEAN_SQUARE * (rows.max(columns) as f64).sqrt() * context.lr;
        let step = orthogonal(direction, newton_schulz_steps) * scale as f32;
        let left = value * (1.0 - context.lr * weight_decay) as f32;
        Ok((left - step.into(), vec![kept]))
    }
}

/// The nearest matrix whose singular values are all about 1, or as near as so many rounds come: `[rows, columns]`.
fn orthogonal(matrix: Tensor<2>, rounds: usize) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    let norm = kernels::sum_by_rows(matrix.clone().square()).sqrt().add_scalar(NORM_EPSILON);
    // Products of the shorter side with itself take least.
    let wide = rows <= columns;
    let mut x = if wide { matrix } else { matrix.transpose() } / norm;
    let [a, b, c] = POLYNOMIAL;
    for _ in 0..rounds {
        // Both squares are symmetric, so that a linear layer's transposed weight is the matrix itself.
        let square = kernels::linear(x.clone(), x.clone(), None);
        let fourth = kernels::linear(square.clone(), square.clone(), None);
        let factor = square * b + fourth * c;
        x = x.clone() * a + kernels::linear(factor, x.transpose(), None);
    }
    if wide { x } else { x.transpose() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use serde_json::json;

    use super::*;
    use crate::{learning::train::optimizers::Clip, support::random::Key};

    const LR: f64 = 0.05;

    type Matrix = Vec<Vec<f64>>;

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        let entry = |row: &[f64], column: usize| row.iter().zip(b).map(|(x, row)| x * row[column]).sum();
        a.iter().map(|row| (0..b[0].len()).map(|column| entry(row, column)).collect()).collect()
    }

    fn transposed(a: &Matrix) -> Matrix {
        (0..a[0].len()).map(|column| a.iter().map(|row| row[column]).collect()).collect()
    }

    fn combined(a: &Matrix, x: f64, b: &Matrix, y: f64) -> Matrix {
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| x * a + y * b).collect()).collect()
    }

    /// `zeropower_via_newtonschulz5` of Jordan's reference, in f64.
    fn zeropower(gradient: &Matrix) -> Matrix {
        let norm = gradient.iter().flatten().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
        let tall = gradient.len() > gradient[0].len();
        let mut x = if tall { transposed(gradient) } else { gradient.clone() };
        x = combined(&x, 1.0 / norm, &x, 0.0);
        for _ in 0..5 {
            let a = product(&x, &transposed(&x));
            let b = combined(&a, -4.7750, &product(&a, &a), 2.0315);
            x = combined(&x, 3.4445, &product(&b, &x), 1.0);
        }
        if tall { transposed(&x) } else { x }
    }

    fn gradient(step: u64, [rows, columns]: [usize; 2]) -> Matrix {
        let key = Key::new(step);
        let entry = |at: usize| key.at(at as u64).f64() - 0.4;
        (0..rows).map(|row| (0..columns).map(|column| entry(row * columns + column)).collect()).collect()
    }

    fn tensor(matrix: &Matrix) -> AnyTensor {
        let values: Vec<f32> = matrix.iter().flatten().map(|&value| value as f32).collect();
        let data = TensorData::new(values, [matrix.len(), matrix[0].len()]);
        AnyTensor::from_data(data, &Device::flex()).unwrap()
    }

    fn context(role: WeightRole, step: u64) -> UpdateContext<'static> {
        let clip = &Clip::Host(0.5);
        UpdateContext {
            name: "weight",
            role,
            sparse_rows: false,
            only_rows: false,
            lr: LR,
            step,
            parameter_step: step,
            clip,
        }
    }

    #[test]
    fn muon_agrees_with_the_papers_formulas() {
        for (shape, nesterov) in [([4, 6], true), ([9, 5], true), ([5, 5], false)] {
            let rule = MUON.rule(&json!({ "nesterov": nesterov, "weight_decay": 0.1 })).unwrap();
            let mut expected = gradient(0, shape);
            let (mut value, mut kept) = (tensor(&expected), None);
            let mut momentum = combined(&expected, 0.0, &expected, 0.0);
            for step in 1..=4 {
                let gradient = gradient(step, shape);
                let (next, tensors) =
                    rule.update(&context(WeightRole::Linear, step), value, tensor(&gradient), kept.take()).unwrap();
                (value, kept) = (next, Some(tensors));

                let gradient = combined(&gradient, 0.5, &gradient, 0.0);
                momentum = combined(&momentum, 0.95, &gradient, 1.0);
                let direction = if nesterov { combined(&gradient, 1.0, &momentum, 0.95) } else { momentum.clone() };
                let scale = 0.2 * (shape[0].max(shape[1]) as f64).sqrt();
                expected = combined(&expected, 1.0 - LR * 0.1, &zeropower(&direction), -LR * scale);
            }
            let found: Vec<f32> = value.into_data().unwrap().try_to_vec().unwrap();
            for (found, expected) in found.iter().zip(expected.iter().flatten()) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        }
    }

    #[test]
    fn singular_values_come_near_to_one() {
        // Rows that are orthogonal stay so, and their lengths are the singular values.
        let matrix = tensor(&vec![vec![3.0, 0.0, 0.0], vec![0.0, 0.0, -0.2]]);
        let found: Vec<f32> = orthogonal(matrix.try_into().unwrap(), 5).try_into_vec_as().unwrap();
        for (at, found) in found.iter().enumerate() {
            match at {
                0 => assert!((0.65..1.25).contains(found), "{found}"),
                5 => assert!((-1.25..-0.65).contains(found), "{found}"),
                _ => assert!(found.abs() < 1e-6, "{found}"),
            }
        }
    }

    #[test]
    fn all_else_takes_adamws_steps() {
        let (muon, adamw) = (MUON.rule(&json!({})).unwrap(), super::super::adamw::ADAMW.rule(&json!({})).unwrap());
        for role in [WeightRole::Embedding, WeightRole::Head, WeightRole::Adapter] {
            let step = |rule: &dyn UpdateRule| {
                let (value, _) = rule
                    .update(&context(role, 1), tensor(&gradient(0, [2, 3])), tensor(&gradient(1, [2, 3])), None)
                    .unwrap();
                value.into_data().unwrap().try_to_vec::<f32>().unwrap()
            };
            assert_eq!(step(&*muon), step(&*adamw));
            assert_eq!(muon.slots(role, &[2, 3]), adamw.slots(role, &[2, 3]));
        }
    }
}
