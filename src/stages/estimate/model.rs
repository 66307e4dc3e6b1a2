//! The model that a training stage begins with, as shapes: out of the recipe, a checkpoint's config.json, or what an
//! earlier run left.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use super::Estimator;
use crate::{
    data::text,
    engine::{plan::Node, store::Artifact},
    learning::objectives::{definition, parts::needs_head},
    network::{
        checkpoint::{self, CONFIG},
        model::Outline,
    },
    spec::{Finetune, Head, Pretrain, Stage, Task, Tokenizer},
};

/// A model, as far as it's known.
pub(super) struct Model {
    pub(super) outline: Outline,
    /// Whether its vocabulary is only what the recipe asks for.
    pub(super) about: bool,
    /// Whether it comes out of a checkpoint that isn't the recipe's own.
    pub(super) existing: bool,
}

impl Estimator<'_> {
    /// The model that a stage trains, with the heads that it adds. `None` for stages without a model, and where the
    /// recipe doesn't say.
    pub(super) fn model(&self, stage: &str) -> Result<Option<Model>> {
        let Some(node) = self.graph.get(stage) else { return Ok(None) };
        let imported = node.files.get("path").filter(|_| node.stage.kind() == "import");
        let checkpoint = node.files.get("from.checkpoint").or(imported).and_then(|directories| directories.first());
        let mut model = match (checkpoint, node.needs.get("from"), &node.stage) {
            (Some(directory), ..) => Some(Model { outline: outline(directory)?, about: false, existing: true }),
            (None, Some(before), _) => self.model(before)?,
            (None, None, Stage::Pretrain(Pretrain { model: Some(spec), .. })) => self.fresh(node, spec)?,
            (None, None, Stage::Finetune(Finetune { model: Some(spec), .. })) => self.fresh(node, spec)?,
            _ => None,
        };
        if let Some(model) = &mut model {
            add_heads(&mut model.outline, &node.stage)?;
        }
        Ok(model)
    }

    fn fresh(&self, node: &Node, spec: &crate::spec::Model) -> Result<Option<Model>> {
        let Some(tokens) = node.needs.get("tokens") else { return Ok(None) };
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
        let Stage::Tokenize(spec) = &node.stage else {
            return Ok(self.model(stage)?.map(|model| (model.outline.architecture().sizes().vocabulary, model.about)));
        };
        Ok(match (&spec.tokenizer, node.needs.get("tokenizer.stage")) {
            (Tokenizer::Bpe(spec), _) => Some((spec.vocab_size, true)),
            (Tokenizer::Wordpiece(spec), _) => Some((spec.vocab_size, true)),
            (Tokenizer::Unigram(spec), _) => Some((spec.vocab_size, true)),
            (_, Some(stage)) => self.vocabulary(stage)?,
            _ => match node.files.get("tokenizer.file").and_then(|files| files.first()) {
                Some(file) => Some((text::Tokenizer::load(file)?.vocab_size(), false)),
                None => None,
            },
        })
    }

    fn artifact(&self, stage: &str) -> Option<&Artifact> {
        self.planned.iter().find(|planned| planned.name == stage)?.status.artifact()
    }
}

fn outline(directory: &Path) -> Result<Outline> {
    let config = checkpoint::base(directory).join(CONFIG);
    let read = || Outline::of_config(&serde_json::from_slice(&fs::read(&config)?)?);
    read().with_context(|| format!("can't tell the size of {}", config.display()))
}

/// The heads that a stage adds before it trains.
fn add_heads(outline: &mut Outline, stage: &Stage) -> Result<()> {
    match stage {
        Stage::Pretrain(spec) if needs_head(&spec.objectives, definition::Head::Pair)? => outline.add_pair_head(),
        Stage::Finetune(spec) => {
            if let Task::Classification(task) = &spec.task
                && task.head == Head::Linear
            {
                outline.add_classifier(task.words.len(), task.pooling);
            }
        }
        _ => {}
    }
    Ok(())
}
