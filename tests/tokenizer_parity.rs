//! Loaded tokenizers give the ids and texts that Hugging Face's own binding gives.

use std::path::{Path, PathBuf};

use pipe::text::Tokenizer;
use serde_json::Value;

/// The fixtures' folder: `PIPE_PARITY`, or beside the repository.
fn parity() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity");
    let shared = std::env::var_os("PIPE_SHARED").map(|shared| Path::new(&shared).join("parity"));
    let places = [std::env::var_os("PIPE_PARITY").map(PathBuf::from), Some(beside), shared];
    places.into_iter().flatten().map(|place| place.join("tokenizer")).find(|place| place.is_dir())
}

fn check(name: &str) {
    let Some(folder) = parity().map(|parity| parity.join(name)) else {
        eprintln!("SKIPPED: no parity fixtures; set PIPE_PARITY");
        return;
    };
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let cases: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let special: Vec<(u32, &str)> = json["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (token["id"].as_u64().unwrap() as u32, token["content"].as_str().unwrap()))
        .collect();
    assert!(tokenizer.vocab_size() >= cases["vocab_size"].as_u64().unwrap() as usize);

    let mut checked = 0;
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).unwrap() };
        let encoded = tokenizer.encode(text).unwrap();
        if special.iter().any(|(_, name)| text.contains(name)) {
            // The reference takes special tokens out of the text; here they stay text.
            assert!(
                encoded.iter().all(|id| *id == tokenizer.special.unk || special.iter().all(|(s, _)| s != id)),
                "{text}"
            );
        } else {
            assert_eq!(encoded, ids("ids_no_special"), "{text}");
            checked += 1;
        }
        assert_eq!(tokenizer.decode(&ids("ids"), true).unwrap(), case["decode"].as_str().unwrap(), "{text}");
        let with_special = tokenizer.decode(&ids("ids"), false).unwrap();
        assert_eq!(with_special, case["decode_with_special"].as_str().unwrap(), "{text}");
    }
    assert!(checked >= 30, "only {checked} texts are without special tokens");
}

#[test]
fn parity_of_wordpiece() {
    check("bert_wordpiece");
}

#[test]
fn parity_of_byte_level_bpe() {
    check("byte_level_bpe");
}

#[test]
fn parity_of_unigram() {
    check("unigram");
}
