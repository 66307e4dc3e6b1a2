//! Kinds of stages, as far as the language has to know them.

use serde_json::Value as Json;

use super::{Checks, Draft, Extension};
use crate::spec::{DevMetric, Product, Train};

/// A kind of stage: its name and settings, what stages refer to it for, and the rules that its settings' types can't
/// say. What it does when it runs is nothing to the language.
pub trait Kind: Extension {
    /// What a stage of this kind leaves for others. Fields with the role `stage:PRODUCT` may name stages that make it.
    fn products(&self) -> &'static [Product];

    /// Holds a stage against rules between its fields, other stages and its data. Whatever has a type, a range, a file or
    /// a reference of its own in the schema has been checked before.
    fn check(&self, stage: &Draft, checks: &mut Checks<'_>);

    /// How a stage measures itself while it trains, if it does; so sweeps can stop it early. None also for settings of
    /// another kind.
    fn dev_metrics(&self, settings: &Json) -> Option<DevMetrics>;

    /// The numbers that are recorded of a stage, those first that say how good it is; so that a sweep can't look for one that
    /// there will never be. None where that isn't known before it has run.
    fn metrics(&self, _stage: &Draft, _checks: &Checks<'_>) -> Option<Vec<String>> {
        None
    }
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
