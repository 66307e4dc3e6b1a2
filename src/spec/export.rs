//! The `export` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Origin;

/// Makes a model ready for others: weights as safetensors, config.json and tokenizer. `pipe export` copies it out of the
/// store.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The model: of a stage, or of a checkpoint
    pub model: Origin,
    /// The type of the weights
    #[serde(default)]
    pub dtype: Dtype,
    /// Weights that take more than this are split into several files: a number with MB or GB
    #[serde(default = "five_gigabytes")]
    pub max_shard_size: String,
}

/// The type of stored weights.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// As it is: f32 after training, or what was imported
    #[default]
    Stored,
    /// 32 bits
    F32,
    /// 16 bits with small exponents
    F16,
    /// 16 bits with the exponents of f32
    Bf16,
}

fn five_gigabytes() -> String {
    "5GB".into()
}

impl Export {
    /// [`Self::max_shard_size`] in bytes; `None` if it's no size.
    pub fn max_shard_bytes(&self) -> Option<u64> {
        let units = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
        let text = self.max_shard_size.trim();
        let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
        let bytes = number.trim().parse::<u64>().ok()?.checked_mul(unit)?;
        (bytes > 0).then_some(bytes)
    }
}
