//! Rotary positions as a `config.json` tells of them, in each of the forms that Hugging Face's library has had: keys of their
//! own, `rope_scaling` for what is unlike the usual, and `rope_parameters` for all.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// What a config says of rotary positions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RopeSettings {
    /// What the angles fall off by.
    pub theta: Option<f64>,
    /// The share of each head that is rotated.
    pub partial_rotary_factor: Option<f64>,
}

const THETA: &str = "rope_theta";
const SHARE: &str = "partial_rotary_factor";

impl RopeSettings {
    /// Of a config, as `RotaryEmbeddingConfigMixin.convert_rope_params_to_dict` of transformers 5 has it: `rope_scaling` goes
    /// before `rope_parameters`, and either before the keys beside them.
    ///
    /// # Errors
    /// Another kind than the usual one, by its name; values that are no numbers.
    pub fn of(config: &Map<String, Value>) -> Result<Self> {
        let given = |name: &'static str| Some((name, config.get(name)?.as_object().filter(|all| !all.is_empty())?));
        for name in ["rope_scaling", "rope_parameters"] {
            let value = config.get(name).unwrap_or(&Value::Null);
            ensure!(value.is_null() || value.is_object(), "{name} {value} isn't supported");
        }
        let (name, parameters) = given("rope_scaling").or_else(|| given("rope_parameters")).unzip();
        if let (Some(name), Some(parameters)) = (name, parameters) {
            let kind = ["rope_type", "type"].iter().find_map(|key| parameters.get(*key).filter(|kind| !kind.is_null()));
            let plain = || parameters.keys().all(|key| key == THETA || key == SHARE);
            match kind {
                Some(kind) => ensure!(kind == "default", "the rope_type {kind} in {name} isn't supported"),
                None => ensure!(plain(), "{name} {} isn't supported", Value::Object(parameters.clone())),
            }
        }
        let number = |key: &str| -> Result<Option<f64>> {
            let value = parameters.and_then(|all| all.get(key)).filter(|value| !value.is_null());
            let Some(value) = value.or_else(|| config.get(key).filter(|value| !value.is_null())) else {
                return Ok(None);
            };
            value.as_f64().with_context(|| format!("{key} {value} is no number")).map(Some)
        };
        Ok(Self { theta: number(THETA)?, partial_rotary_factor: number(SHARE)? })
    }

    /// Makes sure that nothing is said but what a family has in any case.
    ///
    /// # Errors
    /// Anything else.
    pub fn check(&self, theta: f64, partial_rotary_factor: f64) -> Result<()> {
        let said = [(THETA, self.theta, theta), (SHARE, self.partial_rotary_factor, partial_rotary_factor)];
        for (key, said, own) in said {
            let said = said.unwrap_or(own);
            ensure!(
                said == own,
                "{key} {said} isn't supported: the original's code has {own}, whatever the config says"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: Value) -> Result<RopeSettings> {
        RopeSettings::of(config.as_object().unwrap())
    }

    fn settings(theta: f64, share: f64) -> RopeSettings {
        RopeSettings { theta: Some(theta), partial_rotary_factor: Some(share) }
    }

    // As `Glm4Config(**config).rope_parameters` of transformers 5.23 has them.
    #[test]
    fn every_form_is_read() {
        let beside = json!({ "rope_theta": 5e3, "partial_rotary_factor": 0.25 });
        assert_eq!(of(beside.clone()).unwrap(), settings(5e3, 0.25));
        let with = |key: &str, value: Value| {
            let mut config = beside.clone();
            config[key] = value;
            of(config)
        };
        let theta = json!({ "rope_theta": 7e4, "rope_type": "default" });
        assert_eq!(with("rope_parameters", theta.clone()).unwrap(), settings(7e4, 0.25));
        assert_eq!(with("rope_scaling", theta).unwrap(), settings(7e4, 0.25));
        assert_eq!(with("rope_parameters", Value::Null).unwrap(), settings(5e3, 0.25));
        assert_eq!(with("rope_scaling", json!({ "type": "default" })).unwrap(), settings(5e3, 0.25));
        let both = json!({ "rope_parameters": { "rope_theta": 1e5, "partial_rotary_factor": 1.0 }, "rope_scaling": {
            "type": "default", "rope_type": "default", "partial_rotary_factor": 0.5,
        } });
        assert_eq!(of(both).unwrap(), RopeSettings { theta: None, partial_rotary_factor: Some(0.5) });
        assert_eq!(of(json!({})).unwrap(), RopeSettings::default());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let told = |config: Value| of(config).unwrap_err().to_string();
        for key in ["rope_type", "type"] {
            for name in ["rope_scaling", "rope_parameters"] {
                let error = told(json!({ name: { key: "spiral", "factor": 2.0 } }));
                assert_eq!(error, format!("the rope_type \"spiral\" in {name} isn't supported"));
            }
        }
        assert_eq!(
            told(json!({ "rope_scaling": { "factor": 2.0 } })),
            r#"rope_scaling {"factor":2.0} isn't supported"#
        );
        assert_eq!(told(json!({ "rope_theta": "much" })), r#"rope_theta "much" is no number"#);
    }
}
