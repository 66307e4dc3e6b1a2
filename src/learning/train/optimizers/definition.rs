//! The definition of an optimizer for recipes: name, settings, version, update rule.

use std::sync::Arc;

use anyhow::Result;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::rule::UpdateRule;
use crate::support::Named;

/// An optimizer's entry: its name in recipes, its settings, and how it's made of them.
#[derive(Debug)]
pub struct OptimizerDef {
    name: &'static str,
    about: &'static str,
    version: u32,
    schema: fn(&mut SchemaGenerator) -> Schema,
    complete: fn(&Value) -> Result<Value>,
    rule: fn(&Value) -> Result<Arc<dyn UpdateRule>>,
}

impl OptimizerDef {
    /// An optimizer of this name: the rule `R` out of settings `S`, whose fields say in their doc comments what they are.
    /// `about` is what the schema says of it. Raise the `version` whenever the same settings would give other weights.
    pub const fn new<S, R>(name: &'static str, about: &'static str, version: u32) -> Self
    where
        S: DeserializeOwned + JsonSchema + Serialize,
        R: UpdateRule + TryFrom<S, Error: Into<anyhow::Error>>,
    {
        Self {
            name,
            about,
            version,
            schema: SchemaGenerator::subschema_for::<S>,
            complete: complete::<S>,
            rule: rule::<S, R>,
        }
    }

    /// What it is, in half a sentence.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The version of its code.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The JSON Schema of its settings.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// The settings with all defaults filled in.
    ///
    /// # Errors
    /// Settings that aren't its own.
    pub fn complete(&self, settings: &Value) -> Result<Value> {
        (self.complete)(settings)
    }

    /// The optimizer with these settings.
    ///
    /// # Errors
    /// Settings that aren't its own, or don't go together.
    pub fn rule(&self, settings: &Value) -> Result<Arc<dyn UpdateRule>> {
        (self.rule)(settings)
    }
}

impl Named for OptimizerDef {
    fn name(&self) -> &'static str {
        self.name
    }
}

fn complete<S: DeserializeOwned + Serialize>(settings: &Value) -> Result<Value> {
    Ok(serde_json::to_value(S::deserialize(settings)?)?)
}

fn rule<S, R>(settings: &Value) -> Result<Arc<dyn UpdateRule>>
where
    S: DeserializeOwned,
    R: UpdateRule + TryFrom<S, Error: Into<anyhow::Error>>,
{
    Ok(Arc::new(R::try_from(S::deserialize(settings)?).map_err(Into::into)?))
}
