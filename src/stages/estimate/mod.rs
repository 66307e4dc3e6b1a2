//! What a training stage will take, before anything is allocated: parameters, memory, arithmetic. No tensor is made; a
//! model is known by the shapes that its constructors note.

mod learning;
mod length;
mod machine;
mod memory;
mod model;
mod work;

use anyhow::Result;
use burn::tensor::Device;

pub use length::Lengths;
pub use machine::Machine;
pub use memory::Memory;

/// Tokens that are judged at a time while a model is measured.
pub(crate) const JUDGED_TOKENS: usize = 8192;

use crate::{
    engine::plan::{Graph, Node, Plan},
    network::{
        batch::Step,
        model::{Network, Outline},
    },
    recipe::{Checked, Diagnostics},
    spec::{BaseDtype, MicroBatch, Train},
    stages::facts::Facts,
};
use learning::Learning;
use model::Model;
use work::Work;

/// The adapters that a plan shows beside what the recipe asks for.
const RANK: usize = 8;
const PREFIX: usize = 128;

/// What a training stage will take.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Numbers in the model, heads included and adapters not.
    pub parameters: u64,
    /// Whether the vocabulary isn't known yet but for what the recipe asks for.
    pub about: bool,
    /// Whether the model was there before this recipe.
    pub existing: bool,
    /// As the recipe has it.
    pub planned: Form,
    /// Other ways to train the same model: all of it, LoRA, P-tuning v2.
    pub others: Vec<Form>,
}

/// A way to train a model.
#[derive(Clone, Debug)]
pub struct Form {
    /// What is trained: `all of it`, `LoRA, r 8`, …
    pub name: String,
    /// Numbers that are trained.
    pub trained: u64,
    /// Where memory goes.
    pub memory: Memory,
    /// Floating-point operations for each token that is trained on.
    pub flops_per_token: u64,
}

impl Form {
    /// `flops_per_token` is 6 N + 12 L H T for a model that is trained as a whole (Kaplan et al. 2020,
    /// <https://arxiv.org/abs/2001.08361>, with attention as in Chowdhery et al. 2022, appendix B,
    /// <https://arxiv.org/abs/2204.02311>): N counts the weights that a token is multiplied with (tables of embeddings are
    /// not, and the layer that gives logits is for the share of the tokens that are predicted), L layers of width H see T
    /// tokens. Frozen weights take 4 of the 6, as they have no gradients of their own.
    fn new(outline: &Outline, learning: &Learning, work: &Work, on_cpu: bool) -> Self {
        let sizes = outline.architecture().sizes();
        let [vocabulary, hidden] = outline.output().map(|size| size as f64);
        let output = vocabulary * hidden * work.predicted;
        let multiplied = outline.shapes.multiplied as f64 + output;
        let learned = learning.multiplied(&outline.shapes) as f64 + if learning.is_all() { output } else { 0.0 };
        let attention = 12.0 * sizes.layers as f64 * sizes.hidden as f64 * work.length as f64;
        let weights = if learning.is_all() { 6.0 * learned } else { 4.0 * multiplied + 6.0 * learned };
        Self {
            name: learning.name().to_owned(),
            trained: learning.trained(&outline.shapes),
            memory: Memory::new(outline, learning, work, on_cpu),
            flops_per_token: (weights + attention) as u64,
        }
    }
}

/// Tells what a stage says of itself.
pub type FactsOf<'a> = &'a dyn Fn(&Node) -> Result<Facts>;

/// Estimates the training stages of a graph; `plan` tells which of the stages before them have been run.
pub struct Estimator<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    machine: &'a Machine,
    facts: FactsOf<'a>,
}

impl<'a> Estimator<'a> {
    /// For a run on this machine.
    pub fn new(graph: &'a Graph, plan: &'a Plan, machine: &'a Machine, facts: FactsOf<'a>) -> Self {
        Self { graph, plan, machine, facts }
    }

    /// The family of the model that a stage trains, measures or asks, as far as that can be told.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub fn family(&self, node: &Node) -> Result<Option<&'static str>> {
        Ok(self.model(&node.name)?.map(|model| model.outline.family().name))
    }

    /// What a stage will take; `None` where nothing is trained.
    ///
    /// # Errors
    /// Data and configs that can't be read, and models that aren't supported.
    pub fn stage(&self, node: &Node) -> Result<Option<Estimate>> {
        let Some(training) = (self.facts)(node)?.training else { return Ok(None) };
        let train = &training.train;
        let Some(Model { outline, about, existing }) = self.model(&node.name)? else { return Ok(None) };
        let mut work = Work::new(self.graph, node, &training, self.machine)?;
        let recipe = Learning::of(training.adapter.as_ref(), &outline);
        let on_cpu = self.machine.is_cpu;
        if let (MicroBatch::Auto, Some(available)) = (train.micro_batch, self.machine.memory) {
            work.fit(spared(available), |work| Memory::new(&outline, &recipe, work, on_cpu).total());
        }
        let form = |learning: &Learning| Form::new(&outline, learning, &work, on_cpu);
        let adapters = [BaseDtype::F32, BaseDtype::Bf16, BaseDtype::Int8]
            .into_iter()
            .flat_map(|base| [Learning::lora(&outline, RANK, base), Learning::prefix(&outline, PREFIX, base)]);
        let others = [Learning::all()].into_iter().chain(adapters).filter(|other| other.name() != recipe.name());
        Ok(Some(Estimate {
            parameters: outline.shapes.count(),
            about,
            existing,
            planned: form(&recipe),
            others: others.filter(|other| other.trained(&outline.shapes) > 0).map(|other| form(&other)).collect(),
        }))
    }
}

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
    let Some(available) = machine.memory else { return Ok(()) };
    let mut found = Vec::new();
    for node in graph.nodes() {
        let is_hit = plan.artifact(&node.name).is_some();
        // What can't be estimated will be explained by the stage itself.
        let estimate = if is_hit { None } else { estimator.stage(node).ok().flatten() };
        let Some(Estimate { planned: form, others, .. }) = estimate else { continue };
        let needed = form.memory.total();
        if needed as f64 * 0.8 <= available as f64 {
            continue;
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
        let pointer = format!("stages.{}.{}.train", node.name, node.kind);
        found.push(checked.diagnose(&pointer, message, hint));
    }
    Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
}

/// Token places of a step's batches that fit into a device's memory at a time, beside all else that it takes to train the
/// network on these devices; `None` where nobody tells how much memory there is, or all of a batch fits.
pub fn max_micro_batch_tokens(network: &Network, train: &Train, step: &Step, devices: &[Device]) -> Option<usize> {
    let machine = Machine::of(devices);
    let available = machine.memory?;
    let outline = Outline::of_config(&network.architecture().config()).ok()?;
    let learning = if network.is_adapted() { Learning::lora(&outline, RANK, BaseDtype::F32) } else { Learning::all() };
    let largest = step.batches.iter().map(|batch| batch.slots()).max()? as u64;
    let mut work = Work::of_step(train, step, largest, &machine).ok()?;
    let share = work.tokens;
    work.fit(spared(available), |work| Memory::new(&outline, &learning, work, machine.is_cpu).total());
    (work.tokens < share).then_some(work.tokens as usize)
}

/// What estimates may fill: they are within 20 %, and others use the device too.
fn spared(available: u64) -> u64 {
    available / 10 * 8
}

/// A number of bytes as people read it, in powers of ten.
pub fn bytes(number: u64) -> String {
    match number as f64 {
        n if n < 999_500.0 => format!("{:.0} kB", n / 1e3),
        n if n < 99.5e6 => format!("{:.1} MB", n / 1e6),
        n if n < 999.5e6 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.1} GB", n / 1e9),
    }
}
