//! What a model family has to offer; everything else (heads, losses, scores, files) is shared.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Tensor;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    bert::{self, Bert, BertConfig},
    chatglm::{self, Chatglm, ChatglmConfig},
    chatglm2::{self, Chatglm2, Chatglm2Config},
    glm::{self, Glm, GlmConfig},
    glm4::{self, Glm4, Glm4Config},
    gpt2::{self, Gpt2, Gpt2Config},
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, VectorId},
    pass::Pass,
    transformer::{self, Transformer, TransformerConfig},
};
use crate::{
    data::text::Special,
    network::{batch::Batch, kernels::Gelu},
    spec,
};

/// What the rest of a network has to know of a family's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Width of the hidden states.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// The longest sequence.
    pub max_length: usize,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

/// A transformer from token ids to hidden states, and its language model head.
pub trait Family: Send + Sync {
    /// The family's name, as recipes have it.
    fn name(&self) -> &'static str;

    /// How large it is.
    fn sizes(&self) -> Sizes;

    /// How its parameters lie in checkpoints.
    fn on_disk(&self) -> &'static OnDisk;

    /// The name of Hugging Face's class, for a model that judges sentence `pairs` or doesn't.
    fn architecture(&self, pairs: bool) -> &'static str;

    /// `config.json` as Hugging Face has it, but for the name of the class.
    fn config(&self) -> Value;

    /// The keys of `config.json` for ids of special tokens.
    fn token_keys(&self) -> &'static [(&'static str, Special)] {
        &[]
    }

    /// Whether no token may see those after it, whatever the batch says.
    fn is_causal(&self) -> bool {
        false
    }

    /// Whether a token's keys and values stay the same as its sequence grows, so that they can be kept.
    fn is_incremental(&self) -> bool {
        true
    }

    /// Whether positions are turned rather than looked up, so that sequences may be longer than `max_length`.
    fn is_rotary(&self) -> bool {
        false
    }

    /// Refuses batches that the tables are too small for.
    ///
    /// # Errors
    /// A token outside of the vocabulary, or a position past the last one.
    fn check(&self, batch: &Batch) -> Result<()> {
        let Sizes { vocabulary, max_length, .. } = self.sizes();
        check_tokens(batch, vocabulary)?;
        if self.is_rotary() { Ok(()) } else { check_positions(batch.positions.iter(), max_length, max_length) }
    }

    /// Adds what a checkpoint of the bare backbone lacks for guessing tokens; most families lack nothing.
    ///
    /// # Errors
    /// Settings that aren't supported.
    fn add_head(&mut self, _builder: &mut Builder) -> Result<()> {
        Ok(())
    }

    /// Hidden states `[T, hidden]` of a batch, after the last norm.
    fn hidden(&self, pass: &Pass) -> Tensor<2>;

    /// What stands between hidden states and the logits' linear layer: `[N, hidden]` to the same.
    fn before_logits(&self, _pass: &Pass, hidden: Tensor<2>) -> Tensor<2> {
        hidden
    }

    /// The linear layer that gives logits: its weight `[vocabulary, hidden]` and bias.
    fn output(&self) -> (MatrixId, Option<VectorId>);
}

/// Makes the parameters of a model that a recipe describes.
///
/// # Errors
/// Sizes that don't go together.
pub(super) fn from_spec(spec: &spec::Model, vocabulary: usize, builder: &mut Builder) -> Result<Box<dyn Family>> {
    Ok(match spec {
        spec::Model::Glm(sizes) => Box::new(Glm::new(GlmConfig::new(sizes, vocabulary), builder)?),
        spec::Model::Bert(sizes) => Box::new(Bert::new(BertConfig::new(sizes, vocabulary), builder)?),
        spec::Model::Gpt2(sizes) => Box::new(Gpt2::new(Gpt2Config::new(sizes, vocabulary), builder)?),
        spec::Model::Chatglm(sizes) => Box::new(Chatglm::new(ChatglmConfig::new(sizes, vocabulary), builder)?),
        spec::Model::Chatglm2(sizes) => Box::new(Chatglm2::new(Chatglm2Config::new(sizes, vocabulary), builder)?),
        spec::Model::Glm4(sizes) => Box::new(Glm4::new(Glm4Config::new(sizes, vocabulary), builder)?),
        spec::Model::Transformer(sizes) => {
            Box::new(Transformer::new(TransformerConfig::new(sizes, vocabulary), builder)?)
        }
    })
}

/// The families that checkpoints may be of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Glm,
    Bert,
    Gpt2,
    Chatglm,
    Chatglm2,
    Glm4,
    Transformer,
}

impl Kind {
    /// The family of a `config.json`.
    ///
    /// # Errors
    /// Families that aren't known.
    pub(super) fn of(config: &Value) -> Result<Self> {
        let has = |keys: &[&str]| keys.iter().any(|&key| config.get(key).is_some());
        match config.get("model_type").and_then(Value::as_str).context("no model_type")? {
            "bert" => Ok(Self::Bert),
            "gpt2" => Ok(Self::Gpt2),
            // The original GLM and Hugging Face's GLM-4 share a name, and so do the generations of ChatGLM.
            "glm" if has(&["block_position_encoding", "max_sequence_length"]) => Ok(Self::Glm),
            "glm" | "glm4" => Ok(Self::Glm4),
            "chatglm" if has(&["inner_hidden_size", "position_encoding_2d"]) => Ok(Self::Chatglm),
            "chatglm" => Ok(Self::Chatglm2),
            "marian" => Ok(Self::Transformer),
            other => bail!("model_type {other} isn't supported; bert, chatglm, glm, glm4, gpt2 and marian are"),
        }
    }

    /// How checkpoints of the family look.
    pub(super) fn on_disk(self) -> &'static OnDisk {
        match self {
            Self::Glm => &glm::ON_DISK,
            Self::Bert => &bert::ON_DISK,
            Self::Gpt2 => &gpt2::ON_DISK,
            Self::Chatglm => &chatglm::ON_DISK,
            Self::Chatglm2 => &chatglm2::ON_DISK,
            Self::Glm4 => &glm4::ON_DISK,
            Self::Transformer => &transformer::ON_DISK,
        }
    }

    /// Makes the parameters of the model that a `config.json` describes.
    ///
    /// # Errors
    /// Settings that aren't supported.
    pub(super) fn build(self, config: &Value, builder: &mut Builder) -> Result<Box<dyn Family>> {
        fn read<C: DeserializeOwned>(config: &Value) -> Result<C> {
            Ok(serde_json::from_value(config.clone())?)
        }
        Ok(match self {
            Self::Glm => Box::new(Glm::new(read(config)?, builder)?),
            Self::Bert => Box::new(Bert::new(read(config)?, builder)?),
            Self::Gpt2 => Box::new(Gpt2::new(read(config)?, builder)?),
            Self::Chatglm => Box::new(Chatglm::new(read(config)?, builder)?),
            Self::Chatglm2 => Box::new(Chatglm2::new(read(config)?, builder)?),
            Self::Glm4 => Box::new(Glm4::new(read(config)?, builder)?),
            Self::Transformer => Box::new(Transformer::new(read(config)?, builder)?),
        })
    }
}

/// # Errors
/// Heads that don't divide the hidden size.
pub(super) fn check_heads(hidden: usize, heads: usize) -> Result<()> {
    ensure!(heads > 0 && hidden.is_multiple_of(heads), "{heads} heads don't divide a hidden size of {hidden}");
    Ok(())
}

/// # Errors
/// Heads of keys that don't divide those of queries.
pub(super) fn check_groups(heads: usize, groups: usize) -> Result<()> {
    let fits = heads > 0 && groups > 0 && heads.is_multiple_of(groups);
    ensure!(fits, "{groups} heads of keys don't divide {heads} heads of queries");
    Ok(())
}

/// # Errors
/// Tokens and targets outside of the vocabulary.
pub(super) fn check_tokens(batch: &Batch, vocabulary: usize) -> Result<()> {
    let targets = batch.targets.iter().map(|target| target.token);
    let token = batch.tokens.iter().copied().chain(targets).max().unwrap_or(0);
    ensure!((token as usize) < vocabulary, "token {token} is outside of the model's vocabulary of {vocabulary}");
    Ok(())
}

/// # Errors
/// Positions past the `rows` that their table has.
pub(super) fn check_positions<'a>(
    positions: impl Iterator<Item = &'a u32>,
    max_length: usize,
    rows: usize,
) -> Result<()> {
    let position = positions.max().copied().unwrap_or(0);
    ensure!((position as usize) < rows, "position {position} is past the model's max_length of {max_length}");
    Ok(())
}

/// The settings of a `config.json` that change what a model computes, and that only one value of is known.
///
/// # Errors
/// Another value.
pub(super) fn check_settings(config: &Map<String, Value>, known: &[(&str, Value)]) -> Result<()> {
    for (key, known) in known {
        let value = config.get(*key).unwrap_or(known);
        ensure!(value == known || value.is_null(), "{key} {value} isn't supported");
    }
    Ok(())
}

/// The activation that Hugging Face calls so.
///
/// # Errors
/// Another than GELU.
pub(super) fn gelu(name: &str) -> Result<Gelu> {
    match name {
        "gelu" => Ok(Gelu::Erf),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Gelu::Tanh),
        other => bail!("the activation {other} isn't supported; gelu, gelu_new and gelu_pytorch_tanh are"),
    }
}

/// `config.json` out of the `settings` that matter: `defaults` go where nothing stands.
pub(super) fn described(settings: Value, defaults: Value) -> Value {
    match (settings, defaults) {
        (Value::Object(settings), Value::Object(mut all)) => {
            all.extend(settings);
            // Whatever was read, f32 is written; code of before 2025 knows the type by its older name.
            let old = all.remove("torch_dtype").is_some();
            all.insert(if old { "torch_dtype" } else { "dtype" }.into(), "float32".into());
            Value::Object(all)
        }
        (settings, _) => settings,
    }
}
