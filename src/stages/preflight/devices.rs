//! Whether the device can do what the stages to come ask for, found out before any of them runs: a tiny model of each
//! family takes two steps there, and has to learn what it learns on the CPU.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;

use super::{data::OnWarning, place::pointer, trial::try_out};
use crate::{
    engine::plan::{Graph, Node, Plan},
    network::{
        device::{DeviceChoice, DeviceChoices, DeviceInfo, OpenDevice, OpenDevices, apart, gpu, keep_to},
        model::check_held,
    },
    recipe::{Checked, Diagnostics},
    spec::{Gpu, Precision},
    stages::{estimate::Machine, estimator, facts::Training, facts_of},
    support::Hinted,
};

/// Refuses stages that a device can't train: for want of the precision, or of an operation that the family needs. Each
/// family is tried once with each precision, in however many stages and cells it is.
pub struct DeviceCheck {
    choices: DeviceChoices,
    machine: Machine,
    /// The devices, and what their backends were kept to when they were opened: later it no longer matters to them.
    open: Option<(OpenDevices, Gpu)>,
    /// By family and precision, what was wrong, and where.
    tried: BTreeMap<(&'static str, &'static str), Option<(OpenDevice, String)>>,
    /// By the form of frozen weights, where it can't be held and why.
    held: BTreeMap<&'static str, Option<(OpenDevice, Hinted)>>,
    /// Told what backends are kept from, where stages are computed by other processes than this one.
    notify: Option<OnWarning>,
}

impl DeviceCheck {
    /// Of what will run on these devices, in this process.
    pub fn new(choices: &DeviceChoices) -> Self {
        Self {
            choices: choices.clone(),
            machine: Machine::new(choices),
            open: None,
            tried: BTreeMap::new(),
            held: BTreeMap::new(),
            notify: None,
        }
    }

    /// Of what other processes will run on them. Where a GPU's backend is wrong, and right without fusion or autotune, it's
    /// kept from that, and `notify` told.
    pub fn telling(choices: &DeviceChoices, notify: &OnWarning) -> Self {
        Self { notify: Some(Arc::clone(notify)), ..Self::new(choices) }
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
        let (devices, opened_with) = match &mut self.open {
            Some(open) => open,
            none => none.insert((self.choices.open()?, gpu())),
        };
        if let Some(form) = adapter.map(|adapter| adapter.weights()) {
            let held = |open: &OpenDevice| check_held(form, &open.device).map_err(|error| Hinted::of(&error));
            let problem = self.held.entry(form.name()).or_insert_with(|| first_problem(devices, held));
            if let Some((device, Hinted { message, hint })) = problem {
                let message = format!("`{}` can't be trained on {}: {message}", node.name, device.name);
                return Ok(Some((pointer(node, "adapter"), Hinted::new(message, hint.clone()))));
            }
        }
        let precision = train.precision;
        let (first, notify) = (self.choices.first, self.notify.as_ref());
        let problem = self.tried.entry((family, precision.name())).or_insert_with(|| {
            let (device, problem) =
                first_problem(devices, |open| try_out(open, family, precision).map_err(|error| format!("{error:#}")))?;
            let has_it = device.check_precision(precision).is_ok();
            let cured = has_it.then(|| right_if_kept_to(*opened_with, first, family, precision));
            match (cured.flatten(), notify) {
                (Some(gpu), Some(notify)) => {
                    let without = if gpu.autotune { "fusion" } else { "fusion and autotune" };
                    notify(&format!("on {} {problem}; without {without} it's right, and so it's trained", device.name));
                    keep_to(gpu);
                    None
                }
                (Some(gpu), None) => {
                    let Gpu { fusion, autotune } = gpu;
                    let problem =
                        format!("{problem}; `gpu: {{ fusion: {fusion}, autotune: {autotune} }}` would make it right");
                    Some((device, problem))
                }
                (None, _) => Some((device, problem)),
            }
        });
        let Some((device, problem)) = problem else { return Ok(None) };
        let place = pointer(node, settings.0);
        let (place, hint) = match device.check_precision(precision) {
            Err(_) => (format!("{place}.precision"), "`pipe devices` tells which precisions a device has"),
            Ok(()) => (place, "`--device cpu` runs every recipe"),
        };
        let message = format!("`{}` can't be trained on {}: {problem}", node.name, device.name);
        Ok(Some((place, Hinted::with(message, hint))))
    }
}

/// The first device on which something goes wrong, and what.
fn first_problem<P>(devices: &OpenDevices, outcome: impl Fn(&OpenDevice) -> Result<(), P>) -> Option<(OpenDevice, P)> {
    devices.all().find_map(|device| Some((device.clone(), outcome(device).err()?)))
}

/// What backends have to be kept to for a tiny model to be trained right, if that's known, where it was trained wrong by backends
/// kept to `wrong`: other processes try what they're kept to by now, and less.
fn right_if_kept_to(wrong: Gpu, choice: DeviceChoice, family: &str, precision: Precision) -> Option<Gpu> {
    let now = gpu();
    let mut kept = vec![now, Gpu { fusion: false, ..now }, Gpu { fusion: false, autotune: false }];
    kept.dedup();
    kept.into_iter().filter(|gpu| *gpu != wrong).find(|gpu| {
        let info = apart(&choice.to_string(), &["--family", family, "--precision", precision.name()], *gpu);
        info.is_ok_and(|info| info.is_ok_and(|info| info.usable))
    })
}

/// Whether a device trains a tiny model of a family right, as the process says that was asked.
///
/// # Errors
/// A device that can't be opened.
pub fn probe_training(choice: DeviceChoice, family: &str, precision: Precision) -> Result<DeviceInfo> {
    let outcome = try_out(&choice.open()?, family, precision);
    let note = outcome.as_ref().err().map(|error| format!("{error:#}"));
    Ok(DeviceInfo { device: choice.to_string(), usable: outcome.is_ok(), note, ..DeviceInfo::default() })
}
