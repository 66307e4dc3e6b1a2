//! What `tokenizer_config.json` says otherwise than the `tokenizer.json` beside it.
//!
//! Hugging Face's library reads both. Since its fifth version most classes, `BertTokenizer` and `GPT2Tokenizer` among them,
//! take no more than the vocabulary out of `tokenizer.json` and build the rest by the settings and their defaults; the
//! fourth changed single settings of what it had read. Where both come to the same, that's what is done here; where they
//! don't, the directory is refused. Classes that take `tokenizer.json` as it is, such as `PreTrainedTokenizerFast`, are
//! believed, and of others nothing may be contradicted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::{
    super::special::Special,
    byte_level::letters,
    settings::{Settings, described},
};
use crate::support::Hinted;

/// How a class makes its tokenizer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Built {
    /// By BERT's rules, by this class.
    Bert,
    /// By GPT-2's rules.
    Gpt2,
    /// As the file has it.
    AsIs,
    /// In a way that isn't known here.
    Unknown,
}

/// A `tokenizer.json` as a directory's other files have it.
pub(super) fn apply(mut file: Value, settings: &Settings) -> Result<Value> {
    let built = built(settings);
    match built {
        Built::Bert => bert(&mut file, settings)?,
        Built::Gpt2 => gpt2(&mut file, settings)?,
        Built::AsIs => as_is(&file, settings)?,
        Built::Unknown => unchanged(&file, settings)?,
    }
    added_tokens(&mut file, settings, matches!(built, Built::Bert | Built::Gpt2))?;
    named_tokens(&file, settings, built)?;
    Ok(file)
}

fn built(settings: &Settings) -> Built {
    let family = settings.family().unwrap_or_default();
    let class = settings.class_name();
    match (class.as_deref().map(|class| class.trim_end_matches("Fast")), family.as_str()) {
        // The library has no class for GLM-4's, and takes the file.
        (_, "glm" | "glm4") | (Some("PreTrainedTokenizer" | "TokenizersBackend"), _) => Built::AsIs,
        // Code of their own, which reads other files.
        (Some(class), _) if class.starts_with("ChatGLM") || class.starts_with("GLM") => Built::AsIs,
        (None, "chatglm") => Built::AsIs,
        (Some("BertTokenizer"), _) | (None, "bert") => Built::Bert,
        (Some("GPT2Tokenizer"), _) | (None, "gpt2") => Built::Gpt2,
        _ => Built::Unknown,
    }
}

/// Something that the versions of the library read differently.
fn ambiguous(class: &str, what: &str) -> Hinted {
    Hinted::with(
        format!(
            "tokenizer.json has {what}, in place of which {class} has its own in transformers 5 and not in transformers 4"
        ),
        "if tokenizer.json is right, write \"tokenizer_class\": \"PreTrainedTokenizerFast\" in tokenizer_config.json",
    )
}

/// Whether a part of the file is of a kind, under which names the library has it.
fn is_of(part: &Value, kind: &str) -> bool {
    part.get("type").and_then(Value::as_str) == Some(kind)
}

/// Makes sure that the settings of a part are these, or missing, or nothing.
fn plain(part: &Value, class: &str, name: &str, wanted: &[(&str, Value)]) -> Result<()> {
    for (key, wanted) in wanted {
        let value = part.get(*key).unwrap_or(&Value::Null);
        let nothing = value.is_null() || *value == json!("");
        let same = value == wanted || (nothing && (wanted.is_null() || *wanted == json!(false)));
        ensure!(same, ambiguous(class, &format!("a {name} with {key} {value}")));
    }
    Ok(())
}

fn bert(file: &mut Value, settings: &Settings) -> Result<()> {
    const CLASS: &str = "BertTokenizer";
    let (model, normalizer) = (&file["model"], &file["normalizer"]);
    ensure!(is_of(model, "WordPiece"), ambiguous(CLASS, &format!("a model of the type {}", model["type"])));
    let unknown = settings.token("unk_token").unwrap_or_else(|| "[UNK]".to_owned());
    let wanted = [
        ("continuing_subword_prefix", json!("##")),
        ("max_input_chars_per_word", json!(100)),
        ("unk_token", json!(unknown)),
    ];
    plain(model, CLASS, "model", &wanted)?;
    ensure!(is_of(normalizer, "BertNormalizer"), ambiguous(CLASS, "another normalizer than BertNormalizer"));
    plain(normalizer, CLASS, "normalizer", &[("clean_text", json!(true))])?;
    let words = &file["pre_tokenizer"];
    ensure!(is_of(words, "BertPreTokenizer"), ambiguous(CLASS, "another pre-tokenizer than BertPreTokenizer"));
    file["normalizer"] = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": settings.flag("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": settings.flag("strip_accents"),
        "lowercase": settings.flag("do_lower_case").unwrap_or(true),
    });
    Ok(())
}

fn gpt2(file: &mut Value, settings: &Settings) -> Result<()> {
    const CLASS: &str = "GPT2Tokenizer";
    let model = &file["model"];
    ensure!(is_of(model, "BPE"), ambiguous(CLASS, &format!("a model of the type {}", model["type"])));
    let no = || json!(false);
    let wanted = [
        ("dropout", Value::Null),
        ("continuing_subword_prefix", Value::Null),
        ("end_of_word_suffix", Value::Null),
        ("fuse_unk", no()),
        ("byte_fallback", no()),
        ("ignore_merges", no()),
    ];
    plain(model, CLASS, "model", &wanted)?;
    // Where each byte has an entry, nothing is ever unknown.
    let complete = || letters().iter().all(|letter| model["vocab"].get(letter.to_string()).is_some());
    ensure!(model["unk_token"].is_null() || complete(), ambiguous(CLASS, "a token for what is unknown"));
    ensure!(file["normalizer"].is_null(), ambiguous(CLASS, "a normalizer"));
    let words = &file["pre_tokenizer"];
    ensure!(is_of(words, "ByteLevel"), ambiguous(CLASS, "another pre-tokenizer than ByteLevel"));
    ensure!(words["use_regex"] != no(), ambiguous(CLASS, "a pre-tokenizer with use_regex false"));
    ensure!(is_of(&file["decoder"], "ByteLevel"), ambiguous(CLASS, "another decoder than ByteLevel"));
    file["pre_tokenizer"]["add_prefix_space"] = json!(settings.flag("add_prefix_space").unwrap_or(false));
    Ok(())
}

/// Classes that take the file as it is don't look at what it says, but for the fourth version at one setting.
fn as_is(file: &Value, settings: &Settings) -> Result<()> {
    let words = &file["pre_tokenizer"];
    let (said, own) = (settings.flag("add_prefix_space"), words.get("add_prefix_space").and_then(Value::as_bool));
    if let (Some(said), Some(own)) = (said, own) {
        ensure!(said == own, contradiction("add_prefix_space", said, own));
    }
    Ok(())
}

/// Of other classes nothing may be said that the file contradicts.
fn unchanged(file: &Value, settings: &Settings) -> Result<()> {
    as_is(file, settings)?;
    let mut parts = Vec::new();
    collect(&file["normalizer"], &mut parts);
    let bert = parts.iter().find(|part| is_of(part, "BertNormalizer"));
    let lowers = |part: &&&Value| is_of(part, "Lowercase") || part.get("lowercase") == Some(&json!(true));
    let strips = |part: &&&Value| is_of(part, "StripAccents");
    let flag = |name: &str| bert.and_then(|part| part.get(name)?.as_bool());
    let own = [
        ("do_lower_case", Some(parts.iter().any(|part| lowers(&part)))),
        (
            "strip_accents",
            flag("strip_accents").or_else(|| bert.is_none().then(|| parts.iter().any(|part| strips(&part)))),
        ),
        ("tokenize_chinese_chars", flag("handle_chinese_chars")),
    ];
    for (name, own) in own {
        if let (Some(said), Some(own)) = (settings.flag(name), own) {
            ensure!(said == own, contradiction(name, said, own));
        }
    }
    Ok(())
}

/// A step and all steps within it.
fn collect<'a>(step: &'a Value, to: &mut Vec<&'a Value>) {
    match step.get("normalizers").and_then(Value::as_array) {
        Some(steps) => steps.iter().for_each(|step| collect(step, to)),
        None => to.push(step),
    }
}

fn contradiction(name: &str, said: bool, own: bool) -> Hinted {
    Hinted::with(
        format!("tokenizer_config.json says {name}: {said}, but tokenizer.json is made for {own}"),
        "versions of transformers differ in which they follow: write in both what the model was trained with",
    )
}

/// The entries that a vocabulary gets beside the model's, and what stands where they do.
fn added_tokens(file: &mut Value, settings: &Settings, rebuilt: bool) -> Result<()> {
    let mut added: BTreeMap<u64, Value> = BTreeMap::new();
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let id = token["id"].as_u64().context("tokenizer.json: an added token has no id")?;
        added.insert(id, token.clone());
    }
    let model = file["model"].clone();
    let size = vocabulary_size(&model);
    let id_of = |added: &BTreeMap<u64, Value>, name: &str| {
        let own = added.iter().find(|(_, token)| token["content"] == *name).map(|(id, _)| *id);
        own.or_else(|| vocabulary_id(&model, name))
    };
    let next = |added: &BTreeMap<u64, Value>| added.keys().max().map_or(size, |last| (last + 1).max(size));
    let listed = settings.described()?;
    if rebuilt && settings.lists_added() {
        let kept = |name: &str| listed.values().any(|token| token["content"] == *name) || settings.names(name);
        let lost = added
            .values()
            .find(|token| token["special"] != json!(true) && token["content"].as_str().is_some_and(|name| !kept(name)));
        if let Some(token) = lost {
            let what = format!("an added token {} that isn't in tokenizer_config.json", token["content"]);
            bail!(ambiguous("its class", &what));
        }
    }
    for (id, token) in &listed {
        let name = token["content"].as_str().unwrap_or_default();
        let own = id_of(&added, name).unwrap_or_else(|| next(&added));
        ensure!(
            own == *id,
            "tokenizer_config.json lists {name:?} under the id {id}, but beside tokenizer.json it gets {own}"
        );
        added.insert(*id, token.clone());
    }
    let missing = settings.attributes().into_iter().filter(|name| id_of(&added, name).is_none()).count() as u64;
    for name in settings.extra() {
        // Those that have no name of their own come behind those that have one.
        let id = id_of(&added, &name).unwrap_or_else(|| next(&added) + missing);
        let token = added.entry(id).or_insert_with(|| described(id, &name, true, &Map::new()));
        token["special"] = json!(true);
    }
    file["added_tokens"] = added.into_values().collect();
    Ok(())
}

fn vocabulary_id(model: &Value, name: &str) -> Option<u64> {
    match &model["vocab"] {
        Value::Object(vocabulary) => vocabulary.get(name)?.as_u64(),
        Value::Array(pieces) => pieces.iter().position(|piece| piece[0] == *name).map(|at| at as u64),
        _ => None,
    }
}

fn vocabulary_size(model: &Value) -> u64 {
    match &model["vocab"] {
        Value::Object(vocabulary) => vocabulary.len() as u64,
        Value::Array(pieces) => pieces.len() as u64,
        _ => 0,
    }
}

/// What begins and ends a text, and what stands for the unknown, can't be called one thing and be another.
fn named_tokens(file: &Value, settings: &Settings, built: Built) -> Result<()> {
    let bert = built == Built::Bert;
    let given = |names: [&str; 2], default: &str| -> Vec<String> {
        match bert {
            true => vec![settings.token(names[0]).unwrap_or_else(|| default.to_owned())],
            false => names.iter().filter_map(|name| settings.token(name)).collect(),
        }
    };
    let (begins, ends) = (given(["cls_token", "bos_token"], "[CLS]"), given(["sep_token", "eos_token"], "[SEP]"));
    let (first, last) = frame(&file["post_processor"]);
    let blank = |name: &str| {
        [Special::Mask, Special::Gmask, Special::Smask, Special::Sop, Special::Eop]
            .iter()
            .any(|blank| blank.goes_by(name))
    };
    for (frame, named, what) in [(first, begins, "begins"), (last, ends, "ends")] {
        let Some(frame) = frame.filter(|name| !blank(name) && !named.is_empty()) else { continue };
        let known = named.contains(&frame) || !bert && settings.names(&frame);
        ensure!(
            known,
            Hinted::with(
                format!("tokenizer.json {what} texts with {frame}, but tokenizer_config.json calls that {}", named[0]),
                "write in both what the model was trained with",
            )
        );
    }
    let model = &file["model"];
    let own = match model["unk_id"].as_u64() {
        Some(id) => model["vocab"][id as usize][0].as_str(),
        None => model["unk_token"].as_str(),
    };
    if let (Some(said), Some(own)) = (settings.token("unk_token"), own) {
        let known = [said.as_str(), own].iter().all(|name| vocabulary_id(model, name).is_some());
        ensure!(
            said == own || !known,
            "tokenizer_config.json has {said} for what is unknown, but tokenizer.json has {own}"
        );
    }
    Ok(())
}

/// What a post-processor puts before and behind a text.
fn frame(processor: &Value) -> (Option<String>, Option<String>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let (Some(cls), Some(sep)) = (processor.pointer("/cls/0"), processor.pointer("/sep/0")) {
        return (text(cls), text(sep));
    }
    let pieces = processor.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let special = |piece: Option<&Value>| piece?.pointer("/SpecialToken/id").and_then(text);
    (special(pieces.first()), special(pieces.last()))
}
