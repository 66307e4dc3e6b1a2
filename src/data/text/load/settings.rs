//! What stands beside a vocabulary in a checkpoint's directory: special tokens by name and by id.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Error, Result, bail, ensure};
use fs_err as fs;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, ModelWrapper, Tokenizer, processors::template::TemplateProcessing};

use super::{
    super::special::{ABSENT, Special, Specials},
    classes::Class,
};
use crate::support::Hinted;

/// The directory's settings; empty ones where a file is missing.
#[derive(Default)]
pub(in crate::data::text) struct Settings {
    /// tokenizer_config.json
    tokenizer: Map<String, Value>,
    /// special_tokens_map.json
    special: Map<String, Value>,
    /// added_tokens.json: ids by token
    added: Map<String, Value>,
    /// config.json
    model: Map<String, Value>,
}

/// What the files call the special tokens. What begins or ends a text may stand for `[CLS]` and `[SEP]`.
const NAMED: [(&str, Special); 8] = [
    ("pad_token", Special::Pad),
    ("unk_token", Special::Unk),
    ("cls_token", Special::Cls),
    ("bos_token", Special::Cls),
    ("sep_token", Special::Sep),
    ("eos_token", Special::Sep),
    ("mask_token", Special::Mask),
    ("gmask_token", Special::Gmask),
];

/// What config.json has ids of, and which of our tokens that may be.
const IDS: [(&str, &[Special]); 5] = [
    ("pad_token_id", &[Special::Pad]),
    ("bos_token_id", &[Special::Sop, Special::Cls]),
    ("eos_token_id", &[Special::Eop, Special::Sep]),
    ("mask_token_id", &[Special::Mask]),
    ("gmask_token_id", &[Special::Gmask]),
];

/// The names that every tokenizer of the library has for special tokens, in the order in which it adds them.
const ATTRIBUTES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token's text, written alone or with its properties.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(String::from)
}

impl Settings {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            if !path.is_file() {
                return Ok(Map::new());
            }
            serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("failed to read {}", path.display()))
        };
        Ok(Self {
            tokenizer: read("tokenizer_config.json")?,
            special: read("special_tokens_map.json")?,
            added: read("added_tokens.json")?,
            model: read("config.json")?,
        })
    }

    /// A truth value of tokenizer_config.json.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.tokenizer.get(name).and_then(Value::as_bool)
    }

    /// Whether there is a tokenizer_config.json.
    pub(super) fn are_given(&self) -> bool {
        !self.tokenizer.is_empty()
    }

    /// The model's type in config.json.
    pub(super) fn family(&self) -> Option<String> {
        self.model.get("model_type").and_then(Value::as_str).map(String::from)
    }

    /// The name of the tokenizer's class.
    pub(super) fn class_name(&self) -> Option<String> {
        let named = |map: &Map<String, Value>| map.get("tokenizer_class").and_then(Value::as_str).map(String::from);
        named(&self.tokenizer).or_else(|| named(&self.model))
    }

    /// A special token's name. As Hugging Face's library has it, special_tokens_map.json goes before tokenizer_config.json,
    /// unless that lists the added tokens.
    pub(super) fn token(&self, name: &str) -> Option<String> {
        let mut maps = [&self.tokenizer, &self.special];
        if !self.lists_added() {
            maps.reverse();
        }
        maps.into_iter().find_map(|map| content(map.get(name)?))
    }

    /// Whether tokenizer_config.json lists the added tokens.
    pub(super) fn lists_added(&self) -> bool {
        self.tokenizer.get("added_tokens_decoder").is_some_and(Value::is_object)
    }

    /// The special tokens that have a name of their own, in the library's order.
    pub(super) fn attributes(&self) -> Vec<String> {
        ATTRIBUTES.iter().filter_map(|name| self.token(name)).collect()
    }

    /// The special tokens that have none.
    pub(super) fn extra(&self) -> Vec<String> {
        let maps = if self.lists_added() { vec![&self.tokenizer] } else { vec![&self.special, &self.tokenizer] };
        let lists = maps.into_iter().find_map(|map| {
            let given = ["extra_special_tokens", "additional_special_tokens"];
            given.iter().find_map(|name| map.get(*name)?.as_array().filter(|list| !list.is_empty()))
        });
        lists.into_iter().flatten().filter_map(content).collect()
    }

    /// Whether a special token is called so.
    pub(super) fn names(&self, token: &str) -> bool {
        let of = |map: &Map<String, Value>| {
            map.iter().any(|(key, value)| key.ends_with("_token") && content(value).is_some_and(|name| name == token))
        };
        of(&self.tokenizer) || of(&self.special) || self.extra().iter().any(|name| name == token)
    }

    /// The added tokens that the files list beside tokenizer.json, by id, as that has them.
    pub(super) fn described(&self) -> Result<BTreeMap<u64, Value>> {
        let mut listed = BTreeMap::new();
        if let Some(Value::Object(tokens)) = self.tokenizer.get("added_tokens_decoder") {
            for (id, token) in tokens {
                let (Ok(id), Some(said), Some(name)) = (id.parse(), token.as_object(), content(token)) else {
                    bail!("tokenizer_config.json: {id:?} under added_tokens_decoder isn't an id with a token");
                };
                let special = said.get("special").and_then(Value::as_bool).unwrap_or_default();
                listed.insert(id, described(id, &name, special || self.names(&name), said));
            }
            return Ok(listed);
        }
        for (name, id) in &self.added {
            let id = id.as_u64().with_context(|| format!("added_tokens.json: {name} has no id"))?;
            listed.insert(id, described(id, name, self.names(name), &Map::new()));
        }
        Ok(listed)
    }

    /// All special tokens with a name.
    pub(in crate::data::text) fn named(&self) -> Vec<(Special, String)> {
        let end = self.declared().end().map(|end| (Special::Sep, end.to_owned()));
        let given = NAMED.into_iter().filter_map(|(key, special)| Some((special, self.token(key)?)));
        // ChatGLM-6B calls the marks of what it generates the beginning and the end.
        let marks = |name: &str| Special::Sop.goes_by(name) || Special::Eop.goes_by(name);
        end.into_iter().chain(given).filter(|(_, name)| !marks(name)).collect()
    }

    /// Adds the tokens that stand in no vocabulary file, and what goes around a text.
    pub(super) fn complete(&self, tokenizer: &mut Tokenizer) -> Result<()> {
        let class = self.class(tokenizer);
        let size = size(tokenizer);
        let mut added = self.listed()?;
        let of_class = class.tokens();
        for (id, name) in (size..).zip(&of_class) {
            if !added.values().any(|(listed, _)| listed == name) {
                added.entry(id).or_insert_with(|| ((*name).to_owned(), true));
            }
        }
        for (id, (name, special)) in added {
            let special = special || of_class.contains(&name.as_str());
            add(tokenizer, id, &name, special)?;
        }
        for (_, name) in self.named() {
            if tokenizer.token_to_id(&name).is_some() {
                crate::data::text::special::add(tokenizer, &name)?;
            }
        }
        if let Some((single, pair)) = class.templates() {
            frame(tokenizer, &single, &pair)?;
        }
        Ok(())
    }

    /// Holds config.json's ids against the tokens that were found.
    pub(in crate::data::text) fn check(&self, tokenizer: &Tokenizer, specials: &Specials) -> Result<()> {
        let rows = ["vocab_size", "padded_vocab_size"].iter().find_map(|key| self.model.get(*key)?.as_u64());
        let special = tokenizer.get_added_tokens_decoder();
        for (key, roles) in IDS {
            let ids = match self.model.get(key) {
                Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
                Some(id) => id.as_u64().into_iter().collect(),
                None => Vec::new(),
            };
            // Defaults of the model's class mean nothing: padding with 0, and ids that its vocabulary doesn't reach.
            let meant = |id: &u64| rows.is_none_or(|rows| *id < rows) && (*id > 0 || key != "pad_token_id");
            for id in ids.into_iter().filter(meant) {
                let known = roles.iter().any(|&role| u64::from(specials.id(role)) == id);
                let marked = u32::try_from(id).ok().and_then(|id| special.get(&id)).is_some_and(|token| token.special);
                let exact = matches!(roles, [Special::Mask | Special::Gmask]);
                let own = roles.iter().map(|&role| specials.id(role)).find(|&id| id != ABSENT);
                let Some(own) = own.filter(|_| !known && (exact || !marked)) else { continue };
                let name = tokenizer.id_to_token(own).unwrap_or_default();
                bail!(Hinted::with(
                    format!("config.json says {key} {id}, but the tokenizer's {name} is {own}"),
                    "the tokenizer belongs to another model, or to another version of this one",
                ));
            }
        }
        Ok(())
    }

    /// The class of the tokenizer by its name alone.
    fn declared(&self) -> Class {
        match self.tokenizer.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default() {
            "BertTokenizer" | "BertTokenizerFast" => Class::Bert,
            "GLMChineseTokenizer" => Class::GlmChinese,
            "GLMGPT2Tokenizer" => Class::GlmGpt2,
            "GLMBertTokenizer" => Class::GlmBert,
            _ => Class::Other,
        }
    }

    /// The class of the tokenizer. ChatGLM's share a name, so that their vocabularies tell which it is.
    fn class(&self, tokenizer: &Tokenizer) -> Class {
        let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(String::from);
        let declared = text(&self.tokenizer, "tokenizer_class");
        let chatglm = match &declared {
            Some(class) => class.starts_with("ChatGLM"),
            None => text(&self.model, "model_type").is_some_and(|family| family == "chatglm"),
        };
        match tokenizer.get_model() {
            ModelWrapper::WordPiece(_) if declared.is_none() => Class::Bert,
            _ if !chatglm => self.declared(),
            ModelWrapper::BPE(model) if model.ignore_merges => Class::Glm4,
            ModelWrapper::Unigram(_) => Class::Chatglm,
            _ => {
                let names = [text(&self.model, "_name_or_path"), text(&self.tokenizer, "name_or_path")];
                let third = names.iter().flatten().any(|name| name.contains("chatglm3"));
                let speaks = text(&self.tokenizer, "chat_template").is_some_and(|chat| chat.contains("<|assistant|>"));
                if third || speaks { Class::Chatglm3 } else { Class::Chatglm2 }
            }
        }
    }

    /// The tokens that the files list, by id, and whether they're special.
    fn listed(&self) -> Result<BTreeMap<u32, (String, bool)>> {
        let mut listed = BTreeMap::new();
        let named: Vec<String> = self.named().into_iter().map(|(_, name)| name).collect();
        let further =
            [&self.tokenizer, &self.special].into_iter().filter_map(|map| map.get("additional_special_tokens"));
        let further: Vec<&str> = further.filter_map(Value::as_array).flatten().filter_map(Value::as_str).collect();
        for (name, id) in &self.added {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.with_context(|| format!("added_tokens.json: {name} has no id"))?;
            listed.insert(id, (name.clone(), named.contains(name) || further.contains(&name.as_str())));
        }
        let decoder = self.tokenizer.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in decoder.into_iter().flatten() {
            let content = token.get("content").and_then(Value::as_str);
            let (Ok(id), Some(content)) = (id.parse(), content) else {
                bail!("tokenizer_config.json: {id:?} under added_tokens_decoder isn't an id with a token");
            };
            let special = token.get("special").and_then(Value::as_bool).unwrap_or_default();
            listed.insert(id, (content.to_owned(), special));
        }
        Ok(listed)
    }
}

/// One more than the highest id.
fn size(tokenizer: &Tokenizer) -> u32 {
    tokenizer.get_vocab(true).into_values().max().map_or(0, |last| last + 1)
}

/// Adds a token under an id; ids between the last one and this become unused ones.
fn add(tokenizer: &mut Tokenizer, id: u32, name: &str, special: bool) -> Result<()> {
    let known = tokenizer.token_to_id(name);
    if known.is_none() {
        for unused in size(tokenizer)..id {
            let unused = AddedToken::from(format!("<|unused_{unused}|>"), true);
            tokenizer.add_special_tokens([unused]).map_err(Error::from_boxed)?;
        }
    }
    let token = AddedToken::from(name.to_owned(), special);
    tokenizer.add_tokens([token]).map_err(Error::from_boxed)?;
    let found = tokenizer.token_to_id(name).unwrap_or(ABSENT);
    ensure!(found == id, "the files list {name} under the id {id}, but in the vocabulary it's {found}");
    Ok(())
}

/// Sets what stands around a text, if the tokenizer has the tokens for it.
fn frame(tokenizer: &mut Tokenizer, single: &str, pair: &str) -> Result<()> {
    let names =
        pair.split([' ', ':']).chain(single.split(' ')).filter(|piece| piece.len() > 1 && !piece.starts_with('$'));
    let mut tokens = BTreeMap::new();
    for name in names {
        let Some(id) = tokenizer.token_to_id(name) else { return Ok(()) };
        tokens.insert(name.to_owned(), id);
    }
    let mut template = TemplateProcessing::builder();
    template.try_single(single).and_then(|template| template.try_pair(pair)).map_err(Error::msg)?;
    template.special_tokens(tokens.into_iter().collect::<Vec<_>>());
    tokenizer.with_post_processor(Some(template.build()?));
    Ok(())
}

/// An added token as `tokenizer.json` has it; what isn't said is as in the library.
pub(super) fn described(id: u64, content: &str, special: bool, said: &Map<String, Value>) -> Value {
    let flag = |name: &str, default: bool| said.get(name).and_then(Value::as_bool).unwrap_or(default);
    json!({
        "id": id,
        "content": content,
        "single_word": flag("single_word", false),
        "lstrip": flag("lstrip", false),
        "rstrip": flag("rstrip", false),
        "normalized": flag("normalized", !special),
        "special": special,
    })
}
