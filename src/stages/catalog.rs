//! What recipes may name, out of the registries.

use anyhow::Result;
use parking_lot::Mutex;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use super::{KINDS, check};
use crate::{
    learning::{
        objectives::{Definition, OBJECTIVES},
        train::{OPTIMIZERS, optimizers::OptimizerDef},
    },
    network::model::{FAMILIES, Family},
    recipe::{Catalog, Extension, KindRules, OpenPlace},
    spec::Section,
};

/// The catalog that recipes are read with: all that this program knows, and what has been registered beside it.
pub fn catalog() -> &'static Catalog {
    /// The one of so many registrations.
    static CATALOG: Mutex<Option<(usize, &'static Catalog)>> = Mutex::new(None);
    let registrations =
        KINDS.registrations() + FAMILIES.registrations() + OBJECTIVES.registrations() + OPTIMIZERS.registrations();
    let mut made = CATALOG.lock();
    match *made {
        Some((count, catalog)) if count == registrations => catalog,
        _ => {
            // What was read with the one before points into it, so it stays.
            let catalog: &'static Catalog = Box::leak(Box::new(new()));
            *made = Some((registrations, catalog));
            catalog
        }
    }
}

fn new() -> Catalog {
    let kinds = KINDS.all().into_iter().map(|kind| kind as &'static dyn KindRules);
    let families = FAMILIES.all().into_iter().map(|family| family as &'static dyn Extension);
    let optimizers = OPTIMIZERS.all().into_iter().map(|optimizer| optimizer as &'static dyn Extension);
    let places = vec![
        OpenPlace::one_of("Model", families.collect()),
        OpenPlace::any_of("Objective", objectives(Section::Entry)),
        OpenPlace::one_of("Generative", objectives(Section::Generative)),
        OpenPlace::one_of("Optimizer", optimizers.collect()),
    ];
    Catalog::new(kinds.collect(), places, check::checkpoint)
}

/// The objectives of a section of an entry.
fn objectives(section: Section) -> Vec<&'static dyn Extension> {
    let all = OBJECTIVES.all().into_iter().filter(|one| one.section == section);
    all.map(|one| one as &'static dyn Extension).collect()
}

impl Extension for Definition {
    fn about(&self) -> &'static str {
        self.about
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        self.schema(generator)
    }

    fn normalize(&self, settings: Value) -> Result<Value> {
        Ok(serde_json::to_value(self.complete(&serde_json::from_value(settings)?)?)?)
    }
}

impl Extension for Family {
    fn about(&self) -> &'static str {
        self.description
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        Self::schema(self, generator)
    }

    fn normalize(&self, settings: Value) -> Result<Value> {
        self.complete(&settings)
    }
}

impl Extension for OptimizerDef {
    fn about(&self) -> &'static str {
        Self::about(self)
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        Self::schema(self, generator)
    }

    fn normalize(&self, settings: Value) -> Result<Value> {
        self.complete(&settings)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{recipe::walk, spec::Stage, stages::Field};

    /// The fields below a schema that may hold anything.
    fn untyped(schema: &Value, pointer: &str, found: &mut BTreeSet<String>) {
        let typed = ["type", "$ref", "anyOf", "oneOf", "enum", "const"];
        if typed.iter().all(|key| schema.get(key).is_none()) {
            found.insert(pointer.to_owned());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            untyped(field, &format!("{pointer}.{name}"), found);
        }
        let branches = ["anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten();
        branches.for_each(|branch| untyped(branch, pointer, found));
        for key in ["items", "additionalProperties"] {
            if schema.get(key).is_some_and(|below| below != false) {
                untyped(&schema[key], &format!("{pointer}.*"), found);
            }
        }
    }

    #[test]
    fn every_field_but_vars_and_a_sweeps_values_has_a_type() {
        let schema = catalog().schema();
        let mut found = BTreeSet::new();
        untyped(schema, "Recipe", &mut found);
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            untyped(definition, name, &mut found);
        }
        let expected = ["Range.choice.*", "Recipe.vars.*", "Sweep.list.*.*", "Sweep.zip.*.*", "Values.*"];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    /// A value of all that a schema lets name files and stages, both lists' entries and variants among it.
    fn names(schema: &Value, definitions: &Value, pointer: &str, found: &mut BTreeSet<String>) {
        if let Some(reference) = schema["$ref"].as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
            names(&definitions[reference], definitions, pointer, found);
        }
        let role = schema["x-role"].as_str().unwrap_or_default();
        if ["path", "checkpoint", "tokenizer"].contains(&role) || role.starts_with("stage:") {
            found.insert(pointer.to_owned());
        }
        let below = |key: &str| if pointer.is_empty() { key.to_owned() } else { format!("{pointer}.{key}") };
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            names(field, definitions, &below(name), found);
        }
        for branch in ["anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten() {
            names(branch, definitions, pointer, found);
        }
        if schema.get("items").is_some() {
            names(&schema["items"], definitions, &below("*"), found);
        }
    }

    #[test]
    fn kinds_ask_for_all_fields_that_name_files_and_stages_and_for_no_others() {
        let catalog = catalog();
        let definitions = &catalog.schema()["$defs"];
        for kind in KINDS.all() {
            let variants = definitions["Stage"]["oneOf"].as_array().expect("kinds");
            let settings =
                variants.iter().find_map(|variant| variant["properties"].get(kind.name())).expect("a variant");
            let mut found = BTreeSet::new();
            names(settings, definitions, "", &mut found);
            let asked: BTreeSet<String> = kind.fields().iter().map(|field| field.0.to_owned()).collect();
            assert_eq!(asked, found, "{}", kind.name());
        }
    }

    #[test]
    fn fields_are_found_as_they_are_called() {
        let settings = serde_json::json!({
            "tokenizer": { "file": "tokenizer.json" },
            "corpus": [{ "path": "a.txt" }, { "path": "b.txt" }],
        });
        let stage = Stage { kind: "tokenize".into(), settings };
        let found: Vec<String> = walk::file_fields(catalog(), &stage).into_iter().map(|field| field.pointer).collect();
        assert_eq!(found, [Field("corpus.*.path").at(0), Field("corpus.*.path").at(1), "tokenizer.file".to_owned()]);
    }
}
