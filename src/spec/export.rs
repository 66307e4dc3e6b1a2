//! The `export` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expectations, Origin, WeightForm};

/// Exports a model: weights as safetensors, config.json and tokenizer. `pipe export` copies it out of the
/// store.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The model: of a stage, or of a checkpoint
    pub model: Origin,
    /// The dtype of the weights
    #[serde(default)]
    pub dtype: Dtype,
    /// What weights are rounded to, as this program reads them again to the bit: `int8` and `int4` are codes with scales
    /// beside them, which no other program knows
    #[serde(default)]
    pub weights: Option<WeightForm>,
    /// Weights that take more than this are split into several files: a number with MB or GB
    #[serde(default = "five_gigabytes")]
    #[schemars(with = "String")]
    pub max_shard_size: FileSize,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}

/// The dtype of stored weights.
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

/// The size of a file, as it's written and in bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "String", into = "String")]
pub struct FileSize {
    text: String,
    bytes: Option<u64>,
}

impl FileSize {
    /// In bytes; `None` if it isn't a whole number above 0 with a unit.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

impl From<String> for FileSize {
    fn from(text: String) -> Self {
        let units = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
        let read = |text: &str| {
            let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
            number.trim().parse::<u64>().ok()?.checked_mul(unit)
        };
        let bytes = read(text.trim()).filter(|bytes| *bytes > 0);
        Self { text, bytes }
    }
}

impl From<FileSize> for String {
    fn from(size: FileSize) -> Self {
        size.text
    }
}

fn five_gigabytes() -> FileSize {
    "5GB".to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        let bytes = |text: &str| FileSize::from(text.to_owned()).bytes();
        assert_eq!(
            [bytes("10KB"), bytes(" 500 MB "), bytes("5GB")],
            [Some(10_000), Some(500_000_000), Some(5_000_000_000)]
        );
        assert_eq!([bytes("5"), bytes("0GB"), bytes("1.5GB"), bytes("99999999999GB"), bytes("GB")], [None; 5]);
    }
}
