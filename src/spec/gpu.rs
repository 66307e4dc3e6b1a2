//! What GPU backends do to be faster, and a recipe's `gpu` keeps them from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What GPU backends do of themselves. Nothing but rounding depends on it, as long as they do it right.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpu {
    /// Whether burn joins operations that follow each other into one kernel
    pub fusion: bool,
    /// Whether each shape of a matrix product is timed with several kernels, and computed by the fastest from then on
    pub autotune: bool,
}

impl Default for Gpu {
    fn default() -> Self {
        Self { fusion: true, autotune: true }
    }
}

impl Gpu {
    /// What both of them do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { fusion: self.fusion && other.fusion, autotune: self.autotune && other.autotune }
    }
}
