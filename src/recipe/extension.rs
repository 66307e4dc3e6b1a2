//! What stands in an open place of the language: a name with settings of its own.

use anyhow::Result;
use schemars::{Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use crate::support::Named;

/// Something that recipes name in an open place, with settings of its own: `{ name: settings }`.
///
/// One type with serde and schemars derived, `#[serde(deny_unknown_fields)]` and defaults usually says all of it:
///
/// ```ignore
/// fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
///     generator.subschema_for::<Sizes>()
/// }
///
/// fn normalize(&self, settings: Json) -> Result<Json> {
///     recipe::normalized::<Sizes>(settings)
/// }
/// ```
///
/// Annotations of [`spec`](crate::spec), such as `x-role`, mean the same in it as anywhere. Whatever stands in a checked
/// recipe went through `normalize`, so reading it into that type again can't fail.
pub trait Extension: Named + Sync {
    /// What it is, in half a sentence: its description in the schema.
    fn about(&self) -> &'static str;

    /// The schema of its settings. Types that it refers to are added to the generator's definitions.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;

    /// The settings with all defaults filled in. They enter the stage's key but for those that equal the schema's default.
    ///
    /// # Errors
    /// If these aren't its settings.
    fn normalize(&self, settings: Json) -> Result<Json>;
}

/// Settings as their type says, with defaults filled in: what most extensions do in [`Extension::normalize`].
///
/// # Errors
/// If they don't fit the type.
pub fn normalized<T: DeserializeOwned + Serialize>(settings: Json) -> Result<Json> {
    Ok(serde_json::to_value(serde_json::from_value::<T>(settings)?)?)
}
