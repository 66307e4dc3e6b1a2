//! What `--json` prints, held against `schemas/output.schema.json`.

use std::{collections::HashMap, path::Path, sync::Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Fails unless a command's output fits its definition.
#[track_caller]
pub fn fits(command: &str, output: &Value) {
    static KNOWN: Mutex<Option<HashMap<String, Validator>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let validator = known.get_or_insert_default().entry(command.to_owned()).or_insert_with(|| validator(command));
    let mistakes: Vec<String> = validator
        .iter_errors(output)
        .map(|error| format!("{} at `{}`", error.to_string().chars().take(300).collect::<String>(), error.instance_path()))
        .collect();
    assert!(mistakes.is_empty(), "pipe {command} --json: {mistakes:#?}");
}

fn validator(command: &str) -> Validator {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/output.schema.json"));
    let schema: Value = serde_json::from_str(&text.expect("the schema")).expect("JSON");
    assert!(schema["$defs"].get(command).is_some(), "schemas/output.schema.json has nothing on `pipe {command}`");
    let own = json!({ "$ref": format!("#/$defs/{command}"), "$defs": schema["$defs"] });
    jsonschema::validator_for(&own).expect("a valid schema")
}
