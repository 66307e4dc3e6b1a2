//! The documentation: generated pages are up to date and complete, what they show works, and links lead somewhere.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use pipe::{recipe::schema, surface::reference::keys};
use serde_json::{Value, json};

use crate::common::Space;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).expect("a page")
}

/// All pages: the READMEs, and what's below `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("README.zh.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The lines of a page that aren't code.
fn prose(page: &str) -> Vec<&str> {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced && !line.starts_with("    ")
    });
    lines.collect()
}

#[test]
fn generated_pages_are_up_to_date() {
    let root = root();
    let root = root.to_str().expect("a path in UTF-8");
    let space = Space::new();
    if std::env::var_os("PIPE_GENERATE").is_some() {
        assert_eq!(space.pipe(&["reference", root]).status, 0);
    }
    let output = space.pipe(&["reference", "--check", root]);
    assert_eq!(output.status, 0, "{}", output.stderr);
}

#[test]
fn stale_pages_are_named_and_written() {
    let space = Space::new();
    for page in ["README.md", "README.zh.md"] {
        space.write(page, "before\n<!-- support -->\n<!-- /support -->\nafter\n");
    }
    space.write("docs/guide/troubleshooting.md", "<!-- statuses -->\n<!-- /statuses -->\n");
    let output = space.pipe(&["reference", "--check"]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("recipe.md is out of date"), "{}", output.stderr);
    assert!(!space.path().join("docs/reference").exists());

    assert_eq!(space.pipe(&["reference"]).status, 0);
    assert_eq!(space.pipe(&["reference", "--check"]).status, 0);
    let readme = space.read("README.md");
    assert!(readme.starts_with("before\n") && readme.contains("| `bert` |") && readme.ends_with("after\n"), "{readme}");
    assert!(space.read("docs/guide/troubleshooting.md").contains("| 130 | stopped by Ctrl-C"));
}

/// Every name under `properties`, wherever it stands, with the definition that has it.
fn properties(schema: &Value) -> BTreeSet<(String, String)> {
    fn walk(owner: &str, schema: &Value, found: &mut BTreeSet<(String, String)>) {
        match schema {
            Value::Object(map) => {
                for (key, value) in map.iter().filter(|(key, _)| *key != "$defs") {
                    if let ("properties", Value::Object(fields)) = (key.as_str(), value) {
                        found.extend(fields.keys().map(|field| (owner.to_owned(), field.clone())));
                        fields.values().for_each(|field| walk(owner, field, found));
                    } else {
                        walk(owner, value, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(owner, item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk("", schema, &mut found);
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        walk(name, definition, &mut found);
    }
    found
}

#[test]
fn every_key_of_the_schema_is_in_the_reference() {
    let schema = schema::published(pipe::stages::catalog());
    let page = read(&root().join("docs/reference/recipe.md"));
    let keys = keys(&schema).expect("a key has no example");
    let listed: BTreeSet<_> = keys.iter().map(|key| (key.owner.clone(), key.name.clone())).collect();
    let missing: Vec<_> = properties(&schema).difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(keys.len() > 100, "{} keys", keys.len());
    for key in &keys {
        assert!(!key.kind.is_empty() && !key.meaning.is_empty(), "{} has no type or no meaning", key.path());
        let example = key.example.as_deref().unwrap_or_default().replace('|', "\\|");
        let row = page.lines().any(|line| line.starts_with(&format!("| `{}` |", key.name)) && line.contains(&example));
        assert!(row, "{} isn't in docs/reference/recipe.md", key.path());
    }
}

#[test]
fn examples_of_the_reference_fit_the_schema() {
    let schema = schema::published(pipe::stages::catalog());
    for key in keys(&schema).expect("a key has no example") {
        let owner = if key.owner.is_empty() { schema.clone() } else { schema["$defs"][&key.owner].clone() };
        let mut field = owner.pointer(&key.pointer).unwrap_or_else(|| panic!("{}", key.path())).clone();
        field["$defs"] = schema["$defs"].clone();
        let example: Value = serde_yaml::from_str(key.example.as_deref().unwrap_or_default()).expect("YAML");
        let value = &example[&key.name];
        let validator = jsonschema::validator_for(&field).expect("a valid schema");
        assert!(validator.is_valid(value) && !value.is_null(), "{}: {value}", key.path());
    }
}

#[test]
fn recipes_in_the_documentation_fit_the_schema() {
    let validator = jsonschema::validator_for(&schema::published(pipe::stages::catalog())).expect("a valid schema");
    let mut recipes = 0;
    for path in pages() {
        let text = read(&path);
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let value: Value =
                serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if value.get("stages").is_some() {
                let mistakes: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
                assert!(mistakes.is_empty(), "{}: {mistakes:#?}", path.display());
                recipes += 1;
            }
        }
    }
    assert!(recipes >= 3, "{recipes} recipes");
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        prose(page).into_iter().filter_map(|line| Some(line.trim_start_matches('#')).filter(|text| *text != line));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings.map(|text| text.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The targets of a page's links and pictures.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page).join("\n");
    let markdown = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    let html = ["src=\"", "href=\""].into_iter().flat_map(|mark| prose.split(mark).skip(1));
    let html = html.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    markdown.chain(html).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    let mut dead = Vec::new();
    for path in pages() {
        let text = read(&path);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let is_inside = target.components().fold(0, |depth, part| match part {
                Component::ParentDir => depth - 1,
                _ => depth + 1,
            }) > 0;
            let found = is_inside && target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            checked += 1;
            if !found {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(checked > 50, "{checked} links");
}

#[test]
fn links_are_found_in_prose_only() {
    let page = "# A `b` c\n[x](y.md#z) <img src=\"p.png\">\n```yaml\n[q](code.md)\n# no heading\n```\n    [r](s.md)\n";
    assert_eq!(links(page), ["y.md#z", "p.png"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["a-b-c"]);
}

#[test]
fn readmes_are_short_and_narrow() {
    for name in ["README.md", "README.zh.md"] {
        let page = read(&root().join(name));
        let lines = page.lines().count();
        assert!(lines <= 130, "{name} has {lines} lines");
        for line in page.lines().filter(|line| !line.starts_with('|') && !line.contains("](") && !line.contains("<img"))
        {
            // A Chinese character is two columns wide.
            let width: usize = line.chars().map(|c| if c as u32 >= 0x2e80 { 2 } else { 1 }).sum();
            assert!(width <= 120, "{name}: {width} columns: {line}");
        }
    }
}

/// The words of a command line, of which quotes keep some together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The commands of the program that a page shows in lines of their own.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("    "));
    let commands = lines.filter_map(|line| {
        let line = line.trim().trim_start_matches("$ ");
        let line = line.split(" #").next()?.split(" > ").next()?;
        let words = words(line);
        let at = words.iter().take_while(|word| word.contains('=') && !word.starts_with('-')).count();
        let program = words.get(at)?;
        (program == "pipe" || program == "target/release/pipe").then(|| words[at + 1..].to_vec())
    });
    commands.collect()
}

#[test]
fn commands_in_the_documentation_exist() {
    let space = Space::new();
    let mut seen = BTreeSet::new();
    for path in pages().into_iter().filter(|path| !path.ends_with("reference/commands.md")) {
        for command in commands(&read(&path)) {
            // Help is printed as soon as it's met, and every option before it has to be known by then.
            let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            arguments.push("--help");
            if seen.insert(command.clone()) {
                let output = space.pipe(&arguments);
                assert_eq!(output.status, 0, "{}: pipe {}\n{}", path.display(), command.join(" "), output.stderr);
            }
            let recipe = command.iter().map(|word| word.split(':').next().unwrap_or(word));
            for recipe in
                recipe.filter(|word| word.starts_with("recipes/") && word.ends_with(".yaml") && !word.contains('*'))
            {
                assert!(root().join(recipe).exists(), "{}: there is no {recipe}", path.display());
            }
        }
    }
    assert!(seen.len() > 40, "{} commands", seen.len());
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--no-such-option", "--help"]).status, 2);
}

/// What the support matrix of the README says of a family, by column.
fn matrix() -> Vec<(String, Vec<String>)> {
    let readme = read(&root().join("README.md"));
    let part = readme.split("<!-- support -->").nth(1).and_then(|rest| rest.split("<!-- /support -->").next());
    let rows = part.expect("the matrix").lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
        (cells.next().expect("a family"), cells.collect())
    });
    rows.collect()
}

/// One step of all that a family can do, each with a model of one small layer.
fn tiny_recipe(family: &str, cells: &[String]) -> Value {
    let train = |batch: Value| json!({ "steps": 1, "lr": 1e-3, "max_length": 64, "batch": batch });
    // A mix of all that the family learns.
    let known = properties(&schema::published(pipe::stages::catalog()));
    let names = |owner: &str| -> Vec<&str> {
        known.iter().filter(|(other, _)| other == owner).map(|(_, name)| name.as_str()).collect()
    };
    let generative = names("Generative");
    let objective = |name: &str| match generative.contains(&name) {
        true => json!({ "generative": { name: {} } }),
        false => json!({ name: {} }),
    };
    let objectives: Vec<Value> = match cells[0].as_str() {
        "every objective" => {
            let names = [names("Objective"), generative.clone()].concat();
            names.into_iter().filter(|name| !["weight", "generative"].contains(name)).map(objective).collect()
        }
        names => names.split(", ").map(objective).collect(),
    };
    let classification = |head: &str| {
        let words = json!({ "a": "好", "b": "差" });
        json!({ "classification": { "head": head, "template": "{{ text }} [Classification]", "words": words } })
    };
    let finetune = |task: Value, data: &str, adapter: Value| {
        let (data, train) = (json!({ "train": { "path": data } }), train(json!({ "examples": 2 })));
        json!({ "finetune": { "from": "base", "adapter": adapter, "data": data, "task": task, "train": train } })
    };
    let tokenize = json!({ "tokenizer": { "bpe": { "vocab_size": 400 } }, "corpus": [{ "path": "corpus.txt" }] });
    let mut stages = json!({
        "tokens": { "tokenize": tokenize },
        "base": { "pretrain": {
            "tokens": "tokens",
            // Of families that count positions on from a prefix, it takes some of them.
            "model": { family: { "hidden": 32, "layers": 1, "heads": 2, "max_length": 80 } },
            "objectives": objectives,
            "train": train(json!({ "tokens": 128 })),
        } },
        "prompt": finetune(classification("prompt"), "rows.jsonl", Value::Null),
        "linear": finetune(classification("linear"), "rows.jsonl", Value::Null),
        "p_tuning": finetune(classification("prompt"), "rows.jsonl", json!({ "p_tuning": { "tokens": 2 } })),
    });
    let target = match family {
        "bert" => "attention.output.dense",
        "gpt2" => "attn.c_proj",
        "glm4" => "o_proj",
        "transformer" => "v_proj",
        _ => "query_key_value",
    };
    let lora = json!({ "lora": { "targets": [target] } });
    stages["lora"] = finetune(classification("prompt"), "rows.jsonl", lora);
    if cells[2] == "✓" {
        stages["instruct"] = finetune(json!({ "instruction": {} }), "chat.jsonl", Value::Null);
    }
    json!({ "stages": stages })
}

#[test]
fn the_support_matrix_is_true() {
    let matrix = matrix();
    assert!(matrix.len() >= 7, "{matrix:?}");
    for (family, cells) in matrix {
        let space = Space::new();
        let text = "今天天气很好。我们去公园散步。\n孩子们在湖边放风筝。老人们下棋。\n\n";
        space.write("corpus.txt", text.repeat(20));
        let rows: String = (0..8)
            .map(|row| format!("{{\"text\": \"第{row}行\", \"label\": \"{}\"}}\n", ["a", "b"][row % 2]))
            .collect();
        space.write("rows.jsonl", rows);
        space.write("chat.jsonl", "{\"prompt\": \"你好\", \"response\": \"好\"}\n".repeat(4));
        let mut recipe = tiny_recipe(&family, &cells);
        space.write("recipe.yaml", recipe.to_string());
        let output = space.pipe(&["run", "recipe.yaml"]);
        assert_eq!(output.status, 0, "{family}: {}", output.stderr);

        let (instruct, generate, chat) = (&cells[2], &cells[5], &cells[6]);
        let output = space.pipe(&["generate", "recipe.yaml", "base", "--prompt", "今天", "--max-tokens", "2"]);
        assert_eq!(output.status == 0, generate == "✓", "{family} generates: {}", output.stderr);
        let output = space.pipe(&["chat", "recipe.yaml", if instruct == "✓" { "instruct" } else { "base" }]);
        assert_eq!(output.status == 0, chat != "–", "{family} chats: {}", output.stderr);
        if instruct != "✓" {
            recipe["stages"]["instruct"] = json!({ "finetune": {
                "from": "base", "data": { "train": { "path": "chat.jsonl" } }, "task": { "instruction": {} },
                "train": { "steps": 1, "lr": 1e-3 },
            } });
            space.write("recipe.yaml", recipe.to_string());
            assert_eq!(space.pipe(&["check", "recipe.yaml"]).status, 2, "{family} can be instructed");
        }
    }
}
