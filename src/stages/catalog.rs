//! What recipes may name, out of the registries.

use std::sync::LazyLock;

use anyhow::Result;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::{
    learning::train::{OPTIMIZERS, optimizers::OptimizerDef},
    recipe::{Catalog, Extension, OpenPlace},
};

/// The catalog that recipes are read with: all that this program knows, and what was registered beside it.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let optimizers = OPTIMIZERS.all().into_iter().map(|def| def as &'static dyn Extension);
        Catalog::new(vec![OpenPlace::one_of("Optimizer", optimizers.collect())])
    });
    &CATALOG
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
