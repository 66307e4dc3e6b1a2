//! The model that a training stage begins with, as shapes: out of the recipe, a checkpoint's config.json, or what an
//! earlier run left.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use anyhow::{Context, Result};

use crate::{
    data::text,
    engine::{
        plan::{Graph, Node, Plan},
        store::Artifact,
    },
    network::{
        checkpoint::{self, CONFIG},
        model::Outline,
    },
    spec,
    stages::facts::{BaseModel, Facts, Field, Training, Vocabulary},
};

/// A model, as far as it's known.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) outline: Outline,
    /// Whether its vocabulary is only what the recipe asks for.
    pub(super) about: bool,
    /// Whether it comes out of a checkpoint that isn't the recipe's own.
    pub(super) existing: bool,
}

/// Tells what a stage says of itself.
pub type FactsOf<'a> = &'a dyn Fn(&Node) -> Result<Facts>;

/// Finds the models of a graph's stages; `plan` tells which of them have been run.
pub(super) struct Models<'a> {
    pub(super) graph: &'a Graph,
    pub(super) plan: &'a Plan,
    pub(super) facts: FactsOf<'a>,
    /// Those that were asked for, by their stages.
    known: RefCell<BTreeMap<String, Option<Model>>>,
}

impl<'a> Models<'a> {
    pub(super) fn new(graph: &'a Graph, plan: &'a Plan, facts: FactsOf<'a>) -> Self {
        Self { graph, plan, facts, known: RefCell::default() }
    }

    /// The model that a stage trains, with the heads that it adds. `None` for stages without a model, and where the
    /// recipe doesn't say.
    pub(super) fn of(&self, stage: &str) -> Result<Option<Model>> {
        if let Some(known) = self.known.borrow().get(stage) {
            return Ok(known.clone());
        }
        let model = self.find(stage)?;
        self.known.borrow_mut().insert(stage.to_owned(), model.clone());
        Ok(model)
    }

    fn find(&self, stage: &str) -> Result<Option<Model>> {
        let Some(node) = self.graph.get(stage) else { return Ok(None) };
        let Facts { base_model, training, .. } = (self.facts)(node)?;
        let mut model = match base_model {
            Some(BaseModel::Checkpoint { field, .. }) => {
                match node.files.get(field.0).and_then(|found| found.first()) {
                    Some(directory) => Some(Model { outline: outline(directory)?, about: false, existing: true }),
                    None => None,
                }
            }
            Some(BaseModel::Stage { field, .. }) => match node.needs.get(field.0) {
                Some(before) => self.of(before)?,
                None => None,
            },
            Some(BaseModel::New { model, tokens }) => self.fresh(node, &model, tokens)?,
            None => None,
        };
        if let (Some(model), Some(Training { heads, .. })) = (&mut model, training) {
            if heads.pair {
                model.outline.add_pair_head();
            }
            if let Some((labels, pooling)) = heads.classifier {
                let pooling = pooling.unwrap_or(model.outline.family().pooling());
                model.outline.add_classifier(labels, pooling);
            }
        }
        Ok(model)
    }

    fn fresh(&self, node: &Node, spec: &spec::Model, tokens: Field) -> Result<Option<Model>> {
        let Some(tokens) = node.needs.get(tokens.0) else { return Ok(None) };
        let Some((vocabulary, about)) = self.vocabulary(tokens)? else { return Ok(None) };
        Ok(Some(Model { outline: Outline::new(spec, vocabulary)?, about, existing: false }))
    }

    /// Entries of the vocabulary of a stage's tokenizer, and whether that's only about right.
    fn vocabulary(&self, stage: &str) -> Result<Option<(usize, bool)>> {
        let known = self.artifact(stage).and_then(|artifact| artifact.metrics.get("vocab_size")?.as_u64());
        if let Some(size) = known {
            return Ok(Some((size as usize, false)));
        }
        let Some(node) = self.graph.get(stage) else { return Ok(None) };
        Ok(match (self.facts)(node)?.vocabulary {
            Some(Vocabulary::Wanted(size)) => Some((size, true)),
            Some(Vocabulary::OfStage(field)) => match node.needs.get(field.0) {
                Some(stage) => self.vocabulary(stage)?,
                None => None,
            },
            Some(Vocabulary::OfFile(field)) => match node.files.get(field.0).and_then(|files| files.first()) {
                Some(file) => Some((text::Tokenizer::load(file)?.vocab_size(), false)),
                None => None,
            },
            None => self.of(stage)?.map(|model| (model.outline.architecture().sizes().vocabulary, model.about)),
        })
    }

    fn artifact(&self, stage: &str) -> Option<&Artifact> {
        self.plan.artifact(stage)
    }
}

fn outline(directory: &Path) -> Result<Outline> {
    let config = checkpoint::base(directory).join(CONFIG);
    Outline::of_directory(directory).with_context(|| format!("can't tell the size of {}", config.display()))
}
