//! What recipes may name, out of the registries.

use std::sync::LazyLock;

use anyhow::Result;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::{
    learning::objectives::{Definition, OBJECTIVES, parts},
    network::model::{FAMILIES, Family},
    recipe::{Catalog, Extension, MixRules, OpenPlace},
    spec::Section,
};

/// The catalog that recipes are read with: all that this program knows, and what was registered beside it.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let families = FAMILIES.all().into_iter().map(|family| family as &dyn Extension);
        let places = vec![
            OpenPlace::one_of("Model", families.collect()),
            OpenPlace::any_of("Objective", objectives(Section::Entry)),
            OpenPlace::one_of("Generative", objectives(Section::Generative)),
        ];
        let rules = MixRules { check: parts::check, learnable: parts::learnable };
        Catalog::new(places).with_objectives(rules)
    });
    &CATALOG
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
