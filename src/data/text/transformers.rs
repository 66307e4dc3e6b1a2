//! A tokenizer for other programs: `tokenizer.json` with what stands around a text, and `tokenizer_config.json`, without
//! which transformers builds another tokenizer by the model's type.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Error, Result};
use fs_err as fs;
use serde_json::{Map, Value, json};
use tokenizers::processors::template::TemplateProcessing;

use super::{
    special::{ABSENT, Special},
    tokenizer::Tokenizer,
};

/// The tokens that stand around a text in what a model is given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frame {
    /// Before it.
    pub before: Vec<u32>,
    /// Behind it, and behind a second one.
    pub after: Vec<u32>,
    /// Whether the model tells a second text from the first.
    pub segments: bool,
}

/// What a tokenizer can't say of itself.
#[derive(Clone, Debug)]
pub struct TransformersTokenizer {
    /// What stands around a text, unless the tokenizer has something of its own there.
    pub frame: Frame,
    /// Names of tokens in transformers, such as `eos_token`, and their ids.
    pub names: Vec<(&'static str, u32)>,
    /// The longest sequence, in tokens.
    pub max_length: usize,
}

/// What transformers calls the special tokens that most of its tokenizers have.
const NAMES: [(&str, Special); 5] = [
    ("pad_token", Special::Pad),
    ("unk_token", Special::Unk),
    ("cls_token", Special::Cls),
    ("sep_token", Special::Sep),
    ("mask_token", Special::Mask),
];

impl TransformersTokenizer {
    /// The files that [`write`](Self::write) makes.
    pub const FILES: [&'static str; 2] = ["tokenizer.json", "tokenizer_config.json"];

    /// Writes a tokenizer into a directory.
    ///
    /// # Errors
    /// The file system's, and tokens that the tokenizer hasn't.
    pub fn write(&self, tokenizer: &Tokenizer, to: &Path) -> Result<()> {
        let mut library = tokenizer.library().clone();
        if library.get_post_processor().is_none()
            && let Some(frame) = self.frame.processor(tokenizer)?
        {
            library.with_post_processor(Some(frame));
        }
        let [model, config] = Self::FILES;
        fs::write(to.join(model), library.to_string(false).map_err(Error::from_boxed)?)?;
        Ok(fs::write(to.join(config), format!("{:#}\n", self.config(tokenizer)))?)
    }

    fn config(&self, tokenizer: &Tokenizer) -> Value {
        let inputs: &[&str] = match self.frame.segments {
            true => &["input_ids", "token_type_ids", "attention_mask"],
            false => &["input_ids", "attention_mask"],
        };
        let mut config = Map::from_iter([
            // Any other class would put together a tokenizer of its own.
            ("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast")),
            ("clean_up_tokenization_spaces".to_owned(), json!(false)),
            ("model_input_names".to_owned(), json!(inputs)),
            ("model_max_length".to_owned(), json!(self.max_length)),
        ]);
        let usual = NAMES.into_iter().map(|(name, special)| (name, tokenizer.special.id(special)));
        for (name, id) in usual.chain(self.names.iter().copied()) {
            if let Some(token) = tokenizer.token(id).filter(|_| id != ABSENT) {
                config.insert(name.to_owned(), json!(token));
            }
        }
        Value::Object(config)
    }
}

impl Frame {
    /// As `tokenizer.json` has it; `None` where nothing stands around a text, or the tokenizer lacks the tokens for it.
    fn processor(&self, tokenizer: &Tokenizer) -> Result<Option<TemplateProcessing>> {
        let mut tokens = BTreeMap::new();
        for id in self.before.iter().chain(&self.after) {
            let Some(name) = tokenizer.token(*id).filter(|_| *id != ABSENT) else { return Ok(None) };
            tokens.insert(name.clone(), json!({ "id": name, "ids": [id], "tokens": [name] }));
        }
        if tokens.is_empty() {
            return Ok(None);
        }
        let second = u32::from(self.segments);
        let special = |ids: &[u32], segment: u32| -> Vec<Value> {
            let names = ids.iter().filter_map(|&id| tokenizer.token(id));
            names.map(|name| json!({ "SpecialToken": { "id": name, "type_id": segment } })).collect()
        };
        let text = |name: &str, segment: u32| vec![json!({ "Sequence": { "id": name, "type_id": segment } })];
        let single = [special(&self.before, 0), text("A", 0), special(&self.after, 0)].concat();
        let pair = [single.clone(), text("B", second), special(&self.after, second)].concat();
        let processor = json!({
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens,
        });
        Ok(Some(serde_json::from_value(processor).context("what stands around a text can't be written")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn tokenizer() -> Tokenizer {
        let spec: spec::Tokenizer = serde_json::from_value(json!({ "wordpiece": { "vocab_size": 60 } })).unwrap();
        Tokenizer::train(&spec, ["good day good day".to_owned()].into_iter().map(Ok)).unwrap()
    }

    #[test]
    fn what_stands_around_a_text_is_read_back() {
        let (tokenizer, directory) = (tokenizer(), tempfile::tempdir().unwrap());
        let [cls, sep] = [tokenizer.special.cls, tokenizer.special.sep];
        let frame = Frame { before: vec![cls], after: vec![sep], segments: true };
        let shared = TransformersTokenizer { frame, names: vec![("eos_token", tokenizer.special.eop)], max_length: 32 };
        shared.write(&tokenizer, directory.path()).unwrap();
        let text = tokenizer.encode("good day").unwrap();

        let library = tokenizers::Tokenizer::from_file(directory.path().join("tokenizer.json")).unwrap();
        let framed = |ids: &[u32]| [&[cls], ids, &[sep]].concat();
        assert_eq!(library.encode("good day", true).unwrap().get_ids(), framed(&text));
        let pair = library.encode(("good day", "good"), true).unwrap();
        let second = [tokenizer.encode("good").unwrap(), vec![sep]].concat();
        assert_eq!(pair.get_ids(), [framed(&text), second.clone()].concat());
        let segments = [vec![0; text.len() + 2], vec![1; second.len()]].concat();
        assert_eq!(pair.get_type_ids(), segments);

        let again = Tokenizer::load(directory.path()).unwrap();
        assert_eq!(again.special, tokenizer.special);
        assert_eq!(again.encode("good day").unwrap(), text);
        let config: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join("tokenizer_config.json")).unwrap()).unwrap();
        assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
        assert_eq!((&config["cls_token"], &config["eos_token"]), (&json!("[CLS]"), &json!("<eop>")));
        assert_eq!(config["model_input_names"][1], "token_type_ids");
    }
}
