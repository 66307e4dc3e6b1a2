//! Every field of every kind of stage is in the key, unless the schema says that it can't change the output. A field that is
//! added is tried here without anybody thinking of it.

use std::collections::{BTreeMap, BTreeSet};

use pipe::{
    recipe::walk::{canonical, file_fields, stage_fields},
    stages::{KINDS, catalog},
};
use serde_json::{Map, Value, json};

/// A value of a stage's spec that differs from the first one in one place.
struct Sample {
    value: Value,
    /// The place; empty for the first.
    place: String,
    is_free: bool,
}

/// Values that together try everything a schema allows: the first is whole, each other one differs from it in one place.
fn samples(schema: &Value, definitions: &Value) -> Vec<Sample> {
    let plain = |value: Value, place: &str| Sample { value, place: place.to_owned(), is_free: false };
    if let Some(name) = schema["$ref"].as_str() {
        return samples(&definitions[name.rsplit('/').next().expect("a name")], definitions);
    }
    let branches = ["oneOf", "anyOf"].iter().find_map(|word| schema[*word].as_array());
    if let Some(branches) = branches {
        let all = branches.iter().enumerate().flat_map(|(index, branch)| {
            let mark = move |mut sample: Sample| {
                sample.place = if index > 0 { format!("|{index}{}", sample.place) } else { sample.place };
                sample
            };
            samples(branch, definitions).into_iter().map(mark)
        });
        return all.collect();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().enumerate().map(|(index, word)| plain(word.clone(), &"|".repeat(index))).collect();
    }
    if let Some(word) = schema.get("const") {
        return vec![plain(word.clone(), "")];
    }
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let low = schema["minimum"].as_f64().unwrap_or(0.0);
    let mut found = match types.first().copied() {
        Some("object") if schema["properties"].is_object() || schema["additionalProperties"] == false => {
            record(schema, definitions)
        }
        Some("object") => {
            let inner = samples(&schema["additionalProperties"], definitions);
            let map = |value: &Value| json!({ "a": value, "b": inner[0].value });
            let mut all: Vec<_> = inner
                .iter()
                .map(|one| Sample { value: map(&one.value), place: format!(".a{}", one.place), is_free: one.is_free })
                .collect();
            all[0].place = String::new();
            all.push(plain(json!({ "a": inner[0].value, "c": inner[0].value }), ".c"));
            all
        }
        Some("array") => {
            let inner = samples(&schema["items"], definitions);
            let mut all: Vec<_> = inner
                .iter()
                .map(|one| Sample { value: json!([one.value]), place: one.place.clone(), is_free: one.is_free })
                .collect();
            all.push(plain(json!([inner[0].value, inner[0].value]), "[1]"));
            all
        }
        Some("integer") => vec![plain(json!(low as u64), ""), plain(json!(low as u64 + 1), "+")],
        Some("number") => {
            let high = schema["maximum"].as_f64().unwrap_or(low + 1.0);
            vec![plain(json!(low), ""), plain(json!(f64::midpoint(low, high)), "+")]
        }
        Some("boolean") => vec![plain(json!(false), ""), plain(json!(true), "+")],
        Some("string") => vec![plain(json!("a"), ""), plain(json!("b"), "+")],
        Some("null") => vec![plain(Value::Null, "")],
        other => panic!("{other:?} in {schema}"),
    };
    if types.len() > 1 {
        found.push(plain(Value::Null, "|null"));
    }
    found
}

/// The whole record, and for each field all its other values.
fn record(schema: &Value, definitions: &Value) -> Vec<Sample> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields: Vec<_> =
        fields.map(|(name, field)| (name, samples(field, definitions), field["x-role"] == "free")).collect();
    let whole: Map<_, _> =
        fields.iter().map(|(name, samples, _)| ((*name).clone(), samples[0].value.clone())).collect();
    let mut all = vec![Sample { value: whole.clone().into(), place: String::new(), is_free: false }];
    for (name, samples, is_free) in &fields {
        for sample in &samples[1..] {
            let mut value = whole.clone();
            value.insert((*name).clone(), sample.value.clone());
            let (place, is_free) = (format!(".{name}{}", sample.place), *is_free || sample.is_free);
            all.push(Sample { value: value.into(), place, is_free });
        }
    }
    all
}

/// Whether a value says the same as the first in another way: the first's head asks by prompt, and pools nothing whatever
/// the default is.
fn says_the_same(sample: &Sample) -> bool {
    let task = sample.value.pointer("/task/classification");
    task.is_some_and(|task| task["head"] == "prompt" && task["pooling"].is_null())
}

#[test]
fn every_field_of_every_kind_is_in_the_key_or_said_to_be_free() {
    let schema = catalog().schema();
    let kinds = schema["$defs"]["Stage"]["oneOf"].as_array().expect("kinds of stages");
    let mut free = BTreeSet::new();
    let mut tried = 0;
    for kind in kinds {
        let name = kind["required"][0].as_str().expect("a name");
        let identity = |spec: &Value| {
            let catalog = catalog();
            let stage =
                catalog.read_stage(json!({ name: spec })).unwrap_or_else(|error| panic!("{error} in {name}: {spec}"));
            let (files, stages) = (file_fields(catalog, &stage), stage_fields(catalog, &stage));
            // The version tells apart what the canonical form doesn't, where a default has moved.
            let version = KINDS.named(name).and_then(|kind| kind.version(&stage.settings).ok());
            format!("{} {version:?} {files:?} {stages:?}", canonical(catalog, &stage))
        };
        let all = samples(&kind["properties"][name], &schema["$defs"]);
        let whole = identity(&all[0].value);
        let mut seen = BTreeMap::from([(whole.clone(), String::new())]);
        for sample in &all[1..] {
            tried += 1;
            let (place, identity) = (&sample.place, identity(&sample.value));
            if sample.is_free {
                free.insert(place.split(['+', '|']).next().unwrap_or_default().to_owned());
                assert_eq!(identity, whole, "{name}{place} is free, but in the key");
            } else if says_the_same(sample) {
                assert_eq!(identity, whole);
            } else if let Some(other) = seen.insert(identity, place.clone()) {
                panic!("{name}{place} isn't in the key: it's taken for {name}{other}\n{}", sample.value);
            }
        }
    }
    assert!(tried > 300, "{tried} values");
    // A seed is in the manifest, where it's the stage's or the recipe's. Think twice before adding to these: an artifact is
    // served for any value of them.
    let expected = [
        ".expect",
        ".expect.a.at_least",
        ".expect.a.at_least_of",
        ".expect.a.at_most",
        ".expect.a.at_most_of",
        ".expect.a.drop_at_most",
        ".expect.a.rise_at_most",
        ".expect.c",
        ".train.checkpoint_every",
        ".train.gradient_checkpointing",
        ".train.log_every",
        ".train.micro_batch",
        ".train.seed",
    ];
    assert_eq!(free.into_iter().collect::<Vec<_>>(), expected);
}
