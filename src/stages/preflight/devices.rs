//! Whether the device can do what the stages to come ask for, found out before any of them runs: a tiny model of each
//! family takes two steps there, and has to learn what it learns on the CPU.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use serde_json::json;

use super::place::pointer;
use crate::{
    engine::plan::{Graph, Node, Plan},
    learning::train::{Silent, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Step, Target, lay_out},
        device::{DeviceChoices, OpenDevice, OpenDevices},
        model::{FAMILIES, Network, check_held},
    },
    recipe::{Checked, Diagnostics},
    spec::{Model, Precision, Train},
    stages::{estimate::Machine, estimator, facts::Training, facts_of, parts::layout},
    support::{Hinted, panics::caught_everywhere, random::Key},
};

/// Tokens that the tiny models know.
const VOCABULARY: usize = 32;
const STEPS: usize = 2;
/// How far their losses, of about 3.5, may lie apart: 16 bits have at least 7 of fraction.
const TOLERANCE: f32 = 0.1;

/// Refuses stages that a device can't train: for want of the precision, or of an operation that the family needs. Each
/// family is tried once with each precision, in however many stages and cells it is.
pub struct DeviceCheck {
    choices: DeviceChoices,
    machine: Machine,
    open: Option<OpenDevices>,
    /// By family and precision, what was wrong, and where.
    tried: BTreeMap<(&'static str, &'static str), Option<(OpenDevice, String)>>,
    /// By the form of frozen weights, where it can't be held and why.
    held: BTreeMap<&'static str, Option<(String, Hinted)>>,
}

impl DeviceCheck {
    /// Of what will run on these devices.
    pub fn new(choices: &DeviceChoices) -> Self {
        Self {
            choices: choices.clone(),
            machine: Machine::new(choices),
            open: None,
            tried: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Checks the stages that train and aren't in the store.
    ///
    /// # Errors
    /// All that can't run, as [`Diagnostics`]; a device that can't be opened.
    pub fn check(&mut self, checked: &Checked, graph: &Graph, plan: &Plan) -> Result<()> {
        if self.machine.is_cpu {
            return Ok(());
        }
        let mut found = Vec::new();
        for node in graph.nodes().filter(|node| plan.artifact(&node.name).is_none()) {
            if let Some((place, Hinted { message, hint })) = self.problem(node, graph, plan)? {
                found.push(checked.diagnose(&place, message, hint));
            }
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }

    /// What is wrong with training a stage here, and where its recipe says so; `None` if nothing is.
    ///
    /// # Errors
    /// A device that can't be opened.
    pub fn problem(&mut self, node: &Node, graph: &Graph, plan: &Plan) -> Result<Option<(String, Hinted)>> {
        if self.machine.is_cpu {
            return Ok(None);
        }
        let Some(Training { train, settings, adapter, .. }) = facts_of(node)?.training else { return Ok(None) };
        // What can't be found out now will be explained by the stage itself.
        let family = estimator(graph, plan, &self.machine).family(node).ok().flatten();
        let Some(family) = family else { return Ok(None) };
        let devices = match &mut self.open {
            Some(devices) => devices,
            none => none.insert(self.choices.open()?),
        };
        if let Some(form) = adapter.map(|adapter| adapter.weights()) {
            let problem = self.held.entry(form.name()).or_insert_with(|| {
                let mut outcomes = devices.all().map(|device| (device, check_held(form, &device.device)));
                outcomes.find_map(|(device, outcome)| Some((device.name.clone(), Hinted::of(&outcome.err()?))))
            });
            if let Some((device, Hinted { message, hint })) = problem {
                let message = format!("`{}` can't be trained on {device}: {message}", node.name);
                return Ok(Some((pointer(node, "adapter"), Hinted::new(message, hint.clone()))));
            }
        }
        let problem = self.tried.entry((family, train.precision.name())).or_insert_with(|| {
            let mut outcomes = devices.all().map(|device| (device, try_out(device, family, train.precision)));
            outcomes.find_map(|(device, outcome)| Some((device.clone(), format!("{:#}", outcome.err()?))))
        });
        let Some((device, problem)) = problem else { return Ok(None) };
        let place = pointer(node, settings.0);
        let (place, hint) = match device.check_precision(train.precision) {
            Err(_) => (format!("{place}.precision"), "`pipe devices` tells which precisions a device has"),
            Ok(()) => (place, "`--device cpu` runs every recipe"),
        };
        let message = format!("`{}` can't be trained on {}: {problem}", node.name, device.name);
        Ok(Some((place, Hinted::with(message, hint))))
    }
}

/// # Errors
/// What the device can't do.
fn try_out(open: &OpenDevice, family: &str, precision: Precision) -> Result<()> {
    if open.is_cpu() {
        return Ok(());
    }
    open.check_precision(precision)?;
    let cpu = OpenDevice { device: Device::flex(), name: "cpu".into(), by_wgsl: None };
    let expected = losses(&cpu, family, Precision::F32)?;
    let found = caught_everywhere(|| losses(open, family, precision))??;
    for (found, expected) in found.iter().zip(expected) {
        ensure!(
            (found - expected).abs() <= TOLERANCE,
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
    let train: Train = serde_json::from_value(json!({ "steps": STEPS, "lr": 1e-3, "precision": precision }))?;
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
