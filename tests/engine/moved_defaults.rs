//! Defaults that have moved: a recipe that says the old value has the key that recipes without the field had, and one that
//! says nothing has another.

use crate::common::tiny;

use pipe::{
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};
use serde_json::{Value, json};

/// Version and canonical spec of each stage, all of a manifest that a recipe's words decide: as
/// `[("chat", 1, {...}), ...]`.
fn identities(stages: &Value) -> Vec<(String, u32, Value)> {
    let space = tiny();
    space.write("chat.jsonl", "{\"prompt\": \"一\", \"response\": \"二\"}\n");
    let gpt2 = json!({ "vocab_size": 300, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2 });
    for family in ["gpt2", "marian"] {
        let mut config = gpt2.clone();
        config["model_type"] = family.into();
        if family == "marian" {
            config = json!({
                "model_type": family, "vocab_size": 300, "d_model": 16, "max_position_embeddings": 64,
                "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1,
                "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "decoder_start_token_id": 0,
            });
        }
        space.write(&format!("{family}/config.json"), config.to_string());
    }
    let recipe = json!({ "seed": 1, "stages": stages }).to_string();
    let checked = Document::parse(&space.path().join("recipe.yaml"), &recipe, catalog())
        .and_then(|document| document.check(&Overrides::default(), &|_, _| None))
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let graph = graph(&checked).expect("a graph");
    graph.nodes().map(|node| (node.name.clone(), node.version, node.canonical.clone())).collect()
}

/// A recipe with one stage more, and the identity of that.
fn of(name: &str, stage: Value) -> (u32, Value) {
    let mut stages = json!({
        "tokens": { "tokenize": { "tokenizer": { "bpe": { "vocab_size": 300 } }, "corpus": [{ "path": "corpus.txt" }] } },
        "base": { "pretrain": {
            "tokens": "tokens",
            "model": { "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 64 } },
            "objectives": [{ "generative": { "causal_lm": {} } }],
            "train": { "steps": 2, "lr": 1e-3, "max_length": 32 },
        } },
    });
    stages[name] = stage;
    let (_, version, canonical) = identities(&stages).into_iter().find(|(found, ..)| found == name).expect("the stage");
    (version, canonical)
}

#[test]
fn turns_that_recipes_did_not_say_were_the_last() {
    let chat = |task: Value| {
        let (version, canonical) = of(
            "chat",
            json!({ "finetune": {
            "from": "base", "data": { "train": { "path": "chat.jsonl" } }, "task": { "instruction": task },
            "train": { "epochs": 1, "lr": 1e-3, "max_length": 32 },
        } }),
        );
        (version, canonical["task"].clone())
    };
    // Version 1 and this were what a recipe with `instruction: {}` had when there was no choice.
    assert_eq!(chat(json!({ "turns": "last" })), (1, json!({ "instruction": {} })));
    assert_eq!(chat(json!({})), (1, json!({ "instruction": { "turns": "all" } })));
    assert_eq!(chat(json!({ "turns": "all" })), chat(json!({})));
}

#[test]
fn windows_that_recipes_did_not_say_had_no_stride() {
    let test = |mut eval: Value| {
        eval["model"] = "base".into();
        of("test", json!({ "eval": eval }))
    };
    assert_eq!(test(json!({ "tokens": "tokens", "stride": 0 })), (2, json!({})));
    assert_eq!(test(json!({ "tokens": "tokens" })), (3, json!({})));
    assert_eq!(test(json!({ "tokens": "tokens", "stride": 8 })), (3, json!({ "stride": 8 })));
}

#[test]
fn only_whole_words_have_new_code() {
    let pretrain = |objectives: Value| {
        let (version, canonical) = of(
            "other",
            json!({ "pretrain": {
            "tokens": "tokens",
            "model": { "bert": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 64 } },
            "objectives": objectives,
            "train": { "steps": 2, "lr": 1e-3, "max_length": 32 },
        } }),
        );
        (version, canonical["objectives"].clone())
    };
    assert_eq!(pretrain(json!([{ "masked_lm": {} }])), (1, json!([{ "masked_lm": {} }])));
    assert_eq!(pretrain(json!([{ "masked_lm": { "whole_word": false } }])), (1, json!([{ "masked_lm": {} }])));
    let whole = json!([{ "masked_lm": { "whole_word": true } }]);
    assert_eq!(pretrain(whole.clone()), (2, whole));
}

#[test]
fn heads_that_recipes_did_not_say_read_the_mean() {
    let classify = |task: Value| {
        let mut classification = json!({ "template": "{{ text }}[Classification]", "words": { "a": "一", "b": "二" } });
        classification.as_object_mut().expect("a task").extend(task.as_object().expect("settings").clone());
        let (version, canonical) = of(
            "cls",
            json!({ "finetune": {
            "from": "base", "data": { "train": { "path": "train.tsv" } }, "task": { "classification": classification },
            "train": { "epochs": 1, "lr": 1e-3, "max_length": 32 },
        } }),
        );
        (version, canonical["task"]["classification"].get("pooling").cloned())
    };
    // Version 1 and nothing were what a recipe had that didn't say it.
    assert_eq!(classify(json!({ "head": "linear", "pooling": "mean" })), (1, None));
    assert_eq!(classify(json!({ "head": "linear" })), (2, None));
    assert_eq!(classify(json!({ "head": "linear", "pooling": "last" })), (2, Some(json!("last"))));
    assert_eq!([classify(json!({})), classify(json!({ "pooling": "mean" }))], [(1, None), (1, None)]);
}

/// The version that stages have by themselves, and that of one which says the old dropout, are the same.
#[test]
fn dropout_that_recipes_did_not_say_was_a_tenth_for_checkpoints_too() {
    let train = |from: Value, dropout: Value| {
        let topics = json!({ "finetune": {
            "from": from, "data": { "train": { "path": "train.tsv" } },
            "task": { "classification": { "template": "{{ text }}[Classification]", "words": { "甲": "体", "乙": "食" } } },
            "train": { "epochs": 1, "lr": 1e-3, "max_length": 32, "dropout": dropout },
        } });
        let (version, canonical) = of("topics", topics);
        (version, canonical["train"]["dropout"].clone())
    };
    // A model of the recipe's own still has 0.1 where nothing is said.
    assert_eq!(train(json!("base"), Value::Null), (1, Value::Null));
    assert_eq!(train(json!("base"), json!(0.1)), (1, Value::Null));
    let gpt2 = || json!({ "checkpoint": "gpt2" });
    assert_eq!(train(gpt2(), json!(0.1)), (1, Value::Null));
    assert_eq!(train(gpt2(), json!(0.0)), (1, json!(0.0)));
    assert_eq!(train(gpt2(), Value::Null), (2, Value::Null));
    // Marian's sources are framed otherwise, too.
    let marian = || json!({ "checkpoint": "marian" });
    assert_eq!(train(marian(), json!(0.1)), (2, Value::Null));
    assert_eq!(train(marian(), Value::Null), (3, Value::Null));
}
