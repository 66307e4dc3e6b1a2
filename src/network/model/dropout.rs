//! How often activations are dropped while a model is trained, place by place: as one number in recipes, and as a
//! `config.json` has it, whose families name the places apart.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The probability that an activation is dropped, by its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutRates {
    /// Sums of embeddings.
    pub embedding: f32,
    /// Probabilities of attention.
    pub attention: f32,
    /// What a branch adds to the residual stream.
    pub hidden: f32,
    /// What a classification head reads.
    pub classifier: f32,
}

/// The keys of a config for embeddings, attention and branches, each with what it means where it's missing.
pub type DropoutKeys = [(&'static str, f64); 3];

impl From<f32> for DropoutRates {
    fn from(everywhere: f32) -> Self {
        Self { embedding: everywhere, attention: everywhere, hidden: everywhere, classifier: everywhere }
    }
}

impl DropoutRates {
    /// No dropout at all.
    pub const NONE: Self = Self { embedding: 0.0, attention: 0.0, hidden: 0.0, classifier: 0.0 };

    /// As a config has them; a head has those of branches, unless there is a `classifier_dropout`.
    ///
    /// # Errors
    /// Values that are no probabilities.
    pub fn of(config: &Value, keys: &DropoutKeys) -> Result<Self> {
        let rate = |key: &str, default: f64| -> Result<f32> {
            let Some(value) = config.get(key).filter(|value| !value.is_null()) else { return Ok(default as f32) };
            let rate = value.as_f64().with_context(|| format!("{key} {value} is no number"))?;
            ensure!((0.0..1.0).contains(&rate), "{key} {value} is no probability below 1");
            Ok(rate as f32)
        };
        let [embedding, attention, hidden] = keys;
        let hidden = rate(hidden.0, hidden.1)?;
        Ok(Self {
            embedding: rate(embedding.0, embedding.1)?,
            attention: rate(attention.0, attention.1)?,
            hidden,
            classifier: rate("classifier_dropout", f64::from(hidden))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEYS: DropoutKeys = [("embd_pdrop", 0.1), ("attn_pdrop", 0.1), ("resid_pdrop", 0.1)];

    #[test]
    fn each_place_has_its_own_key() {
        let rates =
            DropoutRates::of(&json!({ "attn_pdrop": 0, "resid_pdrop": 0.25, "embd_pdrop": null }), &KEYS).unwrap();
        assert_eq!(rates, DropoutRates { embedding: 0.1, attention: 0.0, hidden: 0.25, classifier: 0.25 });
        let own = DropoutRates::of(&json!({ "classifier_dropout": 0.5 }), &KEYS).unwrap();
        assert_eq!(own, DropoutRates { classifier: 0.5, ..DropoutRates::from(0.1) });
        let error = DropoutRates::of(&json!({ "attn_pdrop": 1.0 }), &KEYS).unwrap_err().to_string();
        assert_eq!(error, "attn_pdrop 1.0 is no probability below 1");
    }
}
