//! A network without values: what it would hold and do, out of a recipe or of a checkpoint's `config.json` alone.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::Value;

use super::{
    architecture::{Architecture, Sizes},
    builder::Builder,
    families,
    family::Family,
    heads::{self, Classifier, ClassifierConfig, HeadInput, PairHead, Pooler},
    ids::WeightRole,
    ngrams::{NgramSettings, Ngrams},
    on_disk::{ends, unmet},
    shapes::{ParameterShape, ParameterShapes},
};
use crate::{
    network::checkpoint::{self, CONFIG},
    spec,
};

/// An architecture with its heads, as shapes.
#[derive(Clone)]
pub struct Outline {
    family: &'static Family,
    architecture: Arc<dyn Architecture>,
    /// All shapes, those of the heads included.
    pub shapes: ParameterShapes,
}

impl Outline {
    /// Of a new model of the sizes that a recipe gives, for a vocabulary of `vocabulary` tokens.
    ///
    /// # Errors
    /// Sizes that don't go together.
    pub fn new(spec: &spec::Model, vocabulary: usize) -> Result<Self> {
        let mut shapes = ParameterShapes::default();
        let family = families::of_spec(spec)?;
        let builder = &mut Builder::outline(&mut shapes);
        let architecture: Arc<dyn Architecture> = family.build_new(&spec.settings, vocabulary, builder)?.into();
        if let Some(ngrams) = family.ngrams(&spec.settings)? {
            Ngrams::new(builder, &ngrams, &architecture.sizes())?;
        }
        Ok(Self { family, architecture, shapes })
    }

    /// Of the model that a `config.json` describes, with every part that such a checkpoint may have.
    ///
    /// # Errors
    /// Families and settings that aren't supported.
    pub fn of_config(config: &Value) -> Result<Self> {
        let mut shapes = ParameterShapes::default();
        let family = families::of_config(config)?;
        let builder = &mut Builder::outline(&mut shapes);
        let architecture: Arc<dyn Architecture> = family.build(config, builder)?.into();
        if let Some(ngrams) = NgramSettings::of_config(config)? {
            Ngrams::new(builder, &ngrams, &architecture.sizes())?;
        }
        Ok(Self { family, architecture, shapes })
    }

    /// Of the model in a directory, by its `config.json` alone; of an adapter's that of its base.
    ///
    /// # Errors
    /// A config that can't be read, or isn't supported.
    pub fn of_directory(directory: &Path) -> Result<Self> {
        let config = checkpoint::base(directory).join(CONFIG);
        Self::of_config(&serde_json::from_slice(&fs::read(&config)?).context("it isn't JSON")?)
    }

    /// Its family.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The backbone.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// Adds a head for sentence pairs.
    pub fn add_pair_head(&mut self) {
        let Sizes { hidden, initializer_range, .. } = self.architecture.sizes();
        let builder = &mut Builder::outline(&mut self.shapes);
        Pooler::new(builder, hidden, initializer_range);
        PairHead::new(builder, hidden, initializer_range);
    }

    /// Adds a linear head.
    pub fn add_classifier(&mut self, classes: usize, pooling: spec::Pooling) {
        let Sizes { hidden, initializer_range, .. } = self.architecture.sizes();
        let config = ClassifierConfig { classes, input: pooling.into() };
        let has_pooler = self.shapes.iter().any(|shape| shape.name == Pooler::WEIGHT);
        let builder = &mut Builder::outline(&mut self.shapes);
        if config.input == HeadInput::Pooler && !has_pooler {
            Pooler::new(builder, hidden, initializer_range);
        }
        Classifier::new(builder, config, hidden, initializer_range);
    }

    /// A LoRA target that no linear layer of the backbone is called by, and what these are called.
    pub fn unmet_target<'t>(&self, targets: &'t [String]) -> Option<(&'t str, Vec<String>)> {
        let is_linear = |shape: &&ParameterShape| {
            matches!(shape.role, WeightRole::Linear | WeightRole::Head)
                && shape.name.ends_with(".weight")
                && !heads::is_head(&shape.name)
        };
        let on_disk = &self.family.on_disk;
        let modules: Vec<String> =
            self.shapes.iter().filter(is_linear).flat_map(|shape| on_disk.modules(&shape.name)).collect();
        unmet(&modules, targets)
    }

    /// What LoRA of rank `r` adds to the layers whose names in checkpoints are one of `targets`, or end with it after a
    /// dot: its elements, and the widths of what it keeps of each token.
    pub fn low_rank(&self, r: usize, targets: &[&str]) -> [u64; 2] {
        let on_disk = &self.family.on_disk;
        let mut sums = [0, 0];
        for ParameterShape { name, shape, .. } in self.shapes.iter() {
            let (&[rows, width], Some(module)) = (&shape[..], name.strip_suffix(".weight")) else { continue };
            let parts = on_disk.parts(module);
            let targeted = parts.iter().filter(|part| ends(part, targets)).count();
            let rows = rows / parts.len();
            sums[0] += (targeted * r * (rows + width)) as u64;
            sums[1] += (targeted * (width + r)) as u64;
        }
        sums
    }

    /// The shape of the matrix that gives logits: `[vocabulary, hidden]`.
    pub fn output(&self) -> [usize; 2] {
        self.shapes.weight(self.architecture.output().0)
    }
}
