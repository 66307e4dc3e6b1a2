//! What is secret is stored nowhere and told to nobody.

use crate::common;
use common::{Space, TINY, finish, tiny};

use super::commands::CLOSED;

/// The names of files in the store whose path or bytes hold a text.
fn holding(space: &Space, text: &str) -> Vec<String> {
    let files = walkdir::WalkDir::new(space.path().join(".pipe")).into_iter().map(|entry| entry.expect("an entry"));
    let holds = |path: &std::path::Path| {
        path.to_string_lossy().contains(text)
            || std::fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    let files =
        files.filter(|entry| holds(entry.path().strip_prefix(space.path()).expect("below")) || holds(entry.path()));
    files.map(|entry| entry.path().display().to_string()).collect()
}

#[test]
fn value_from_the_environment_is_nowhere_to_be_seen() {
    const SECRET: &str = "hunter2-place";
    let space = tiny();
    for name in ["corpus.txt", "train.tsv", "dev.tsv", "test.tsv"] {
        space.write(&format!("{SECRET}/{name}"), space.read(name));
    }
    // Old enough for their digests to be remembered.
    common::await_settled(&space.path().join(SECRET).join("test.tsv"));
    let recipe =
        TINY.replace("path: ", "path: \"{{ dir }}/").replace(".txt }", ".txt\" }").replace(".tsv }", ".tsv\" }");
    let recipe = format!("vars: {{ dir: '{{{{ env(\"DATA_DIR\") }}}}' }}\n{recipe}");
    space.write("recipe.yaml", &recipe);
    let run = |arguments: &[&str]| {
        let mut command = space.command(arguments);
        command.env("DATA_DIR", SECRET);
        let output = finish(command);
        for text in [&output.stdout, &output.stderr] {
            assert!(!text.contains(SECRET), "{arguments:?}: {text}");
        }
        assert_eq!(holding(&space, SECRET), Vec::<String>::new(), "{arguments:?}");
        output
    };
    assert_eq!(run(&["run", "recipe.yaml", "--json"]).status, 0);
    assert!(space.path().join(".pipe/digests.json").is_file());
    for arguments in [
        &["run", "recipe.yaml"] as &[&str],
        &["plan", "recipe.yaml", "--json"],
        &["why", "recipe.yaml", "topics"],
        &["check", "recipe.yaml"],
        &["ls", "--json"],
        &["predict", "recipe.yaml", "topics", "--text", "赢了"],
    ] {
        assert_eq!(run(arguments).status, 0, "{arguments:?}");
    }
    // Errors of stages, of planning, and of the data.
    let (corpus, row) = common::with_bad_end(&space.read("corpus.txt"));
    space.write(&format!("{SECRET}/corpus.txt"), corpus);
    let output = run(&["run", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains(&format!("{{{{ dir }}}}/corpus.txt: row {row}")) || output.stderr.contains("DATA_DIR"),
        "{}",
        output.stderr
    );
    space.write(&format!("{SECRET}/train.tsv"), CLOSED);
    assert_eq!(run(&["run", "recipe.yaml"]).status, 2);
    space.write(&format!("{SECRET}/train.tsv"), "label\ttext\n甲\n");
    assert_eq!(run(&["run", "recipe.yaml"]).status, 2);
    std::fs::remove_file(space.path().join(SECRET).join("test.tsv")).expect("a removed file");
    assert_eq!(run(&["run", "recipe.yaml"]).status, 2);
}

#[test]
fn secrets_cannot_stand_where_they_would_be_stored() {
    let space = tiny();
    let recipe =
        TINY.replace("甲: 体育", "甲: \"{{ env('WORD') }}\"").replace("seed: 3", "seed: \"{{ env('SEED') | int }}\"");
    let number = "\"{{ env('SEED') | int }}\"";
    let recipe = recipe.replace("hidden: 16", &format!("hidden: {number}"));
    let recipe = recipe.replace("vocab_size: 300", &format!("vocab_size: {number}"));
    let recipe = recipe.replace("steps: 8", &format!("steps: {number}"));
    let recipe = recipe.replace("masked_lm: {}", &format!("weight: {number}, masked_lm: {{}}"));
    let grid = "sweep: { grid: { stages.topics.train.lr: [\"{{ env('SEED') | int }}\"] } }\n";
    space.write("recipe.yaml", format!("{recipe}{grid}"));
    for command in ["run", "sweep", "check"] {
        let mut command = space.command(&[command, "recipe.yaml"]);
        command.env("WORD", "体育").env("SEED", "77124");
        let output = finish(command);
        assert_eq!(output.status, 2);
        for reason in [
            "a task is stored with its model",
            "seeds are recorded",
            "a sweep's settings stand in its table",
            "a model's sizes stand in its config.json",
            "a tokenizer shows its settings",
            "how a model was trained shows in its curve",
            "objectives are stored with their model",
        ] {
            assert!(output.stderr.contains(reason), "{}", output.stderr);
        }
        assert!(!output.stderr.contains("77124") && !output.stderr.contains("体育"), "{}", output.stderr);
    }
}
