//! Kinds of stages, as far as the language has to know them.

use serde_json::Value as Json;

use super::Extension;
use crate::spec::{DevMetric, Product, Train};

/// A kind of stage: its name and settings, and what stages refer to it for; its [`KindRules`](super::KindRules) say the
/// rest. What it does when it runs is nothing to the language.
pub trait Kind: Extension {
    /// What a stage of this kind leaves for others. Fields with the role `stage:PRODUCT` may name stages that make it.
    fn products(&self) -> &'static [Product];

    /// How a stage measures itself while it trains, if it does; so sweeps can stop it early. None also for settings of
    /// another kind.
    fn dev_metrics(&self, settings: &Json) -> Option<DevMetrics>;
}

/// How a stage measures itself while it trains.
#[derive(Clone, Debug)]
pub struct DevMetrics {
    /// The metrics on its dev rows.
    pub names: &'static [DevMetric],
    /// The one to go by where nobody says.
    pub preferred: DevMetric,
    /// Whether it has dev rows.
    pub has_rows: bool,
    /// The section of its settings that names them.
    pub section: &'static str,
    /// How it trains.
    pub train: Train,
}
