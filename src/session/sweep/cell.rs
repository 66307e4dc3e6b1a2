//! One trial of a sweep: the settings that it changes.

use indexmap::IndexMap;
use serde_json::Value;

use crate::recipe::Setting;

/// Settings by dotted path.
pub(super) type Settings = IndexMap<String, Setting>;

/// One combination of the swept settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its number, from 1, in the order of the recipe.
    pub number: usize,
    /// What it shares with the cells that have other seeds and otherwise the same settings, counted from 0.
    pub group: usize,
    /// All its settings, the seed of a repeat among them, by dotted path.
    pub settings: IndexMap<String, Setting>,
    /// The seed, where the sweep repeats each cell.
    pub seed: Option<u64>,
}

impl Cell {
    /// Settings and values.
    pub fn values(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.settings.iter().map(|(path, setting)| (path, &setting.value))
    }
}
