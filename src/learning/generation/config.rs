//! What a checkpoint says of how it writes: `generation_config.json`, and where it lacks that or says no end, `config.json`.
//! Names and defaults are those of `GenerationConfig` in transformers 5.23; what isn't followed is named.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Beams, EarlyStopping, GenerationSettings, Rules, Sampling};

/// The file with the settings.
const FILE: &str = "generation_config.json";

/// A checkpoint's defaults for generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// How tokens are chosen, if it says so.
    pub sampling: Option<Sampling>,
    /// Which may be chosen.
    pub rules: Rules,
    /// How many texts are followed at a time.
    pub beams: Beams,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// The most new tokens.
    pub max_new_tokens: Option<usize>,
    /// The most tokens of a text with its prompt.
    pub max_length: Option<usize>,
    /// The fewest new tokens.
    pub min_new_tokens: Option<usize>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Settings that decide what is written and that aren't followed.
    pub ignored: Vec<&'static str>,
}

/// Settings of transformers that change what is written and aren't followed here, with the values that change nothing.
fn unfollowed() -> [(&'static str, Vec<Value>); 11] {
    [
        ("guidance_scale", vec![json!(1), json!(1.0)]),
        ("watermarking_config", vec![]),
        ("token_healing", vec![json!(false)]),
        ("max_time", vec![]),
        ("penalty_alpha", vec![json!(0), json!(0.0)]),
        ("dola_layers", vec![]),
        ("num_beam_groups", vec![json!(1)]),
        ("diversity_penalty", vec![json!(0), json!(0.0)]),
        ("constraints", vec![]),
        ("force_words_ids", vec![]),
        ("forced_decoder_ids", vec![]),
    ]
}

impl GenerationDefaults {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// If one of them has something else where such a setting belongs, or settings that mean nothing.
    pub fn read(dir: &Path) -> Result<Self> {
        let model_path = dir.join("config.json");
        let model = keys(&model_path)?.unwrap_or_default();
        let path = dir.join(FILE);
        match keys(&path)? {
            Some(keys) => keys.defaults(&model).with_context(|| wrong(&path)),
            // Older checkpoints have the settings among the model's.
            None => {
                let mut defaults = model.defaults(&model).with_context(|| wrong(&model_path))?;
                if !["do_sample", "num_beams"].iter().any(|name| model.is_set(name)) {
                    defaults.sampling = None;
                }
                Ok(defaults)
            }
        }
    }

    /// As settings, with so many new tokens where the checkpoint doesn't say how many.
    pub fn settings(&self, seed: u64, usual: usize) -> GenerationSettings {
        // A greatest length is one of its own, with which no number of new tokens goes.
        let usual = if self.max_length.is_some() { usize::MAX } else { usual };
        GenerationSettings {
            sampling: self.sampling.unwrap_or_default(),
            rules: self.rules.clone(),
            beams: self.beams,
            seed,
            max_tokens: self.max_new_tokens.unwrap_or(usual),
            max_length: self.max_length,
            min_tokens: self.min_new_tokens.unwrap_or_default(),
            stop: self.stop.clone(),
        }
    }
}

fn wrong(path: &Path) -> String {
    format!("{}: a setting for generation can't be read", path.display())
}

/// The settings of either file.
#[derive(Default)]
struct Keys(Map<String, Value>);

fn keys(path: &Path) -> Result<Option<Keys>> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Keys(serde_json::from_slice(&fs::read(path)?).with_context(|| wrong(path))?)))
}

impl Keys {
    /// A setting, if it's set.
    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let read = serde_json::from_value(value.clone());
                read.map(Some).with_context(|| format!("`{name}` is {value}"))
            }
        }
    }

    fn or<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// One item, or a list of them.
    fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Vec<T>>> {
        match self.0.get(name) {
            Some(Value::Array(_)) => self.get(name),
            _ => Ok(self.get(name)?.map(|one| vec![one])),
        }
    }

    fn ends(&self) -> Result<Option<Vec<u32>>> {
        self.list("eos_token_id")
    }

    fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    fn defaults(&self, model: &Self) -> Result<GenerationDefaults> {
        let (sampling, beams) = (self.sampling()?, self.beams()?);
        sampling.check()?;
        beams.check(sampling.draws())?;
        let ends = match self.ends()? {
            Some(ends) => ends,
            None => model.ends()?.unwrap_or_default(),
        };
        let max_new_tokens = self.get("max_new_tokens")?;
        Ok(GenerationDefaults {
            sampling: Some(sampling),
            rules: self.rules()?,
            beams,
            ends,
            max_new_tokens,
            max_length: self.get("max_length")?.filter(|_| max_new_tokens.is_none()),
            min_new_tokens: self.get("min_new_tokens")?,
            stop: self.list("stop_strings")?.unwrap_or_default(),
            ignored: self.ignored(model),
        })
    }

    /// What is not said is as in `generate`, which takes the likeliest token unless told to sample.
    fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.or("temperature", 1.0)?,
            top_h: self.get("top_h")?,
            top_k: self.or("top_k", 50)?,
            top_p: self.or("top_p", 1.0)?,
            min_p: self.or("min_p", 0.0)?,
            typical_p: self.or("typical_p", 1.0)?,
            epsilon_cutoff: self.or("epsilon_cutoff", 0.0)?,
            eta_cutoff: self.or("eta_cutoff", 0.0)?,
        };
        Ok(if self.or("do_sample", false)? { sampling } else { Sampling::GREEDY })
    }

    fn rules(&self) -> Result<Rules> {
        let bad_words: Vec<Vec<u32>> = self.or("bad_words_ids", Vec::new())?;
        ensure!(bad_words.iter().all(|word| !word.is_empty()), "`bad_words_ids` has an empty word");
        // Of several for the same sequence the last counts.
        let sequence_bias: BTreeMap<Vec<u32>, f64> =
            self.or::<Vec<(Vec<u32>, f64)>>("sequence_bias", Vec::new())?.into_iter().collect();
        Ok(Rules {
            sequence_bias: sequence_bias.into_iter().collect(),
            encoder_repetition_penalty: self.or("encoder_repetition_penalty", 1.0)?,
            repetition_penalty: self.or("repetition_penalty", 1.0)?,
            no_repeat_ngram_size: self.or("no_repeat_ngram_size", 0)?,
            encoder_no_repeat_ngram_size: self.or("encoder_no_repeat_ngram_size", 0)?,
            bad_words,
            // With the least number of new tokens this is that, too.
            min_length: if self.get::<usize>("min_new_tokens")?.is_some() { 0 } else { self.or("min_length", 0)? },
            forced_bos: self.get("forced_bos_token_id")?,
            forced_eos: self.list("forced_eos_token_id")?.unwrap_or_default(),
            remove_invalid_values: self.or("remove_invalid_values", false)?,
            exponential_decay_length_penalty: self.get("exponential_decay_length_penalty")?,
            suppress_tokens: self.or("suppress_tokens", Vec::new())?,
            begin_suppress_tokens: self.or("begin_suppress_tokens", Vec::new())?,
            renormalize_logits: self.or("renormalize_logits", false)?,
        })
    }

    fn beams(&self) -> Result<Beams> {
        let early_stopping = match self.0.get("early_stopping") {
            None | Some(Value::Null | Value::Bool(false)) => EarlyStopping::No,
            Some(Value::Bool(true)) => EarlyStopping::Yes,
            Some(Value::String(word)) if word == "never" => EarlyStopping::Never,
            Some(other) => bail!("`early_stopping` is {other}: true, false or \"never\" is expected"),
        };
        Ok(Beams {
            num_beams: self.or("num_beams", 1)?,
            length_penalty: self.or("length_penalty", 1.0)?,
            early_stopping,
            num_return_sequences: self.or("num_return_sequences", 1)?,
        })
    }

    /// The settings that decide what is written and that aren't followed.
    fn ignored(&self, model: &Self) -> Vec<&'static str> {
        let changes = |name: &str, neutral: &[Value]| match self.0.get(name) {
            None | Some(Value::Null) => false,
            Some(value) => !neutral.contains(value),
        };
        let mut ignored: Vec<_> =
            unfollowed().into_iter().filter(|(name, neutral)| changes(name, neutral)).map(|(name, _)| name).collect();
        // Where one decodes, it begins with the token that config.json names.
        const START: &str = "decoder_start_token_id";
        if let Some(start) = model.0.get(START)
            && changes(START, std::slice::from_ref(start))
        {
            ignored.push(START);
        }
        ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_read(generation: Option<&str>, model: &str) -> Result<GenerationDefaults> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), model).unwrap();
        if let Some(generation) = generation {
            std::fs::write(dir.path().join(FILE), generation).unwrap();
        }
        GenerationDefaults::read(dir.path())
    }

    fn read(generation: Option<&str>, model: &str) -> GenerationDefaults {
        try_read(generation, model).unwrap()
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
        let greedy = read(Some(r#"{"temperature": 0.5, "repetition_penalty": 1.1}"#), "{}");
        assert_eq!(greedy.sampling, Some(Sampling::GREEDY));
        assert_eq!(greedy.rules, Rules { repetition_penalty: 1.1, ..Rules::default() });
        let sampled = read(Some(r#"{"do_sample": true, "top_p": 0.8, "min_p": null}"#), "{}").sampling;
        assert_eq!(sampled, Some(Sampling { top_k: 50, top_p: 0.8, ..Sampling::PLAIN }));
    }

    #[test]
    fn settings_have_the_names_of_transformers() {
        let all = r#"{
            "do_sample": true, "temperature": 0.7, "top_h": 0.4, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "typical_p": 0.9,
            "epsilon_cutoff": 0.0003, "eta_cutoff": 0.002, "max_new_tokens": 12, "max_length": 99, "min_new_tokens": 3,
            "min_length": 8, "stop_strings": "。", "num_beams": 4, "length_penalty": 0.6, "early_stopping": "never",
            "num_return_sequences": 2, "sequence_bias": [[[3, 4], -1.5]], "encoder_repetition_penalty": 1.2,
            "repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 2,
            "bad_words_ids": [[5], [6, 7]], "forced_bos_token_id": 1, "forced_eos_token_id": 2,
            "remove_invalid_values": true, "exponential_decay_length_penalty": [5, 1.01], "suppress_tokens": [8],
            "begin_suppress_tokens": [9, 10], "renormalize_logits": true
        }"#;
        let rules = Rules {
            sequence_bias: vec![(vec![3, 4], -1.5)],
            encoder_repetition_penalty: 1.2,
            repetition_penalty: 1.3,
            no_repeat_ngram_size: 3,
            encoder_no_repeat_ngram_size: 2,
            bad_words: vec![vec![5], vec![6, 7]],
            min_length: 0,
            forced_bos: Some(1),
            forced_eos: vec![2],
            remove_invalid_values: true,
            exponential_decay_length_penalty: Some((5, 1.01)),
            suppress_tokens: vec![8],
            begin_suppress_tokens: vec![9, 10],
            renormalize_logits: true,
        };
        let sampling = Sampling {
            temperature: 0.7,
            top_h: Some(0.4),
            top_k: 9,
            top_p: 0.8,
            min_p: 0.05,
            typical_p: 0.9,
            epsilon_cutoff: 0.0003,
            eta_cutoff: 0.002,
        };
        let beams =
            Beams { num_beams: 4, length_penalty: 0.6, early_stopping: EarlyStopping::Never, num_return_sequences: 2 };
        let expected = GenerationDefaults {
            sampling: Some(sampling),
            rules,
            beams,
            ends: Vec::new(),
            max_new_tokens: Some(12),
            max_length: None,
            min_new_tokens: Some(3),
            stop: vec!["。".to_owned()],
            ignored: Vec::new(),
        };
        assert_eq!(read(Some(all), "{}"), expected);
        let lengths = read(Some(r#"{"max_length": 99, "min_length": 8, "forced_eos_token_id": [2, 3]}"#), "{}");
        assert_eq!((lengths.max_length, lengths.rules.min_length), (Some(99), 8));
        assert_eq!(lengths.rules.forced_eos, [2, 3]);
    }

    /// `GPT2LMHeadModel.from_pretrained(…).generation_config` of transformers 5.23 has them, too.
    #[test]
    fn settings_among_the_models_count_where_there_are_no_others() {
        let model = r#"{"eos_token_id": 0, "num_beams": 4, "no_repeat_ngram_size": 2, "max_length": 9, "bad_words_ids": [[3]]}"#;
        let found = read(None, model);
        assert_eq!((found.sampling, found.beams.num_beams, found.max_length), (Some(Sampling::GREEDY), 4, Some(9)));
        assert_eq!((found.rules.no_repeat_ngram_size, found.rules.bad_words), (2, vec![vec![3]]));
        let found = read(Some(r#"{"eos_token_id": [0, 5]}"#), model);
        assert_eq!((found.beams.num_beams, found.max_length, found.rules), (1, None, Rules::default()));
    }

    #[test]
    fn settings_that_are_not_followed_are_named() {
        let neutral = r#"{"guidance_scale": 1.0, "num_beam_groups": 1, "token_healing": false, "max_time": null}"#;
        assert_eq!(read(Some(neutral), "{}").ignored, [""; 0]);
        let ignored = r#"{"guidance_scale": 1.5, "num_beam_groups": 2, "token_healing": true, "unknown": 1}"#;
        assert_eq!(read(Some(ignored), "{}").ignored, ["guidance_scale", "token_healing", "num_beam_groups"]);
        let start = Some(r#"{"decoder_start_token_id": 3}"#);
        assert_eq!(read(start, r#"{"decoder_start_token_id": 3}"#).ignored, [""; 0]);
        assert_eq!(read(start, r#"{"decoder_start_token_id": 4}"#).ignored, ["decoder_start_token_id"]);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for wrong in [
            r#"{"temperature": "high"}"#,
            r#"{"do_sample": true, "temperature": "high"}"#,
            r#"{"do_sample": true, "top_p": 2}"#,
            r#"{"num_beams": -1}"#,
            r#"{"num_return_sequences": 2}"#,
            r#"{"bad_words_ids": [5]}"#,
            r#"{"early_stopping": "sometimes"}"#,
        ] {
            assert!(try_read(Some(wrong), "{}").is_err(), "{wrong}");
        }
    }
}
