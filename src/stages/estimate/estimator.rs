//! Estimates of all training stages of a graph.

use std::sync::Arc;

use anyhow::Result;

use super::{
    FactsOf, Form, Machine, Samples,
    learning::{Learning, RANK},
    memory::Memory,
    model::{Model, Models},
    work::Work,
};
use crate::{
    engine::plan::{Graph, Node, Plan},
    spec::{MicroBatch, WeightForm},
    stages::facts::Field,
};

/// The length of the prefixes that a plan shows beside what the recipe asks for.
const PREFIX: usize = 128;

/// What a training stage will take.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Parameters of the model, heads included and adapters not.
    pub parameters: u64,
    /// The field of the stage's settings that says how it trains.
    pub settings: Field,
    /// Whether the vocabulary isn't known yet but for what the recipe asks for.
    pub about: bool,
    /// Whether the model was there before this recipe.
    pub existing: bool,
    /// As the recipe has it.
    pub planned: Form,
    /// Other ways to train the same model: all of it, LoRA, P-tuning v2.
    pub others: Vec<Form>,
}

/// Estimates the training stages of a graph; `plan` tells which of the stages before them have been run.
pub struct Estimator<'a> {
    models: Models<'a>,
    machine: &'a Machine,
    samples: Arc<Samples>,
}

impl<'a> Estimator<'a> {
    /// For a run on this machine.
    pub fn new(graph: &'a Graph, plan: &'a Plan, machine: &'a Machine, facts: FactsOf<'a>) -> Self {
        Self { models: Models::new(graph, plan, facts), machine, samples: Arc::default() }
    }

    /// The same that knows what estimates of other graphs have looked at.
    pub fn with_samples(self, samples: &Arc<Samples>) -> Self {
        Self { samples: Arc::clone(samples), ..self }
    }

    /// The family of the model that a stage trains, measures or asks, as far as that can be told.
    ///
    /// # Errors
    /// As [`Self::stage`].
    pub fn family(&self, node: &Node) -> Result<Option<&'static str>> {
        Ok(self.models.of(&node.name)?.map(|model| model.outline.family().name))
    }

    /// What a stage will take; `None` where nothing is trained.
    ///
    /// # Errors
    /// Data and configs that can't be read, and models that aren't supported.
    pub fn stage(&self, node: &Node) -> Result<Option<Estimate>> {
        let Some(training) = (self.models.facts)(node)?.training else { return Ok(None) };
        let train = &training.train;
        let Some(Model { outline, about, existing }) = self.models.of(&node.name)? else { return Ok(None) };
        let mut work = Work::new(self.models.graph, node, &training, self.machine, &self.samples)?;
        let recipe = Learning::of(training.adapter.as_ref(), &outline);
        let on_cpu = self.machine.is_cpu;
        if let (MicroBatch::Auto, Some(available)) = (train.micro_batch, self.machine.spared()) {
            work.fit(available, |work| Memory::new(&outline, &recipe, work, on_cpu).total());
        }
        let form = |learning: &Learning| Form::new(&outline, learning, &work, on_cpu);
        let adapters = [WeightForm::F32, WeightForm::Bf16, WeightForm::Int8]
            .into_iter()
            .flat_map(|base| [Learning::lora(&outline, RANK, base), Learning::prefix(&outline, PREFIX, base)]);
        let others = [Learning::all()].into_iter().chain(adapters).filter(|other| other.name() != recipe.name());
        Ok(Some(Estimate {
            parameters: outline.shapes.count(),
            settings: training.settings,
            about,
            existing,
            planned: form(&recipe),
            others: others.filter(|other| other.trained(&outline.shapes) > 0).map(|other| form(&other)).collect(),
        }))
    }
}
