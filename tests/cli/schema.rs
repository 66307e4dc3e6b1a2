//! The published JSON Schema: up to date, fitting the recipes that come with the project, and strict.

use crate::common;
use std::path::PathBuf;

use pipe::{recipe::schema, stages::catalog};
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn recipes() -> Vec<PathBuf> {
    let mut files = pipe::recipe::paths::resolve_path("recipes/*.yaml", &root()).unwrap_or_default();
    files.sort();
    files
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&schema::published(catalog())).expect("a valid schema")
}

fn recipe() -> Value {
    json!({
        "vars": {"size": 64},
        "stages": {
            "tokens": {"tokenize": {"tokenizer": {"unigram": {"vocab_size": 800}}, "corpus": [{"path": "a.txt"}]}},
            "base": {"pretrain": {
                "tokens": "tokens",
                "model": {"glm": {"hidden": "{{ size }}", "layers": 2, "heads": 4}},
                "objectives": [{"masked_lm": {}}],
                "train": {"steps": 10, "lr": 1e-3, "schedule": "cosine"},
            }},
        },
    })
}

#[test]
fn the_schema_in_the_repository_is_up_to_date() {
    let path = root().join("schemas/recipe.schema.json");
    let text = schema::text(catalog());
    if std::env::var_os("PIPE_GENERATE").is_some() {
        fs_err::create_dir_all(root().join("schemas")).expect("a folder for the schema");
        fs_err::write(&path, &text).expect("the schema");
    }
    let stored = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "schemas/recipe.schema.json is stale; run the tests with PIPE_GENERATE=1");
}

#[test]
fn the_schema_of_profiles_is_up_to_date_and_says_what_the_program_says() {
    let path = root().join("schemas/profiles.schema.json");
    let text = pipe::session::cluster::profile::schema_text().expect("a schema");
    if std::env::var_os("PIPE_GENERATE").is_some() {
        fs_err::write(&path, &text).expect("the schema");
    }
    let stored = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "schemas/profiles.schema.json is stale; run the tests with PIPE_GENERATE=1");
    let validator = jsonschema::validator_for(&serde_json::from_str(&stored).expect("JSON")).expect("a valid schema");
    assert!(validator.is_valid(&json!({ "profiles": { "a": { "engine": "slurm" } } })));
    for wrong in [json!({ "engine": "slurm", "al": {} }), json!({}), json!({ "engine": "slurm", "group": 0 })] {
        assert!(!validator.is_valid(&json!({ "profiles": { "a": wrong } })), "{wrong}");
    }
}

#[test]
fn recipes_name_the_schema_in_their_first_line() {
    for path in recipes() {
        let text = fs_err::read_to_string(&path).expect("a recipe");
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first, "# yaml-language-server: $schema=../schemas/recipe.schema.json", "{}", path.display());
    }
}

#[test]
fn recipes_fit_the_schema() {
    let validator = validator();
    for path in recipes() {
        let text = fs_err::read_to_string(&path).expect("a recipe");
        let value: Value = serde_yaml::from_str(&text).expect("YAML");
        let mistakes: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(mistakes.is_empty(), "{}: {mistakes:#?}", path.display());
    }
}

#[test]
fn a_recipe_with_expressions_is_accepted() {
    let mut recipe = recipe();
    assert!(validator().is_valid(&recipe));
    recipe["stages"]["base"]["pretrain"]["objectives"] = json!("{{ mix }}");
    recipe["stages"]["base"]["pretrain"]["train"]["packing"] = json!("{{ packing }}");
    recipe["stages"]["base"]["pretrain"]["train"]["schedule"] = json!("{{ schedule }}");
    assert!(validator().is_valid(&recipe));
}

#[test]
fn mistakes_are_rejected_where_they_are() {
    let cases = [
        ("/stages/base/pretrain/train/lr", json!("fast")),
        ("/stages/base/pretrain/train/steps", json!(0)),
        ("/stages/base/pretrain/train/schedule", json!("square")),
        ("/stages/base/pretrain/model/glm/heads", json!("{{ x")),
        ("/stages/base/pretrain/objectives", json!([])),
        ("/stages/tokens/tokenize/corpus/0", json!({"path": "a.txt", "colour": "red"})),
        ("/stages/tokens", json!({"tokenise": {}})),
        ("/stages", json!({})),
    ];
    for (pointer, wrong) in cases {
        let mut recipe = recipe();
        *recipe.pointer_mut(pointer).expect("a place in the recipe") = wrong;
        assert!(!validator().is_valid(&recipe), "{pointer}");
    }
}

#[test]
fn recipes_pass_the_checker() {
    // The var `data` names a folder beside the recipe, or a data set beside the project, which may not be here.
    for path in recipes() {
        let text = fs_err::read_to_string(&path).expect("a recipe");
        let document =
            pipe::recipe::Document::parse(&path, &text, catalog()).unwrap_or_else(|problems| panic!("{problems}"));
        let set = text.lines().find_map(|line| line.trim().strip_prefix("data: ")?.split_whitespace().next());
        let mut vars = Vec::new();
        let is_elsewhere = |set: &&str| !set.starts_with('{') && !root().join("recipes").join(set).exists();
        if let Some(set) = set.filter(is_elsewhere) {
            match common::data(set) {
                Ok(data) => vars.push(("data".to_owned(), data.display().to_string())),
                Err(unmet) => {
                    unmet.tell();
                    continue;
                }
            }
        }
        // The var `checkpoint` names a model of which only the config is looked at.
        let checkpoint = tempfile::tempdir().expect("a directory");
        if text.lines().any(|line| line.trim().starts_with("checkpoint: ")) {
            // One that writes, where the recipe teaches answers.
            let config = if text.contains(" instruction: ") {
                json!({
                    "model_type": "gpt2", "vocab_size": 400, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 2048,
                })
            } else {
                json!({
                    "model_type": "bert", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 2048,
                })
            };
            for (name, text) in [("config.json", config.to_string()), ("tokenizer.json", "{}".to_owned())] {
                fs_err::write(checkpoint.path().join(name), text).expect("a file");
            }
            vars.push(("checkpoint".to_owned(), checkpoint.path().display().to_string()));
            // Its layers have other names than those of the models that the recipe is written for.
            if text.lines().any(|line| line.trim().starts_with("targets: ")) {
                vars.push(("targets".to_owned(), "[attention.self.query]".to_owned()));
            }
        }
        let overrides = pipe::recipe::Overrides { vars, sets: Vec::new() };
        if let Err(problems) = document.check(&overrides, &|_, _| None) {
            panic!("{problems}");
        }
    }
}
