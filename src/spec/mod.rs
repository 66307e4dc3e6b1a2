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
//! | `stage:KIND,…` | the name of another stage of one of these kinds | an edge of the graph; its output digest enters the key |
//! | `template` | a minijinja template over data rows | left alone when the recipe's own expressions are filled in |
//! | `free` | something that can't change a stage's output | not in the key |

mod adapter;
mod eval;
mod export;
mod finetune;
mod import;
mod instruction;
mod model;
mod objective;
mod open;
mod origin;
mod pretrain;
mod source;
mod sweep;
mod tokenize;
mod train;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adapter::{Adapter, BaseDtype, Lora, PTuning};
pub use eval::Eval;
pub use export::{Dtype, Export};
pub use finetune::{Classification, Finetune, FinetuneData, Head, Pooling, Task};
pub use import::Import;
pub use instruction::{ChatFormat, Instruction, TooLong};
pub use model::{GroupedSizes, Heads, Model, Sizes};
pub use objective::{BlankInfilling, CausalLm, Generative, MaskedLm, Objective, PrefixLm, SentencePair};
pub use origin::{Checkpoint, Origin, WithoutTokenizer};
pub use pretrain::Pretrain;
pub use source::{DocumentUnit, Format, Source};
pub use sweep::{Asha, Random, Range, Repeat, Rung, Sweep, Tpe, Values};
pub use tokenize::{Bpe, Tokenize, Tokenizer, Unigram, WordPiece};
pub use train::{
    Batch, EarlyStopping, Length, LossNormalization, MicroBatch, Optimizer, Precision, Reached, Schedule, Train,
};

/// A pipeline: named stages, what they share, and optionally a sweep over their settings.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random choice in the recipe; a stage may set its own
    #[serde(default)]
    pub seed: u64,
    /// Where tensors live: auto, cpu, cuda, cuda:N, vulkan, wgpu or metal; `--device` overrides it
    #[serde(default = "auto")]
    #[schemars(extend("x-role" = "free"))]
    pub device: String,
    /// Devices that share each step of a training, in place of `device`: `auto` or `cuda` for all there are, or a list such
    /// as `cuda:0-3`; what is learned stays the same but for rounding. `--devices` overrides it
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub devices: Option<String>,
    /// Values for `{{ … }}` expressions anywhere in the recipe; `--var NAME=VALUE` overrides them
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub vars: IndexMap<String, serde_json::Value>,
    /// The stages by name; their order follows from what they refer to
    #[schemars(extend("minProperties" = 1))]
    pub stages: IndexMap<String, Stage>,
    /// Settings for `pipe sweep` to try
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub sweep: Option<Sweep>,
}

fn auto() -> String {
    "auto".into()
}

/// One stage: its kind, and what that kind needs.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a recipe has a handful of stages")]
pub enum Stage {
    /// Train or take a tokenizer and encode corpora with it
    Tokenize(Tokenize),
    /// Train a language model on encoded corpora
    Pretrain(Pretrain),
    /// Adapt a model to labelled rows
    Finetune(Finetune),
    /// Measure a model on held-out data
    Eval(Eval),
    /// Take a checkpoint into the store
    Import(Import),
    /// Make a model ready for others
    Export(Export),
}

impl Stage {
    /// The kind's name, as it's written in the recipe.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tokenize(_) => "tokenize",
            Self::Pretrain(_) => "pretrain",
            Self::Finetune(_) => "finetune",
            Self::Eval(_) => "eval",
            Self::Import(_) => "import",
            Self::Export(_) => "export",
        }
    }

    /// Version of the kind's code. Raise it whenever the same input would give another output, so that an older
    /// artifact is never served for newer code.
    pub fn version(&self) -> u32 {
        match self {
            // 2 adds up the gradients of what layers share in another order.
            Self::Pretrain(spec) if shares(spec.model.as_ref(), spec.adapter.as_ref()) => 2,
            Self::Finetune(spec) if shares(spec.model.as_ref(), spec.adapter.as_ref()) => 2,
            // 2 takes the lower perplexity for the better one.
            Self::Finetune(spec) if spec.train.watches("perplexity") => 2,
            Self::Tokenize(_) | Self::Pretrain(_) | Self::Finetune(_) | Self::Import(_) | Self::Export(_) => 1,
            // 2 adds token accuracy.
            Self::Eval(_) => 2,
        }
    }

    /// Whether the stage draws random numbers, so that its seed is a part of its key.
    pub fn is_random(&self) -> bool {
        match self {
            Self::Tokenize(_) | Self::Eval(_) | Self::Import(_) | Self::Export(_) => false,
            Self::Pretrain(_) | Self::Finetune(_) => true,
        }
    }

    /// The model that the stage begins with, where it's one that exists.
    pub fn from(&self) -> Option<&Origin> {
        match self {
            Self::Pretrain(spec) => spec.from.as_ref(),
            Self::Finetune(spec) => spec.from.as_ref(),
            _ => None,
        }
    }

    /// Whether texts are to be spelt in bytes if the model that the stage begins with has no tokenizer.
    pub fn falls_back_on_bytes(&self) -> bool {
        let bytes = WithoutTokenizer::Bytes;
        matches!(self.from(), Some(Origin::Checkpoint(from)) if from.without_tokenizer == bytes)
    }

    /// How it trains, if it does.
    pub fn train(&self) -> Option<&Train> {
        match self {
            Self::Tokenize(_) | Self::Eval(_) | Self::Import(_) | Self::Export(_) => None,
            Self::Pretrain(spec) => Some(&spec.train),
            Self::Finetune(spec) => Some(&spec.train),
        }
    }

    /// The stage's own seed, where it sets one.
    pub fn seed(&self) -> Option<u64> {
        self.train().and_then(|train| train.seed)
    }
}

/// Whether several layers read what one tensor gives: the encoder's states, or a P-tuned prefix.
fn shares(model: Option<&Model>, adapter: Option<&Adapter>) -> bool {
    matches!(model, Some(Model::Transformer(_))) || matches!(adapter, Some(Adapter::PTuning(_)))
}
