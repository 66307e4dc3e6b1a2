//! One trial of a sweep: the settings that it changes.

use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    recipe::{Checked, Setting},
    spec::{Range, Values},
};

/// Settings by dotted path.
pub(super) type Settings = IndexMap<String, Setting>;

/// A value that was drawn from those at a pointer of the recipe.
pub(super) fn drawn_setting(checked: &Checked, pointer: &str, values: &Values, value: Value) -> Setting {
    let (choices, section) = match values {
        Values::List(choices) => (choices.as_slice(), ""),
        Values::Range(Range { choice: Some(choices), .. }) => (choices.as_slice(), ".choice"),
        Values::Range(_) => (&[][..], ""),
    };
    let at = choices.iter().position(|choice| *choice == value);
    let written = at.and_then(|at| checked.written(&format!("{pointer}{section}.{at}")));
    Setting { value, written, place: checked.span(pointer) }
}

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
