//! The families of models, one in each file, and the registry of them.

pub mod bert;
pub mod chatglm;
pub mod chatglm2;
pub mod glm;
pub mod glm4;
pub mod gpt2;
pub mod sizes;
pub mod transformer;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::family::Family;
use crate::{spec, support::Registry};

/// All families. To add one, write its file and add its line here; other programs
/// [register](crate::support::Registry::register) theirs.
pub static FAMILIES: Registry<Family> = Registry::new(&[
    &glm::FAMILY,
    &bert::FAMILY,
    &gpt2::FAMILY,
    &chatglm::FAMILY,
    &chatglm2::FAMILY,
    &glm4::FAMILY,
    &transformer::FAMILY,
]);

/// The family of a recipe's model.
///
/// # Errors
/// Names that no family has.
pub fn of_spec(model: &spec::Model) -> Result<&'static Family> {
    FAMILIES.named(&model.family).with_context(|| {
        let names: Vec<_> = FAMILIES.all().into_iter().map(|family| family.name).collect();
        format!("there is no family of models called `{}`; one of {}", model.family, names.join(", "))
    })
}

/// The family of a `config.json`.
///
/// # Errors
/// Families that aren't known.
pub fn of_config(config: &Value) -> Result<&'static Family> {
    let model_type = config.get("model_type").and_then(Value::as_str).context("no model_type")?;
    let mut families = FAMILIES.all();
    families.retain(|family| family.config.model_types.contains(&model_type));
    let has_key = |family: &&&Family| family.config.keys.iter().any(|&key| config.get(key).is_some());
    let rest = |family: &&&Family| family.config.keys.is_empty();
    match families.iter().find(has_key).or_else(|| families.iter().find(rest)) {
        Some(family) => Ok(family),
        None => bail!("model_type {model_type} isn't supported; {} are", model_types()),
    }
}

/// The values of `model_type` that are supported, for messages.
pub fn model_types() -> String {
    let mut types: Vec<_> = FAMILIES.all().iter().flat_map(|family| family.config.model_types).copied().collect();
    types.sort_unstable();
    types.dedup();
    match types.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => types.concat(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn families_that_share_a_model_type_are_told_apart_by_their_keys() {
        let name = |config: Value| of_config(&config).map(|family| family.name);
        assert_eq!(name(json!({ "model_type": "glm", "max_sequence_length": 16 })).unwrap(), "glm");
        assert_eq!(name(json!({ "model_type": "glm", "num_hidden_layers": 2 })).unwrap(), "glm4");
        assert_eq!(name(json!({ "model_type": "chatglm", "position_encoding_2d": true })).unwrap(), "chatglm");
        assert_eq!(name(json!({ "model_type": "chatglm" })).unwrap(), "chatglm2");
        assert_eq!(name(json!({ "model_type": "marian" })).unwrap(), "transformer");
        let error = name(json!({ "model_type": "llama" })).unwrap_err().to_string();
        assert_eq!(error, "model_type llama isn't supported; bert, chatglm, glm, glm4, gpt2 and marian are");
    }

    #[test]
    fn tiny_settings_are_complete_and_fit() {
        for family in FAMILIES.all() {
            let tiny = family.tiny().unwrap();
            assert_eq!(family.complete(&tiny).unwrap(), tiny, "{}", family.name);
            family.attention_sizes(&tiny).unwrap().check().unwrap();
        }
    }
}
