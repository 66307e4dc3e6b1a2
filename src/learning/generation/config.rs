//! Generation defaults of a checkpoint, from `generation_config.json` and `config.json`.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::Deserialize;

use super::Sampling;

/// A checkpoint's defaults for generation.
#[derive(Clone, Debug, Default)]
pub struct GenerationDefaults {
    /// How tokens are chosen, if they say so.
    pub sampling: Option<Sampling>,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
}

/// The keys that matter, of either file.
#[derive(Debug, Default, Deserialize)]
struct Keys {
    #[serde(default)]
    eos_token_id: Option<OneOrMany>,
    #[serde(default)]
    do_sample: Option<bool>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_k: Option<usize>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    repetition_penalty: Option<f64>,
}

/// One token or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Several(Vec<u32>),
}

impl GenerationDefaults {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// If one of them has something else where such a setting belongs.
    pub fn read(dir: &Path) -> Result<Self> {
        let (generation, model) = (keys(&dir.join("generation_config.json"))?, keys(&dir.join("config.json"))?);
        let ends = generation.as_ref().and_then(|keys| keys.eos_token_id.as_ref());
        let ends = ends.or(model.as_ref().and_then(|keys| keys.eos_token_id.as_ref()));
        let ends = match ends {
            Some(OneOrMany::One(id)) => vec![*id],
            Some(OneOrMany::Several(ids)) => ids.clone(),
            None => Vec::new(),
        };
        Ok(Self { sampling: generation.map(|keys| keys.sampling()), ends })
    }
}

impl Keys {
    /// What is not said is as in Hugging Face's `generate`, which takes the likeliest token unless told to sample.
    fn sampling(&self) -> Sampling {
        let repetition_penalty = self.repetition_penalty.unwrap_or(1.0);
        if !self.do_sample.unwrap_or(false) {
            return Sampling { repetition_penalty, ..Sampling::GREEDY };
        }
        Sampling {
            repetition_penalty,
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(50),
            top_p: self.top_p.unwrap_or(1.0),
        }
    }
}

fn keys(path: &Path) -> Result<Option<Keys>> {
    if !path.exists() {
        return Ok(None);
    }
    let keys = serde_json::from_slice(&fs::read(path)?);
    Ok(Some(keys.with_context(|| format!("{}: a setting for generation can't be read", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(generation: Option<&str>, model: &str) -> GenerationDefaults {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), model).unwrap();
        if let Some(generation) = generation {
            std::fs::write(dir.path().join("generation_config.json"), generation).unwrap();
        }
        GenerationDefaults::read(dir.path()).unwrap()
    }

    #[test]
    fn ends_are_one_token_several_or_none() {
        assert_eq!(read(None, r#"{"eos_token_id": 5}"#).ends, [5]);
        assert_eq!(read(Some(r#"{"eos_token_id": [7, 8]}"#), r#"{"eos_token_id": 5}"#).ends, [7, 8]);
        assert_eq!(read(Some("{}"), r#"{"eos_token_id": 5}"#).ends, [5]);
        assert_eq!(read(None, r#"{"eos_token_id": null}"#).ends, [0; 0]);
    }

    #[test]
    fn sampling_is_greedy_unless_asked_for() {
        assert_eq!(read(None, r#"{"temperature": 0.5}"#).sampling, None);
        let greedy = read(Some(r#"{"temperature": 0.5, "repetition_penalty": 1.1}"#), "{}").sampling;
        assert_eq!(greedy, Some(Sampling { repetition_penalty: 1.1, ..Sampling::GREEDY }));
        let sampled = read(Some(r#"{"do_sample": true, "top_p": 0.8}"#), "{}").sampling;
        assert_eq!(sampled, Some(Sampling { repetition_penalty: 1.0, temperature: 1.0, top_k: 50, top_p: 0.8 }));
    }
}
