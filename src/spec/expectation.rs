//! What a recipe expects of the metrics of its stages.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By the name of a metric what it has to be.
pub type Expectations = IndexMap<String, Expectation>;

/// What a metric has to be; all that is said of it holds at once.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// At least this
    #[serde(default)]
    pub at_least: Option<f64>,
    /// At most this
    #[serde(default)]
    pub at_most: Option<f64>,
    /// At least as much as this metric of the same stage, such as a baseline's
    #[serde(default)]
    pub at_least_of: Option<String>,
    /// At most as much as this metric of the same stage
    #[serde(default)]
    pub at_most_of: Option<String>,
    /// At most so much below what it is in the base that `pipe ci` compares with
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub drop_at_most: Option<f64>,
    /// At most so much above what it is in the base that `pipe ci` compares with, for metrics that get better downwards
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub rise_at_most: Option<f64>,
}

/// One thing that is expected of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At least this metric.
    AtLeastOf(String),
    /// At most this metric.
    AtMostOf(String),
    /// At most so much less than in the base.
    DropAtMost(f64),
    /// At most so much more than in the base.
    RiseAtMost(f64),
}

impl Bound {
    /// Its key in recipes.
    pub fn key(&self) -> &'static str {
        match self {
            Self::AtLeast(_) => "at_least",
            Self::AtMost(_) => "at_most",
            Self::AtLeastOf(_) => "at_least_of",
            Self::AtMostOf(_) => "at_most_of",
            Self::DropAtMost(_) => "drop_at_most",
            Self::RiseAtMost(_) => "rise_at_most",
        }
    }

    /// Its value in recipes.
    pub fn value(&self) -> String {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) | Self::DropAtMost(number) | Self::RiseAtMost(number) => {
                number.to_string()
            }
            Self::AtLeastOf(metric) | Self::AtMostOf(metric) => metric.clone(),
        }
    }
}

impl Expectation {
    /// All that is said, in the order of the declarations.
    pub fn bounds(&self) -> Vec<Bound> {
        [
            self.at_least.map(Bound::AtLeast),
            self.at_most.map(Bound::AtMost),
            self.at_least_of.clone().map(Bound::AtLeastOf),
            self.at_most_of.clone().map(Bound::AtMostOf),
            self.drop_at_most.map(Bound::DropAtMost),
            self.rise_at_most.map(Bound::RiseAtMost),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
