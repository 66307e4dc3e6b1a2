//! An open place of the language: where a recipe names one of several things that `spec` doesn't know.

use schemars::Schema;
use serde_json::{Value as Json, json};

use super::{Extension, shape::OPEN};

/// An open place of the language, and what may stand there.
pub struct OpenPlace {
    pub(super) definition: &'static str,
    pub(super) form: Form,
    pub(super) entries: Vec<&'static dyn Extension>,
}

/// How entries stand in an open place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// The place holds one of them, as a mapping with its name for the only key.
    OneOf,
    /// The place is a mapping with keys of its own, and each entry is an optional key beside these.
    AnyOf,
}

impl OpenPlace {
    /// A place that holds one of these, such as `model: { gpt2: { … } }`. `definition` is the schema's name of the place's
    /// type, which `spec` leaves empty.
    pub fn one_of(definition: &'static str, entries: Vec<&'static dyn Extension>) -> Self {
        Self { definition, form: Form::OneOf, entries }
    }

    /// A mapping that may have any of these beside keys of its own, such as `{ weight: 1, masked_lm: { … } }`. Those that
    /// aren't there are null once a recipe is checked, as optional fields are.
    pub fn any_of(definition: &'static str, entries: Vec<&'static dyn Extension>) -> Self {
        Self { definition, form: Form::AnyOf, entries }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&'static dyn Extension> {
        self.entries.iter().copied().find(|entry| entry.name() == name)
    }

    /// Puts the entries into the place's definition.
    pub(super) fn fill(&self, definition: &mut Json, schemas: Vec<Schema>) {
        definition[OPEN] = json!(self.definition);
        for (entry, settings) in self.entries.iter().zip(schemas) {
            let (name, about) = (entry.name(), entry.about());
            match self.form {
                Form::OneOf => {
                    let variant = json!({
                        "description": about,
                        "type": "object",
                        "properties": { name: settings },
                        "required": [name],
                        "additionalProperties": false,
                    });
                    match &mut definition["oneOf"] {
                        Json::Array(variants) => variants.push(variant),
                        none => *none = json!([variant]),
                    }
                }
                Form::AnyOf => {
                    let option =
                        json!({ "anyOf": [settings, { "type": "null" }], "default": null, "description": about });
                    definition["properties"][name] = option;
                }
            }
        }
    }
}
