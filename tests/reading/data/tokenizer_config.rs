//! `tokenizer_config.json` beside `tokenizer.json`: the ids are those that `AutoTokenizer.from_pretrained(DIRECTORY)` of
//! transformers 5.23 gives (with `add_special_tokens=False`), or the directory is refused.

use std::fs;

use pipe::data::text::{ABSENT, Special, Tokenizer};
use serde_json::{Value, json};

const PIECES: [&str; 14] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "Hello", "world", "cafe", "café", "你", "好", "##s", "<s>"];

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}

/// BERT's, whose normalizer changes to lower case or doesn't.
fn bert(lowercase: bool) -> Value {
    let vocabulary: Value = (0..).zip(PIECES).map(|(id, piece): (u32, _)| (piece.to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (0..5).map(|id| added(id, PIECES[id], true)).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": lowercase,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    })
}

/// GPT-2's, of all bytes and ` a`, `ab` and ` ab`.
fn gpt2(prefix: bool) -> Value {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut letters: Vec<String> =
        (0..256).filter(|&byte| printable(byte)).filter_map(char::from_u32).map(String::from).collect();
    let others = 256 - letters.len() as u32;
    letters.extend((0..others).filter_map(|at| char::from_u32(0x100 + at)).map(String::from));
    letters.sort();
    let pieces = letters.into_iter().chain(["Ġa", "ab", "Ġab", "<|endoftext|>"].map(str::to_owned));
    let vocabulary: Value = (0..).zip(pieces).map(|(id, piece): (u32, _)| (piece, json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(259, "<|endoftext|>", true)],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": [["Ġ", "a"], ["a", "b"], ["Ġa", "b"]],
        },
    })
}

fn load(tokenizer: &Value, config: Value, model: &str, others: &[(&str, Value)]) -> anyhow::Result<Tokenizer> {
    let directory = tempfile::tempdir().unwrap();
    let model = json!({ "model_type": model });
    let files = [("tokenizer.json", tokenizer), ("tokenizer_config.json", &config), ("config.json", &model)];
    let others = others.iter().map(|(name, value)| (*name, value));
    for (name, value) in files.into_iter().chain(others).filter(|(_, value)| !value.is_null()) {
        fs::write(directory.path().join(name), value.to_string()).unwrap();
    }
    Tokenizer::load(directory.path())
}

#[track_caller]
fn gives(tokenizer: &Value, config: Value, model: &str, texts: &[&str], expected: &[&[u32]]) {
    let tokenizer = load(tokenizer, config, model, &[]).unwrap_or_else(|error| panic!("{error:#}"));
    let found: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn refuses(tokenizer: &Value, config: Value, model: &str, told: &str) {
    let error = format!("{:#}", load(tokenizer, config, model, &[]).err().expect("a refusal"));
    assert!(error.contains(told), "{error}");
}

const TEXTS: [&str; 3] = ["Hello world", "café 你好", "hello worlds"];
const LOWER: [&[u32]; 3] = [&[5, 7], &[8, 10, 11], &[5, 7, 12]];
const CASED: [&[u32]; 3] = [&[6, 7], &[9, 10, 11], &[5, 7, 12]];

#[test]
fn berts_settings_and_their_defaults_go_before_the_file() {
    let class = |more: Value| {
        let mut config = json!({ "tokenizer_class": "BertTokenizer" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    gives(&bert(true), class(json!({ "do_lower_case": false })), "bert", &TEXTS, &CASED);
    gives(&bert(false), class(json!({ "do_lower_case": true })), "bert", &TEXTS, &LOWER);
    gives(&bert(false), class(json!({})), "bert", &TEXTS, &LOWER);
    gives(&bert(false), json!({ "do_lower_case": true }), "bert", &TEXTS, &LOWER);
    gives(&bert(true), class(json!({ "strip_accents": false })), "bert", &TEXTS, &[&[5, 7], &[9, 10, 11], &[5, 7, 12]]);
    gives(
        &bert(true),
        class(json!({ "tokenize_chinese_chars": false })),
        "bert",
        &TEXTS,
        &[&[5, 7], &[8, 1], &[5, 7, 12]],
    );
    // A class that takes the file as it is looks at nothing else; and without settings there's only the file.
    gives(
        &bert(false),
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": true }),
        "bert",
        &TEXTS,
        &CASED,
    );
    gives(&bert(false), Value::Null, "bert", &TEXTS, &CASED);
}

#[test]
fn gpt2s_space_before_a_text_is_the_settings() {
    let texts = ["ab ab", "a b"];
    let (with, without): ([&[u32]; 2], [&[u32]; 2]) = ([&[258, 258], &[256, 220, 65]], [&[257, 258], &[64, 220, 65]]);
    let class = json!({ "tokenizer_class": "GPT2Tokenizer" });
    gives(&gpt2(true), class.clone(), "gpt2", &texts, &without);
    gives(&gpt2(false), json!({ "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true }), "gpt2", &texts, &with);
    gives(&gpt2(false), json!({ "add_prefix_space": true }), "gpt2", &texts, &with);
    // The fourth version follows the setting, and the fifth the file.
    let told = "tokenizer_config.json says add_prefix_space: true, but tokenizer.json is made for false";
    refuses(
        &gpt2(false),
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": true }),
        "gpt2",
        told,
    );
    refuses(&gpt2(false), json!({ "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true }), "glm4", told);
    refuses(&gpt2(false), json!({ "tokenizer_class": "RobertaTokenizer", "add_prefix_space": true }), "bert", told);
}

#[test]
fn what_versions_of_the_library_read_differently_is_refused() {
    let class = || json!({ "tokenizer_class": "BertTokenizer" });
    refuses(
        &gpt2(false),
        class(),
        "bert",
        "tokenizer.json has a model of the type \"BPE\", in place of which BertTokenizer",
    );
    let changed = |mut file: Value, pointer: &str, value: Value| {
        *file.pointer_mut(pointer).unwrap() = value;
        file
    };
    let lower = json!({ "type": "Lowercase" });
    refuses(
        &changed(bert(true), "/normalizer", lower.clone()),
        class(),
        "bert",
        "another normalizer than BertNormalizer",
    );
    refuses(
        &changed(bert(true), "/normalizer/clean_text", json!(false)),
        class(),
        "bert",
        "a normalizer with clean_text false",
    );
    let words = json!({ "type": "Whitespace" });
    refuses(&changed(bert(true), "/pre_tokenizer", words.clone()), class(), "bert", "another pre-tokenizer");
    refuses(
        &changed(bert(true), "/model/max_input_chars_per_word", json!(20)),
        class(),
        "bert",
        "max_input_chars_per_word 20",
    );
    let class = || json!({ "tokenizer_class": "GPT2Tokenizer" });
    refuses(&bert(true), class(), "gpt2", "a model of the type \"WordPiece\"");
    refuses(
        &changed(gpt2(true), "/normalizer", lower),
        class(),
        "gpt2",
        "a normalizer, in place of which GPT2Tokenizer",
    );
    refuses(&changed(gpt2(true), "/pre_tokenizer", words), class(), "gpt2", "another pre-tokenizer than ByteLevel");
    refuses(
        &changed(gpt2(true), "/model/ignore_merges", json!(true)),
        class(),
        "gpt2",
        "a model with ignore_merges true",
    );
    // Classes that aren't known here may not be contradicted.
    let told = "tokenizer_config.json says do_lower_case: false, but tokenizer.json is made for true";
    refuses(&bert(true), json!({ "tokenizer_class": "LayoutTokenizer", "do_lower_case": false }), "bert", told);
}

/// Added tokens as `added_tokens_decoder` has them.
fn listed(more: &[(&str, Value)]) -> Value {
    let own = (0..5).map(|id| (id.to_string(), json!({ "content": PIECES[id], "special": true, "normalized": false })));
    own.chain(more.iter().map(|(id, token)| ((*id).to_owned(), token.clone()))).collect()
}

#[test]
fn added_tokens_are_those_of_the_settings() {
    let new = json!({ "content": "new", "special": false, "normalized": true, "single_word": true });
    let marks = json!({ "content": "<s>", "special": false, "normalized": false });
    let texts = ["hello new world", "newhello <s> New"];
    for class in ["BertTokenizer", "PreTrainedTokenizerFast"] {
        let config = json!({
            "tokenizer_class": class, "added_tokens_decoder": listed(&[("13", marks.clone()), ("14", new.clone())]),
        });
        gives(&bert(true), config, "bert", &texts, &[&[5, 14, 7], &[1, 13, 14]]);
    }
    let class = json!({ "tokenizer_class": "BertTokenizer" });
    let tokenizer = load(&bert(true), class, "bert", &[("added_tokens.json", json!({ "new": 14 }))]).unwrap();
    assert_eq!(tokenizer.encode("hello new world").unwrap(), [5, 14, 7]);

    // What the library would give another id, or lose.
    let told = "lists \"new\" under the id 20, but beside tokenizer.json it gets 14";
    let config = json!({ "tokenizer_class": "BertTokenizer", "added_tokens_decoder": listed(&[("20", new)]) });
    refuses(&bert(true), config, "bert", told);
    let mut file = bert(true);
    file["added_tokens"].as_array_mut().unwrap().push(added(14, "new", false));
    let config = json!({ "tokenizer_class": "BertTokenizer", "added_tokens_decoder": listed(&[]) });
    refuses(&file, config, "bert", "an added token \"new\" that isn't in tokenizer_config.json");
    // And those that it tells otherwise.
    let other = json!({ "content": "new", "special": false, "normalized": true, "lstrip": true });
    let config = json!({ "tokenizer_class": "BertTokenizer", "added_tokens_decoder": listed(&[("14", other)]) });
    gives(&file, config, "bert", &["hello newhello", "hello new world"], &[&[5, 14, 5], &[5, 14, 7]]);
}

#[test]
fn special_tokens_have_the_names_of_the_settings() {
    let mask = |config: Value| {
        let others = [("special_tokens_map.json", json!({ "mask_token": "<s>" }))];
        load(&bert(true), config, "bert", &others).unwrap().special.mask
    };
    let class = json!({ "tokenizer_class": "BertTokenizer", "mask_token": "[MASK]" });
    assert_eq!(mask(class.clone()), 13);
    let mut list = class;
    list["added_tokens_decoder"] = listed(&[]);
    assert_eq!(mask(list), 4);

    let extra = json!({ "tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<x>", "<s>"] });
    let tokenizer = load(&bert(true), extra, "bert", &[]).unwrap();
    assert_eq!((tokenizer.id("<x>"), tokenizer.vocab_size()), (Some(14), 15));
    assert_eq!(tokenizer.with_special_in_text().encode("hello <x> world <s>").unwrap(), [5, 14, 7, 13]);

    // The fifth version puts <s> before a text, and the fourth [CLS].
    let told = "tokenizer.json begins texts with [CLS], but tokenizer_config.json calls that <s>";
    refuses(&bert(true), json!({ "tokenizer_class": "BertTokenizer", "cls_token": "<s>" }), "bert", told);
    refuses(&bert(true), json!({ "tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<s>" }), "bert", told);
    let told = "tokenizer_config.json has <s> for what is unknown, but tokenizer.json has [UNK]";
    refuses(&bert(true), json!({ "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<s>" }), "bert", told);
}

#[test]
fn a_blank_line_at_the_end_of_a_vocabulary_is_no_token() {
    let directory = tempfile::tempdir().unwrap();
    for end in ["", "\n", "\n\n", "\r\n\r\n"] {
        fs::write(directory.path().join("vocab.txt"), format!("{}{end}", PIECES.join("\n"))).unwrap();
        let tokenizer = Tokenizer::load(directory.path()).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.special.id(Special::Unk)), (14, 1), "{end:?}");
        assert_eq!(tokenizer.encode("Hello café").unwrap(), [5, 8]);
        assert_eq!(tokenizer.special.id(Special::Sop), ABSENT);
    }
    // One between others keeps the numbers behind it.
    fs::write(directory.path().join("vocab.txt"), "[PAD]\n[UNK]\n\nhello\n").unwrap();
    assert_eq!(Tokenizer::load(directory.path()).unwrap().encode("hello").unwrap(), [3]);
}
