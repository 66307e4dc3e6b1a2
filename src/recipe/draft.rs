//! A stage while its recipe is checked.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Kind, shape::Slot};
use crate::spec::Stage;

/// A stage as far as it can be understood.
pub struct Draft {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static dyn Kind,
    /// Its spec without the tag of its kind, and the slot of that.
    pub(super) spec: Json,
    pub(super) slot: &'static Slot,
    /// None if its types are wrong.
    pub(super) stage: Option<Stage>,
}

impl Draft {
    /// The pointer of the stage's settings, or of something in them such as `train.lr`.
    pub fn pointer(&self, field: &str) -> String {
        let dot = if field.is_empty() { "" } else { "." };
        format!("stages.{}.{}{dot}{field}", self.name, self.kind.name())
    }

    /// The settings with defaults filled in; none if their types are wrong.
    pub fn settings(&self) -> Option<&Json> {
        self.stage.as_ref().map(|stage| &stage.settings)
    }

    /// The same as their type has them; none for a stage of another kind, too.
    pub fn settings_as<T: DeserializeOwned>(&self) -> Option<T> {
        self.stage.as_ref()?.settings_as().ok()
    }
}
