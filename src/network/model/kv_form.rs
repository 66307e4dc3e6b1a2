//! In how many bits a cache holds keys and values.

use burn::tensor::DType;

/// What a cache holds keys and values as.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KvForm {
    /// As they're computed.
    #[default]
    F32,
    /// In half the memory: f32 without the last 16 bits of its fraction.
    Bf16,
}

impl KvForm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    pub(super) const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}
