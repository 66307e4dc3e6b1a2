//! A tiny model's first steps on a device, which have to go as on the CPU.

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::Device;
use serde_json::json;

use crate::{
    learning::train::{Diverged, Silent, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Step, Target, lay_out},
        device::OpenDevice,
        model::{FAMILIES, Network},
    },
    spec::{Model, Precision, Train},
    stages::parts::layout,
    support::{Detailed, panics::caught_everywhere, random::Key},
};

/// Tokens that the tiny models know.
const VOCABULARY: usize = 32;
const STEPS: usize = 2;
/// So large that the second loss tells whether the first gradients were right.
const LR: f64 = 1e-2;

/// Trains a tiny model of a family on a device and on the CPU.
///
/// # Errors
/// What the device can't do, or does otherwise.
pub(super) fn try_out(open: &OpenDevice, family: &str, precision: Precision) -> Result<()> {
    if open.is_cpu() {
        return Ok(());
    }
    open.check_precision(precision)?;
    let found = caught_everywhere(|| losses(open, family, precision))?;
    let found = found.map_err(|error| match Detailed::detail::<Diverged>(&error) {
        Some(_) => anyhow!("a tiny `{family}` in {} has a loss there that isn't finite", precision.name()),
        None => error,
    })?;
    let cpu = OpenDevice { device: Device::flex(), name: "cpu".into(), by_wgsl: None, keeps_kernels: false };
    let expected = losses(&cpu, family, Precision::F32)?;
    // Losses are about 3.5, and 16 bits have at least 7 of fraction.
    let tolerance = if precision == Precision::F32 { 1e-3 } else { 0.1 };
    for (found, expected) in found.iter().zip(expected) {
        ensure!(
            (found - expected).abs() <= tolerance,
            "a tiny `{family}` in {} has a loss of {found} there, and of {expected} on the CPU",
            precision.name()
        );
    }
    Ok(())
}

/// The losses of a tiny model's steps.
fn losses(open: &OpenDevice, family: &str, precision: Precision) -> Result<Vec<f32>> {
    let family = FAMILIES.named(family).with_context(|| format!("there is no family `{family}`"))?;
    let model = Model { family: family.name.to_owned(), settings: family.tiny()? };
    let network = Network::new(&model, VOCABULARY, 1, &open.device)?;
    let train: Train = serde_json::from_value(json!({ "steps": STEPS, "lr": LR, "precision": precision }))?;
    let mut trainer = Trainer::new(network, TrainSettings::new(&train, STEPS, None)?);
    trainer.run(&Tiny(open), None, None, &mut Silent)?;
    Ok(trainer.curve().points().map(|point| point.loss).collect())
}

/// Two texts, each the beginning and what is to come.
struct Tiny<'a>(&'a OpenDevice);

impl Feed for Tiny<'_> {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let key = Key::new(1).at(step as u64);
        let text = |id: u64| {
            let tokens: Vec<u32> = (0..12).map(|at| key.at(id).at(at).below(VOCABULARY) as u32).collect();
            let targets = (4..12).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
            Example { targets, ..Example::sequence(id, tokens, 4) }
        };
        let batch = lay_out(&[text(0), text(1)], layout(self.0, 16, true), key);
        Ok(Step { batches: vec![batch], objective: "prefix_lm".into(), pair_weight: 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{device::DeviceChoice, model::Family};

    #[test]
    fn tiny_models_of_every_family_learn_with_every_precision_on_the_cpu() {
        let cpu = DeviceChoice::Cpu.open().unwrap();
        for family in FAMILIES.all().into_iter().map(Family::name) {
            let expected = losses(&cpu, family, Precision::F32).unwrap();
            for precision in [Precision::Bf16, Precision::F16, Precision::Mixed] {
                let found = losses(&cpu, family, precision).unwrap();
                assert_ne!(found, expected, "{family} in {}", precision.name());
                for (found, expected) in found.iter().zip(&expected) {
                    let name = precision.name();
                    assert!((found - expected).abs() < 2e-2, "{family} in {name}: {found} instead of {expected}");
                }
            }
        }
    }
}
