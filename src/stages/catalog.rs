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
    recipe::{Catalog, Extension, Kind, OpenPlace},
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
    let kinds = KINDS.all().into_iter().map(|kind| kind as &'static dyn Kind);
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
