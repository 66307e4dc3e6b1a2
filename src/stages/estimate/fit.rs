//! Whether a training fits into a device's memory, and how much of a batch does.

use anyhow::Result;
use burn::tensor::Device;

use super::{
    Estimate, Estimator, Machine, bytes,
    learning::{Learning, RANK},
    memory::Memory,
    work::Work,
};
use crate::{
    engine::plan::{Graph, Node, Plan},
    network::{
        batch::Step,
        model::{Network, Outline},
    },
    recipe::{Checked, Diagnostics},
    spec::{Train, WeightForm},
    stages::facts::Field,
};

/// Refuses a run with stages that can't fit into the machine's memory. Estimates are within 20 %, so that much is
/// conceded.
///
/// # Errors
/// All such stages, as [`Diagnostics`].
pub fn check(
    checked: &Checked,
    graph: &Graph,
    plan: &Plan,
    machine: &Machine,
    estimator: &Estimator<'_>,
) -> Result<()> {
    let mut found = Vec::new();
    for node in graph.nodes().filter(|node| plan.artifact(&node.name).is_none()) {
        if let Some(Lacking { settings, message, hint }) = lacking(node, machine, estimator) {
            let pointer = format!("stages.{}.{}.{}", node.name, node.kind, settings.0);
            found.push(checked.diagnose(&pointer, message, hint));
        }
    }
    Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
}

/// Memory that a machine lacks for a stage.
pub struct Lacking {
    /// The field of the stage's settings that says how it trains.
    pub settings: Field,
    /// How much it needs, and how much there is.
    pub message: String,
    /// What takes less.
    pub hint: String,
}

/// What a machine lacks for a stage; `None` if it will do, as far as that can be told.
pub fn lacking(node: &Node, machine: &Machine, estimator: &Estimator<'_>) -> Option<Lacking> {
    let available = machine.memory?;
    // What can't be estimated will be explained by the stage itself.
    let Estimate { planned: form, others, settings, .. } = estimator.stage(node).ok().flatten()?;
    let needed = form.memory.total();
    if needed as f64 * 0.8 <= available as f64 {
        return None;
    }
    let parts: Vec<_> = form.memory.parts().iter().map(|(name, size)| format!("{name} {}", bytes(*size))).collect();
    let message = format!(
        "`{}` needs about {} to train, and {} has {}: {}",
        node.name,
        bytes(needed),
        machine.name,
        bytes(available),
        parts.join(", ")
    );
    let fitting = others.iter().filter(|other| other.memory.total() <= available);
    let fitting: Vec<_> =
        fitting.map(|other| format!("{} would take {}", other.name, bytes(other.memory.total()))).collect();
    let mut hint =
        "try a smaller `batch` (or `micro_batch: auto`, which computes it in parts), `gradient_checkpointing: true`, a shorter \
         `max_length`, or an `adapter`"
            .to_owned();
    if !fitting.is_empty() {
        hint.push_str(&format!(" ({})", fitting.join(", ")));
    }
    hint.push_str("; `--ignore-memory` runs it all the same");
    Some(Lacking { settings, message, hint })
}

/// Token places of a step's batches that fit into a device's memory at a time, beside all else that it takes to train the
/// network on these devices; `None` where nobody tells how much memory there is, or all of a batch fits.
pub fn max_micro_batch_tokens(network: &Network, train: &Train, step: &Step, devices: &[Device]) -> Option<usize> {
    let machine = Machine::of(devices);
    let available = machine.spared()?;
    let outline = Outline::of_config(&network.architecture().config()).ok()?;
    let learning = if network.is_adapted() { Learning::lora(&outline, RANK, WeightForm::F32) } else { Learning::all() };
    let largest = step.batches.iter().map(|batch| batch.slots()).max()? as u64;
    let mut work = Work::of_step(train, step, largest, &machine).ok()?;
    let share = work.tokens;
    work.fit(available, |work| Memory::new(&outline, &learning, work, machine.is_cpu).total());
    (work.tokens < share).then_some(work.tokens as usize)
}
