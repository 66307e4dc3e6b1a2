//! What a model family has to offer; everything else (heads, losses, scores, files) is shared.

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    glm::{Glm, GlmConfig},
    parameters::{Builder, MatrixId, VectorId},
    pass::Pass,
};
use crate::{batch::Batch, recipe::spec};

/// A transformer from token ids to hidden states, and its language model head.
pub trait Family: Send + Sync {
    /// Width of the hidden states.
    fn hidden_size(&self) -> usize;

    /// Entries of the vocabulary.
    fn vocabulary(&self) -> usize;

    /// The longest sequence.
    fn max_length(&self) -> usize;

    /// Standard deviation of new weights.
    fn initializer_range(&self) -> f64;

    /// `config.json` as Hugging Face has it.
    fn config(&self) -> Value;

    /// Refuses batches that the tables are too small for.
    ///
    /// # Errors
    /// A token outside of the vocabulary, or a position past the last one.
    fn check(&self, batch: &Batch) -> Result<()>;

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
    match spec {
        spec::Model::Glm(glm) => Ok(Box::new(Glm::new(GlmConfig::new(glm, vocabulary), builder)?)),
    }
}

/// Makes the parameters of the model that a `config.json` describes, and names the prefixes that tensors of its
/// checkpoints may have.
///
/// # Errors
/// Families that aren't known, settings that aren't supported.
pub(super) fn from_config(config: &Value, builder: &mut Builder) -> Result<Box<dyn Family>> {
    let model_type = config.get("model_type").and_then(Value::as_str).context("no model_type")?;
    match model_type {
        // Hugging Face's own GLM has the same name and other keys.
        "glm" if config.get("block_position_encoding").is_some() => {
            let config = serde_json::from_value(config.clone())?;
            Ok(Box::new(Glm::new(config, builder)?))
        }
        other => bail!("model_type {other} isn't supported; glm with block_position_encoding is"),
    }
}
