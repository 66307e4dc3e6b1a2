//! What a recipe may say: the typed form of the YAML, and the source of its JSON Schema.
//!
//! Every type here refuses unknown keys, and every default is visible in the schema. Beyond plain types the schema
//! carries one annotation of ours, `x-role`, which is all that the rest of the program needs to know about a field:
//!
//! | role | the field holds | what follows from it |
//! |---|---|---|
//! | `path` | a file, or a glob of files | must exist; its bytes enter the key, its name doesn't |
//! | `checkpoint` | a directory with a model | must have a config.json; the bytes of the files that make the model enter the key |
//! | `tokenizer` | a tokenizer's file, or a directory with one | must exist; the bytes of its files enter the key |
//! | `stage:PRODUCT` | the name of another stage that makes this [`Product`] | an edge of the graph; its output digest enters the key |
//! | `template` | a minijinja template over data rows | left alone when the recipe's own expressions are filled in |
//! | `free` | something that can't change a stage's output | not in the key |
//!
//! Keys leave out what equals its default. `x-unsaid` lists the values that they leave out instead, for a field whose default
//! has changed: with the first default, what recipes have meant without the field is found by those that say it now, and
//! isn't by those that say nothing. Of several values the version of the stage's kind tells which it was.
//!
//! `x-recorded` marks what is recorded in the clear with a stage's results, so that it can't hold a secret; it says why.

mod adapter;
mod class_weights;
mod classification;
mod dev_metric;
mod device;
mod eval;
mod expectation;
mod export;
mod finetune;
mod gpu;
mod import;
mod instruction;
mod linear;
mod model;
mod objective;
mod open;
mod origin;
mod outputs;
mod pretrain;
mod problem;
mod product;
mod source;
mod sweep;
mod teacher;
mod tokenize;
mod train;

use indexmap::IndexMap;
use open::open_place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adapter::{Adapter, Lora, PTuning, WeightForm};
pub use class_weights::{ClassWeights, CountedWeights};
pub use classification::{Classification, Head, Pooling};
pub use dev_metric::DevMetric;
pub use device::{Device, DeviceChoice, DeviceChoices, Devices};
pub use eval::Eval;
pub use expectation::{Bound, Expectation, Expectations};
pub use export::{Dtype, Export, FileSize};
pub use finetune::{Finetune, FinetuneData, Task, Wide};
pub use gpu::Gpu;
pub use import::Import;
pub use instruction::{ChatFormat, Instruction, TooLong, Turns};
pub use linear::Linear;
pub use model::Model;
pub use objective::{GENERATIVE, Objective, OpenSettings, Part, Section};
pub use origin::{Checkpoint, Origin, WithoutTokenizer};
pub use outputs::{MultiLabel, Outputs, Regression};
pub use pretrain::Pretrain;
pub use problem::Problem;
pub use product::Product;
pub use source::{DocumentUnit, Format, Source};
pub use sweep::{Random, Range, Repeat, Rung, SuccessiveHalving, Sweep, Tpe, Values};
pub use teacher::Teacher;
pub use tokenize::{Bpe, Tokenize, Tokenizer, Unigram, WordPiece};
pub use train::{Average, Batch, EarlyStopping, LossNormalization, MicroBatch, Optimizer, Precision, Schedule, Train};

/// A pipeline: named stages, what they share, and optionally a sweep over their settings.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random choice in the recipe; a stage may set its own
    #[serde(default)]
    #[schemars(extend("x-recorded" = "seeds are recorded with results"))]
    pub seed: u64,
    /// Where tensors live: auto, cpu, cuda, cuda:N, vulkan, wgpu or metal; `--device` overrides it
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub device: Device,
    /// Devices that share each step of a training, in place of `device`: `auto` or `cuda` for all there are, or a list such
    /// as `cuda:0-3`; the result is the same but for rounding. `--devices` overrides it
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub devices: Option<Devices>,
    /// What GPU backends do of themselves
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub gpu: Gpu,
    /// Values for `{{ … }}` expressions anywhere in the recipe; `--var NAME=VALUE` overrides them
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub vars: IndexMap<String, serde_json::Value>,
    /// The stages by name; their order follows from what they refer to
    #[schemars(extend("minProperties" = 1))]
    pub stages: IndexMap<String, Stage>,
    /// Settings for `pipe sweep` to try
    #[serde(default)]
    #[schemars(extend("x-role" = "free", "x-recorded" = "a sweep's settings stand in its table"))]
    pub sweep: Option<Sweep>,
}

open_place! {
    /// One stage: its kind, and what that kind needs.
    Stage {
        /// The name of its kind.
        kind
    }
}

impl Stage {
    /// Its settings as their type has them.
    ///
    /// # Errors
    /// If it's a stage of another kind. Those of a checked recipe fit the type of their kind.
    pub fn settings_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.settings)
    }

    /// What is expected of its metrics: what its kind has in a field `expect` of this type.
    pub fn expectations(&self) -> Expectations {
        let expect = self.settings.get("expect").filter(|expect| !expect.is_null());
        expect.and_then(|expect| Expectations::deserialize(expect).ok()).unwrap_or_default()
    }
}
