//! What makes a key: equal meaning gives equal keys, and any other input gives another key to exactly those stages that it
//! reaches. `PIPE_CASES` says how many recipes are tried.

use crate::common;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use common::{Random, Space, cases};
use pipe::{
    engine::store::{DigestCache, Manifest},
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A recipe as a tree, with the files that it names.
#[derive(Clone, Debug)]
struct Pipeline {
    seed: u64,
    /// Stages by name: the kind, and its spec.
    stages: Vec<(String, &'static str, Value)>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Pipeline {
    /// A random one. Every kind that can be planned without a model is in it.
    fn random(random: &mut Random) -> Self {
        let mut new = Self { seed: random.below(5) as u64, stages: Vec::new(), files: BTreeMap::new() };
        for index in 0..1 + random.below(2) {
            let corpus: Vec<_> = (0..1 + random.below(2)).map(|_| new.corpus(random)).collect();
            let tokenizer = match random.below(if index > 0 { 4 } else { 3 }) {
                0 => json!({ "wordpiece": { "vocab_size": 300 + random.below(50) } }),
                1 => json!({ "bpe": { "vocab_size": 300 + random.below(50), "min_frequency": 1 + random.below(3) } }),
                2 => json!({ "unigram": { "vocab_size": 300 + random.below(50) } }),
                _ => json!({ "stage": "tokens0" }),
            };
            let spec = json!({ "tokenizer": tokenizer, "corpus": corpus });
            new.stages.push((format!("tokens{index}"), "tokenize", spec));
        }
        let models = 1 + random.below(3);
        for index in 0..models {
            let tokens = format!("tokens{}", random.below(new.count("tokenize")));
            let train = train(random, "steps");
            let mut spec = json!({ "tokens": tokens, "objectives": [{ "masked_lm": {} }], "train": train });
            if index > 0 && random.one_in(2) {
                spec["from"] = format!("model{}", random.below(index)).into();
                spec["tokens"] = new.spec(&format!("model{}", random.below(index)))["tokens"].clone();
            } else {
                let sizes = json!({ "hidden": 16, "layers": 1 + random.below(2), "heads": 2, "max_length": 64 });
                spec["model"] = json!({ *random.pick(&["glm", "bert"]): sizes });
            }
            if random.one_in(2) {
                spec["objectives"][0]["weight"] = json!(1 + random.below(3));
            }
            new.stages.push((format!("model{index}"), "pretrain", spec));
        }
        for index in 0..random.below(3) {
            let data =
                json!({ "train": { "path": new.file(random, "tsv") }, "dev": { "path": new.file(random, "tsv") } });
            let task = json!({ "template": "{{ text }}：[Classification]", "words": { "a": "甲", "b": "乙" } });
            let spec = json!({
                "from": format!("model{}", random.below(models)),
                "data": data,
                "task": { "classification": task },
                "train": train(random, "epochs"),
            });
            new.stages.push((format!("tuned{index}"), "finetune", spec));
            let spec = json!({ "model": format!("tuned{index}"), "data": { "path": new.file(random, "tsv") } });
            new.stages.push((format!("test{index}"), "eval", spec));
        }
        new
    }

    fn count(&self, kind: &str) -> usize {
        self.stages.iter().filter(|stage| stage.1 == kind).count()
    }

    fn spec(&self, name: &str) -> &Value {
        &self.stages.iter().find(|stage| stage.0 == name).expect("a stage").2
    }

    /// A file that is there already, or a new one.
    fn file(&mut self, random: &mut Random, extension: &str) -> String {
        let known: Vec<_> = self.files.keys().filter(|name| name.ends_with(extension)).cloned().collect();
        if !known.is_empty() && random.one_in(3) {
            return random.pick(&known).clone();
        }
        let name = format!("data/{}.{extension}", self.files.len());
        self.files.insert(name.clone(), random.bytes(20));
        name
    }

    fn corpus(&mut self, random: &mut Random) -> Value {
        let mut source = json!({ "path": self.file(random, "txt") });
        if random.one_in(2) {
            source["document"] = json!(*random.pick(&["line", "file"]));
        }
        if random.one_in(3) {
            source["limit"] = json!(10 + random.below(5));
        }
        source
    }

    fn json(&self) -> Value {
        let stages: Map<_, _> =
            self.stages.iter().map(|(name, kind, spec)| (name.clone(), json!({ *kind: spec }))).collect();
        json!({ "seed": self.seed, "stages": stages })
    }

    /// The stages that read what this one makes, and itself.
    fn below(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = names.into_iter().collect();
        // Stages come after those they need.
        for (name, _, spec) in &self.stages {
            let needs = [&spec["tokens"], &spec["from"], &spec["model"], &spec["tokenizer"]["stage"]];
            if needs.into_iter().filter_map(Value::as_str).any(|need| found.contains(need)) {
                found.insert(name.clone());
            }
        }
        found
    }

    fn readers(&self, file: &str) -> BTreeSet<String> {
        let quoted = Value::from(file).to_string();
        let reads = |(name, _, spec): &(String, &str, Value)| spec.to_string().contains(&quoted).then(|| name.clone());
        self.stages.iter().filter_map(reads).collect()
    }
}

fn train(random: &mut Random, length: &str) -> Value {
    let mut train = json!({ length: 2 + random.below(9), "lr": 1e-3 * (1 + random.below(4)) as f64, "max_length": 32 });
    let options = [
        ("batch", json!({ "examples": 1 + random.below(9) })),
        ("schedule", json!(*random.pick(&["cosine", "constant"]))),
        ("weight_decay", json!(0.05)),
        ("warmup_ratio", json!(0.2)),
        ("seed", json!(random.below(9))),
        ("packing", json!(false)),
    ];
    for (field, value) in options {
        if random.one_in(3) {
            train[field] = value;
        }
    }
    train
}

/// A recipe's text. With `random`, keys come in any order, with comments between them, numbers in other notations.
fn text(value: &Value, random: &mut Option<&mut Random>, depth: usize) -> String {
    let comment = |random: &mut Option<&mut Random>| match random.as_mut().filter(|random| random.0 % 4 == 0) {
        Some(random) => format!(" # {}\n{}", random.below(1000), " ".repeat(2 * depth + 1)),
        None => " ".to_owned(),
    };
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            if let Some(random) = random {
                for last in (1..fields.len()).rev() {
                    fields.swap(last, random.below(last + 1));
                }
            }
            let mut out = String::from("{");
            for (index, (name, field)) in fields.into_iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let (gap, field) = (comment(random), text(field, random, depth + 1));
                // Writing to a string can't fail.
                let _ = write!(out, "{comma}{gap}{}: {field}", Value::from(name.as_str()));
            }
            out + &comment(random) + "}"
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| text(item, random, depth + 1)).collect();
            format!("[{}{}]", items.join(", "), comment(random))
        }
        Value::Number(number) if number.is_f64() && random.as_mut().is_some_and(|random| random.one_in(2)) => {
            format!("{:e}", number.as_f64().unwrap_or_default())
        }
        scalar => scalar.to_string(),
    }
}

/// The keys of all stages; what a stage gives is made up out of its key. The code of `newer` has another version.
fn keys(space: &Space, files: &BTreeMap<String, Vec<u8>>, text: &str, newer: Option<&str>) -> BTreeMap<String, String> {
    for (name, bytes) in files {
        space.write(name, bytes);
    }
    let checked = Document::parse(&space.path().join("recipe.yaml"), text, catalog())
        .and_then(|document| document.check(&Overrides::default(), &|_, _| None))
        .unwrap_or_else(|problems| panic!("{}\n{text}", problems.render(false)));
    let mut digests = DigestCache::default();
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for node in graph(&checked).expect("a graph").nodes() {
        let output = |name: &str| Some(blake3::hash(keys.get(name)?.as_bytes()).to_hex().to_string());
        let manifest = node.manifest(&node.file_digests(&mut digests).expect("files"), &output).expect("all before it");
        let version = manifest.version + u32::from(newer == Some(&node.name));
        keys.insert(node.name.clone(), Manifest { version, ..manifest }.key());
    }
    keys
}

/// Writes out what is the default anyway, and sets what can't matter.
fn spell_out(kind: &str, spec: &mut Value, random: &mut Random) {
    let mut add = |at: &mut Value, fields: &[(&str, Value)]| {
        for (field, value) in fields {
            if at.get(field).is_none() && random.one_in(2) {
                at[*field] = value.clone();
            }
        }
    };
    let source = [("document", json!("paragraph")), ("text", json!([]))];
    match kind {
        "tokenize" => {
            if let Some(tokenizer) = spec["tokenizer"].get_mut("wordpiece") {
                add(tokenizer, &[("min_frequency", json!(2)), ("lowercase", json!(true))]);
            }
            spec["corpus"].as_array_mut().into_iter().flatten().for_each(|one| add(one, &source));
            add(spec, &[("train_on", json!([]))]);
        }
        "eval" => add(&mut spec["data"], &source),
        _ => {
            let train = [
                ("accumulate", json!(1)),
                ("precision", json!("f32")),
                ("packing", json!(true)),
                ("schedule", json!("linear")),
                ("weight_decay", json!(0.01)),
                ("beta1", json!(0.9)),
                ("epsilon", json!(1e-8)),
                ("dropout", json!(0.1)),
                ("log_every", json!(7)),
                ("checkpoint_every", json!(3)),
            ];
            add(&mut spec["train"], &train);
            if kind == "finetune" {
                add(&mut spec["task"]["classification"], &[("label", json!("label")), ("head", json!("prompt"))]);
            }
        }
    }
}

/// Pointers of the values that can be changed by themselves, with another value for each.
fn changes(value: &Value, pointer: &str, found: &mut Vec<(String, Value)>) {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| changes(value, &format!("{pointer}/{field}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| changes(item, &format!("{pointer}/{index}"), found));
        }
        // Names of files and stages, and sizes that have to fit each other.
        _ if ["path", "tokens", "from", "model", "stage", "hidden", "heads"].contains(&name) => {}
        Value::Number(number) => found.push((
            pointer.to_owned(),
            number
                .as_u64()
                .map_or_else(|| json!(number.as_f64().unwrap_or_default() * 0.75), |number| json!(number + 1)),
        )),
        Value::Bool(flag) => found.push((pointer.to_owned(), json!(!flag))),
        Value::String(text) => {
            let other = match (name, text.as_str()) {
                ("document", "line") => "paragraph".to_owned(),
                ("document", _) => "line".to_owned(),
                ("schedule", "cosine") => "linear".to_owned(),
                ("schedule", _) => "cosine".to_owned(),
                (_, text) => format!("{text}丙"),
            };
            found.push((pointer.to_owned(), other.into()));
        }
        Value::Null => {}
    }
}

/// The stages whose keys differ.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<String> {
    assert_eq!(before.len(), after.len());
    before.iter().filter(|(name, key)| after[*name] != **key).map(|(name, _)| name.clone()).collect()
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn equal_meaning_gives_equal_keys(seed in any::<u64>()) {
        let mut random = Random(seed);
        let pipeline = Pipeline::random(&mut random);
        let space = Space::new();
        let before = keys(&space, &pipeline.files, &text(&pipeline.json(), &mut None, 0), None);

        let mut other = pipeline.clone();
        let renamed = |name: &str| format!("another_{name}");
        for (name, kind, spec) in &mut other.stages {
            spell_out(kind, spec, &mut random);
            *name = renamed(name);
            for field in ["/tokens", "/from", "/model", "/tokenizer/stage"] {
                if let Some(Value::String(name)) = spec.pointer_mut(field) {
                    *name = renamed(name);
                }
            }
        }
        other.stages.reverse();
        let files = pipeline.files.iter().map(|(name, bytes)| (name.replace("data/", "else/where/x"), bytes.clone())).collect();
        let said = text(&other.json(), &mut Some(&mut random), 0).replace("data/", "else/where/x");
        let after = keys(&space, &files, &format!("# a comment\n{said}\n"), None);
        for (name, key) in &before {
            prop_assert_eq!(Some(key), after.get(&renamed(name)), "{} in\n{}", name, said);
        }
    }

    #[test]
    fn changed_field_changes_its_stage_and_those_below(seed in any::<u64>()) {
        let mut random = Random(seed);
        let pipeline = Pipeline::random(&mut random);
        let space = Space::new();
        let before = keys(&space, &pipeline.files, &text(&pipeline.json(), &mut None, 0), None);
        for index in 0..pipeline.stages.len() {
            let mut fields = Vec::new();
            changes(&pipeline.stages[index].2, "", &mut fields);
            if fields.is_empty() {
                continue;
            }
            let (pointer, value) = random.pick(&fields).clone();
            let mut other = pipeline.clone();
            *other.stages[index].2.pointer_mut(&pointer).expect("a field") = value;
            let said = text(&other.json(), &mut None, 0);
            let name = pipeline.stages[index].0.clone();
            prop_assert_eq!(
                changed(&before, &keys(&space, &pipeline.files, &said, None)),
                pipeline.below([name.clone()]),
                "{} of {} in\n{}", pointer, name, said
            );
        }
    }

    #[test]
    fn changed_byte_version_or_seed_changes_what_it_reaches(seed in any::<u64>()) {
        let mut random = Random(seed);
        let pipeline = Pipeline::random(&mut random);
        let space = Space::new();
        let said = text(&pipeline.json(), &mut None, 0);
        let before = keys(&space, &pipeline.files, &said, None);

        let mut files = pipeline.files.clone();
        let names: Vec<_> = files.keys().cloned().collect();
        let name = random.pick(&names).clone();
        let bytes = files.get_mut(&name).expect("a file");
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(8);
        let expected = pipeline.below(pipeline.readers(&name));
        prop_assert_eq!(changed(&before, &keys(&space, &files, &said, None)), expected, "{} in\n{}", name, said);

        let newer = random.pick(&pipeline.stages).0.clone();
        let after = keys(&space, &pipeline.files, &said, Some(&newer));
        prop_assert_eq!(changed(&before, &after), pipeline.below([newer]), "{}", said);

        let other = Pipeline { seed: pipeline.seed + 1, ..pipeline.clone() };
        let drawn = pipeline.stages.iter().filter(|(_, kind, spec)| {
            ["pretrain", "finetune"].contains(kind) && spec["train"].get("seed").is_none()
        });
        let expected = pipeline.below(drawn.map(|stage| stage.0.clone()));
        let after = keys(&space, &pipeline.files, &text(&other.json(), &mut None, 0), None);
        prop_assert_eq!(changed(&before, &after), expected, "{}", said);
    }
}
