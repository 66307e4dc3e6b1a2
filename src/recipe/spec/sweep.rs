//! The `sweep` section.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings to try in all combinations.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Values by dotted path, such as `stages.cls.train.lr: [1e-4, 3e-4]`
    #[schemars(extend("minProperties" = 1))]
    pub grid: IndexMap<String, Vec<serde_json::Value>>,
    /// The metric to maximize, such as `stages.test.metrics.macro_f1`; either this or `minimize`
    #[serde(default)]
    pub maximize: Option<String>,
    /// The metric to minimize
    #[serde(default)]
    pub minimize: Option<String>,
}
