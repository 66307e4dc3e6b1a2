//! Classifiers that teach others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin::{BaselineName, ModelName};

/// Soft labels: beside its own label, a row is taught with the probabilities that other classifiers give the labels for it (Hinton
/// et al. 2015, arXiv 1503.02531). Of several teachers it's the mean of the logarithms. A teacher that has learned the same rows
/// knows their labels, which makes it a worse one than on others.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Stages whose classifiers teach, each reading the rows by its own template
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ModelName>")]
    pub models: Vec<String>,
    /// Linear stages that teach
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<BaselineName>")]
    pub baselines: Vec<String>,
    /// The teachers' share in what is learned; the rest is that of the rows' own labels
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight: f64,
    /// The logarithms of the teachers' probabilities are divided by this: above 1 they tell more of what is less likely
    #[serde(default = "one")]
    #[schemars(range(min = 0.1, max = 20.0))]
    pub temperature: f64,
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}
