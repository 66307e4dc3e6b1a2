//! What recipes may name, out of the registries.

use std::sync::LazyLock;

use anyhow::Result;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::{
    network::model::{FAMILIES, Family},
    recipe::{Catalog, Extension, OpenPlace},
};

/// The catalog that recipes are read with: all that this program knows, and what was registered beside it.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let families = FAMILIES.all().into_iter().map(|family| family as &dyn Extension);
        Catalog::new(vec![OpenPlace::one_of("Model", families.collect())])
    });
    &CATALOG
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
