//! What a model family has to say of itself: a static [`Family`] in a file of its own, registered in
//! [`FAMILIES`](super::FAMILIES). Recipes, checks, schema, checkpoints and documents all read it from there.

use anyhow::{Context, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    answer_form::AnswerForm, architecture::Architecture, attention_pattern::AttentionPattern,
    attention_sizes::AttentionSizes, builder::Builder, config::named, ngrams::NgramSettings, on_disk::OnDisk,
};
use crate::{
    data::text::Special,
    spec::{ChatFormat, Pooling},
    support::Named,
};

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// Its name in recipes.
    pub name: &'static str,
    /// What it is, in one line; the description in the recipes' JSON Schema.
    pub description: &'static str,
    /// Version of its code. To be raised whenever the same stage would train another model, so that an older artifact
    /// is never served for newer code.
    pub version: u32,
    /// Whether its second version came with a change of the code that models share, such as the order in which gradients
    /// of shared layers are added up: in a stage's version it then counts once, with that of all else that changed.
    pub shares_second_version: bool,
    /// What its attention can be made to do: it can learn the objectives that ask for one of these.
    pub attention: &'static [AttentionPattern],
    /// How a prompt and its answer are laid out.
    pub form: AnswerForm,
    /// Its chat format where nothing else is asked for; `None` where it can't generate answers.
    pub chat: Option<ChatFormat>,
    /// How its `config.json` is recognized.
    pub config: ConfigPattern,
    /// How its parameters are laid out in checkpoints.
    pub on_disk: OnDisk,
    /// The keys of `config.json` that hold ids of special tokens.
    pub token_keys: &'static [(&'static str, Special)],
    /// The keys of `config.json` that hold probabilities of dropout.
    pub dropout_keys: &'static [&'static str],
    /// What its class for sequence classification in transformers reads; `None` where there is no such class.
    pub classifier: Option<Pooling>,
    /// What reads its settings and puts its models together.
    pub code: FamilyCode,
}

/// What tells a family's `config.json` from those of others.
#[derive(Clone, Copy, Debug)]
pub struct ConfigPattern {
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// Where families share a `model_type`: keys of which this family's configs have at least one. The family without
    /// such keys takes what is left.
    pub keys: &'static [&'static str],
}

/// The settings of a family in recipes.
pub trait ModelSettings: DeserializeOwned + JsonSchema + Serialize {
    /// The longest sequence, in tokens.
    fn max_length(&self) -> usize;

    /// The sizes of the attention that they ask for.
    fn attention(&self) -> AttentionSizes;

    /// Those of a model as small as can be, for trying a device.
    fn tiny() -> Self;

    /// The embeddings of n-grams that they ask for; its models add them with [`Pass::with_ngrams`](super::Pass::with_ngrams).
    fn ngrams(&self) -> Option<&NgramSettings> {
        None
    }
}

/// The `config.json` of a family, made for a recipe or read from a checkpoint.
pub trait ModelConfig: DeserializeOwned {
    /// What recipes say of such a model.
    type Settings: ModelSettings;

    /// Other names under which a `config.json` may have some of the keys, each with the one that's read: those of Hugging
    /// Face's `attribute_map`, and of other versions.
    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[];

    /// The sizes of its attention, for the checks before anything is built; with what this family asks of them in
    /// particular.
    fn attention(settings: &Self::Settings) -> AttentionSizes {
        settings.attention()
    }

    /// For a new model with a vocabulary of `vocabulary` tokens.
    fn new(settings: &Self::Settings, vocabulary: usize) -> Self;

    /// Adds the parameters of the model, and puts it together.
    ///
    /// # Errors
    /// Sizes that don't fit together; settings that aren't supported.
    fn build(self, builder: &mut Builder) -> Result<Box<dyn Architecture>>;
}

/// The functions of a [`ModelConfig`], without its types.
#[derive(Clone, Copy, Debug)]
pub struct FamilyCode {
    complete: fn(&Value) -> Result<Value>,
    tiny: fn() -> Result<Value>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    attention: fn(&Value) -> Result<AttentionSizes>,
    max_length: fn(&Value) -> Result<usize>,
    ngrams: fn(&Value) -> Result<Option<NgramSettings>>,
    build_new: fn(&Value, usize, &mut Builder<'_>) -> Result<Box<dyn Architecture>>,
    build: fn(&Value, &mut Builder<'_>) -> Result<Box<dyn Architecture>>,
}

impl FamilyCode {
    /// Those of `C`.
    pub const fn of<C: ModelConfig>() -> Self {
        fn settings<C: ModelConfig>(settings: &Value) -> Result<C::Settings> {
            Ok(C::Settings::deserialize(settings)?)
        }
        Self {
            complete: |value| Ok(serde_json::to_value(settings::<C>(value)?)?),
            tiny: || Ok(serde_json::to_value(C::Settings::tiny())?),
            schema: |generator| generator.subschema_for::<C::Settings>(),
            attention: |value| Ok(C::attention(&settings::<C>(value)?)),
            max_length: |value| Ok(settings::<C>(value)?.max_length()),
            ngrams: |value| Ok(settings::<C>(value)?.ngrams().cloned()),
            build_new: |value, vocabulary, builder| C::new(&settings::<C>(value)?, vocabulary).build(builder),
            build: |value, builder| C::deserialize(named(value, C::OTHER_NAMES)?)?.build(builder),
        }
    }
}

impl Family {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it can learn objectives that ask for this pattern.
    pub fn can_learn(&self, pattern: AttentionPattern) -> bool {
        self.attention.contains(&pattern)
    }

    /// What a linear head reads where a recipe doesn't say: what its class in transformers reads, so that the head opens
    /// there; else the mean.
    pub fn pooling(&self) -> Pooling {
        self.classifier.unwrap_or(Pooling::Mean)
    }

    /// A recipe's settings with their defaults filled in.
    ///
    /// # Errors
    /// Settings of other types or names.
    pub fn complete(&self, settings: &Value) -> Result<Value> {
        self.named((self.code.complete)(settings))
    }

    /// The settings of a model as small as can be.
    ///
    /// # Errors
    /// Settings that can't be written as JSON.
    pub fn tiny(&self) -> Result<Value> {
        self.named((self.code.tiny)())
    }

    /// The JSON Schema of its settings, or a reference to it among the generator's definitions.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.code.schema)(generator)
    }

    /// The sizes of the attention that a recipe's settings ask for.
    ///
    /// # Errors
    /// Settings of other types or names.
    pub fn attention_sizes(&self, settings: &Value) -> Result<AttentionSizes> {
        self.named((self.code.attention)(settings))
    }

    /// The longest sequence of the model that a recipe's settings ask for, in tokens.
    ///
    /// # Errors
    /// Settings of other types or names.
    pub fn max_length(&self, settings: &Value) -> Result<usize> {
        self.named((self.code.max_length)(settings))
    }

    /// The embeddings of n-grams that a recipe's settings ask for.
    ///
    /// # Errors
    /// Settings of other types or names.
    pub fn ngrams(&self, settings: &Value) -> Result<Option<NgramSettings>> {
        self.named((self.code.ngrams)(settings))
    }

    /// Adds the parameters of the model that a recipe's settings ask for, but for those of n-grams.
    ///
    /// # Errors
    /// Settings of other types or names; sizes that don't fit together.
    pub fn build_new(
        &self,
        settings: &Value,
        vocabulary: usize,
        builder: &mut Builder,
    ) -> Result<Box<dyn Architecture>> {
        self.named((self.code.build_new)(settings, vocabulary, builder))
    }

    /// Adds the parameters of the model that a `config.json` describes.
    ///
    /// # Errors
    /// Settings that are missing or aren't supported; sizes that don't fit together.
    pub fn build(&self, config: &Value, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        (self.code.build)(config, builder)
    }

    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| format!("the settings of `{}`", self.name))
    }
}

impl Named for Family {
    fn name(&self) -> &'static str {
        self.name
    }
}
