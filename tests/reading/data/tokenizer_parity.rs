//! Tokenizers give the ids, places and texts that Hugging Face's own binding gives, from each of the forms that a
//! checkpoint may bring them in.

use crate::common::{need, parity};
use std::{fs, ops::Range, path::Path};

use pipe::data::text::Tokenizer;
use serde_json::Value;

/// Holds a tokenizer against the cases of a folder, whose tokenizer.json says which tokens are special.
fn check(tokenizer: &Tokenizer, folder: &Path, name: &str) {
    let read = |file: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap() };
    let (cases, json) = (read("cases.json"), read("tokenizer.json"));
    let special: Vec<(u32, &str)> = json["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (token["id"].as_u64().unwrap() as u32, token["content"].as_str().unwrap()))
        .collect();
    assert_eq!(tokenizer.vocab_size() as u64, cases["vocab_size"].as_u64().unwrap(), "{name}");
    let marked = tokenizer.clone().with_special_in_text();

    let mut plain = 0;
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).unwrap() };
        let offsets: Vec<(usize, usize)> = serde_json::from_value(case["offsets"].clone()).unwrap();
        let places: Vec<Range<usize>> = offsets.into_iter().map(|(start, end)| start..end).collect();
        let expected: Vec<_> = ids("ids").into_iter().zip(places).collect();
        assert_eq!(marked.encode_with_offsets(text, true).unwrap(), expected, "{name}: {text:?}");
        assert_eq!(marked.encode(text).unwrap(), ids("ids_no_special"), "{name}: {text:?}");
        let encoded = tokenizer.encode(text).unwrap();
        if special.iter().any(|(_, name)| text.contains(name)) {
            // The reference takes special tokens out of the text; texts that are learnt from keep them as text.
            let is_special =
                |id: &u32| *id != tokenizer.special.unk && special.iter().any(|(special, _)| special == id);
            assert!(!encoded.iter().any(is_special), "{name}: {text:?}");
        } else {
            assert_eq!(encoded, ids("ids_no_special"), "{name}: {text:?}");
            plain += 1;
        }
        assert_eq!(tokenizer.decode(&ids("ids"), true).unwrap(), case["decode"].as_str().unwrap(), "{name}: {text:?}");
        let with_special = tokenizer.decode(&ids("ids"), false).unwrap();
        assert_eq!(with_special, case["decode_with_special"].as_str().unwrap(), "{name}: {text:?}");
    }
    assert!(plain > 0, "{name}: every text spells special tokens");
}

fn check_json(name: &str) {
    let folder = need!(parity::fixture("tokenizer")).join(name);
    let tokenizer = Tokenizer::load(&folder).unwrap();
    check(&tokenizer, &folder, name);
    // What is saved is the same tokenizer.
    let out = tempfile::tempdir().unwrap();
    tokenizer.save(&out.path().join("tokenizer.json")).unwrap();
    check(&Tokenizer::load(out.path()).unwrap(), &folder, name);
}

#[test]
fn parity_of_wordpiece() {
    check_json("bert_wordpiece");
}

#[test]
fn parity_of_byte_level_bpe() {
    check_json("byte_level_bpe");
}

#[test]
fn parity_of_unigram() {
    check_json("unigram");
}

#[test]
fn parity_of_bert_vocabulary_file() {
    let folder = need!(parity::fixture("tokenizer")).join("bert_wordpiece");
    let bare = tempfile::tempdir().unwrap();
    fs::copy(folder.join("vocab.txt"), bare.path().join("vocab.txt")).unwrap();
    check(&Tokenizer::load(bare.path()).unwrap(), &folder, "vocab.txt");
}

/// The vocabulary and the merges out of tokenizer.json, as GPT-2's checkpoints have them.
#[test]
fn parity_of_gpt2_vocabulary_and_merges() {
    let folder = need!(parity::fixture("tokenizer")).join("byte_level_bpe");
    let json: Value = serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let merge = |merge: &Value| match merge.as_array() {
        Some(parts) => parts.iter().map(|part| part.as_str().unwrap()).collect::<Vec<_>>().join(" "),
        None => merge.as_str().unwrap().to_owned(),
    };
    let merges: Vec<String> = json["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    fs::write(files.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    check(&Tokenizer::load(files.path()).unwrap(), &folder, "vocab.json");
}

/// A checkpoint's own files agree with one another.
#[test]
fn parity_of_a_bert_checkpoint_with_and_without_its_json() {
    let (bert, texts) = (need!(parity::fixture("bert")), need!(parity::fixture("tokenizer")));
    let whole = Tokenizer::load(&bert).unwrap();
    let files = tempfile::tempdir().unwrap();
    for name in ["vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "config.json"] {
        fs::copy(bert.join(name), files.path().join(name)).unwrap();
    }
    let rebuilt = Tokenizer::load(files.path()).unwrap();
    assert_eq!(rebuilt.special, whole.special);
    let cases: Value = serde_json::from_slice(&fs::read(texts.join("bert_wordpiece/cases.json")).unwrap()).unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let expected = whole.encode_with_offsets(text, true).unwrap();
        assert_eq!(rebuilt.encode_with_offsets(text, true).unwrap(), expected, "{text:?}");
        assert_eq!(rebuilt.encode(text).unwrap(), whole.encode(text).unwrap(), "{text:?}");
    }
}
