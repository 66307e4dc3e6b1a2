//! `pipe log`: what past runs did, whatever became of their processes.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::common;
use common::{Space, TINY, finish, tiny, with_bad_end};
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Seconds by stage, as the store has them.
fn stored(space: &Space) -> Vec<(String, f64)> {
    let list = space.json(&["ls"]);
    let list = list.as_array().expect("a list").iter();
    list.map(|one| (one["stage"].as_str().expect("a stage").to_owned(), number(&one["seconds"]))).collect()
}

/// The critical path of a run in JSON.
fn path(run: &Value) -> Vec<(String, f64)> {
    let path = run["critical_path"].as_array().expect("a list").iter();
    path.map(|one| (one["stage"].as_str().expect("a stage").to_owned(), number(&one["seconds"]))).collect()
}

#[test]
fn the_critical_path_has_the_times_of_the_stages_that_need_each_other() {
    let space = tiny();
    // A branch that nothing needs, and that takes less than what comes before it and after.
    space.write("recipe.yaml", format!("{TINY}  words:\n    tokenize: {{ tokenizer: {{ stage: tokens }} }}\n"));
    space.json(&["run", "recipe.yaml"]);
    let run = space.json(&["log", "last"]);
    let stored = stored(&space);
    let took = |stage: &str| stored.iter().find(|(name, _)| name == stage).map(|(_, seconds)| *seconds);
    let expected = ["tokens", "base", "topics", "test"].map(|stage| (stage.to_owned(), took(stage).expect("a time")));
    assert_eq!(path(&run), expected);
    assert_eq!((&run["ended"], &run["command"]), (&"done".into(), &"run".into()));
    assert_eq!(run["stages"]["words"]["status"], "ran");
    let whole: f64 = expected.iter().map(|(_, seconds)| seconds).sum();
    assert!(whole <= number(&run["seconds"]), "{run}");

    space.json(&["run", "recipe.yaml"]);
    let runs = space.json(&["log"]);
    assert_eq!(runs.as_array().map(Vec::len), Some(2));
    let all: f64 = stored.iter().map(|(_, seconds)| seconds).sum();
    assert!((number(&runs[0]["saved_seconds"]) - all).abs() < 1e-6, "{}", runs[0]);
    assert_eq!((path(&runs[0]), &runs[1]), (Vec::new(), &run));

    let output = space.pipe(&["log", "--critical-path"]);
    assert_eq!(output.stdout, "critical path: nothing was computed\n");
    let output = space.pipe(&["log", run["run"].as_str().expect("a name"), "--critical-path"]);
    assert!(
        output.stdout.starts_with("critical path: tokens ") && output.stdout.contains(" → base "),
        "{}",
        output.stdout
    );
    let output = space.pipe(&["log", "nothing"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("no run's name begins with `nothing`"), "{}", output.stderr);
}

#[test]
fn what_failed_is_told_with_its_error_and_without_secrets() {
    let space = tiny();
    space.write("corpus.txt", with_bad_end(&space.read("corpus.txt")).0);
    let text = TINY.replace("path: corpus.txt", "path: \"{{ env('PLACE') }}/corpus.txt\"");
    space.write("recipe.yaml", text);
    std::fs::create_dir(space.path().join("geheim")).expect("a folder");
    std::fs::rename(space.path().join("corpus.txt"), space.path().join("geheim/corpus.txt")).expect("moved");
    let mut command = space.command(&["run", "recipe.yaml"]);
    command.env("PLACE", "geheim");
    assert_eq!(finish(command).status, 1);
    let run = space.json(&["log", "last"]);
    assert_eq!((&run["ended"], &run["stages"]["tokens"]["status"]), (&"failed".into(), &"failed".into()));
    assert!(run["stages"]["tokens"]["told"].as_str().is_some_and(|told| told.contains("UTF-8")), "{run}");
    assert_eq!(run["stages"]["test"]["told"], "tokens failed");
    let file = std::fs::read_to_string(run["file"].as_str().expect("a file"))
        .or_else(|_| std::fs::read_to_string(space.path().join(run["file"].as_str().expect("a file"))));
    assert!(!file.expect("the file").contains("geheim"));
    let output = space.pipe(&["log", "last"]);
    assert!(output.stdout.contains("failed in") && output.stdout.contains("UTF-8"), "{}", output.stdout);
}

#[test]
fn after_kills_the_log_has_all_that_was_told_before() {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("steps: 8,", "steps: 100000, log_every: 1,"));
    for kill in 0..20 {
        let mut command = space.command(&["run", "recipe.yaml"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        // Somewhere else each time; the last line may not have come to the log.
        let mut told: Vec<String> = lines.by_ref().take(2 + kill % 5).map(|line| line.expect("a line")).collect();
        child.kill().expect("a process to kill");
        child.wait().expect("an end");
        told.pop();

        let run = space.json(&["log", "last"]);
        assert_eq!(run["ended"], Value::Null, "kill {kill}");
        let text = std::fs::read_to_string(space.path().join(run["file"].as_str().expect("a file"))).expect("a file");
        assert_eq!(run["passed_over"], u64::from(!text.ends_with('\n')), "kill {kill}");
        for line in told {
            let Some((stage, what)) = line.split_once(": ").filter(|(stage, _)| run["stages"].get(stage).is_some())
            else {
                assert!(line.starts_with("warning") || !line.contains(": "), "kill {kill}: {line} in {text}");
                continue;
            };
            let is_progress = what.split_once('/').is_some_and(|(done, _)| done.parse::<u64>().is_ok());
            let word = match what.split(' ').next().unwrap_or_default() {
                "done" => "finished",
                "unchanged" => "hit",
                "tokenize" | "pretrain" => "started",
                _ => what,
            };
            let is_logged = text.lines().any(|line| line.contains(&format!("\"{stage}\"")) && line.contains(word));
            assert!(is_progress || is_logged, "kill {kill}: {line} isn't in {text}");
        }
    }
    let runs = space.json(&["log", "-n", "100"]);
    assert_eq!(runs.as_array().map(Vec::len), Some(20));
}
