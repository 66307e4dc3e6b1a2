//! What makes a stage run again, and what doesn't.

use crate::common;
use common::{Space, TINY, tiny};

const ALL_RAN: &str = "base=ran test=ran tokens=ran topics=ran";
const ALL_HIT: &str = "base=hit test=hit tokens=hit topics=hit";

fn after_change(space: &Space, from: &str, to: &str) -> String {
    assert!(TINY.contains(from), "the tiny recipe has no {from:?}");
    space.write("recipe.yaml", TINY.replace(from, to));
    space.statuses(&["recipe.yaml"])
}

#[test]
fn second_run_computes_nothing_and_says_so() {
    let space = tiny();
    assert_eq!(space.statuses(&["recipe.yaml"]), ALL_RAN);
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 0);
    assert!(output.stderr.contains("nothing to do: all 5 stages are unchanged"), "{}", output.stderr);
    assert!(output.stdout.contains("linear   naive Bayes"), "{}", output.stdout);
}

#[test]
fn same_recipe_gives_the_same_bytes() {
    let digests = |space: &Space| {
        let result = space.json(&["run", "recipe.yaml"]);
        ["tokens", "base", "topics", "test"].map(|stage| result["stages"][stage]["digest"].as_str().unwrap().to_owned())
    };
    assert_eq!(digests(&tiny()), digests(&tiny()));
}

#[test]
fn comment_key_order_path_and_log_cadence_change_nothing() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    assert_eq!(after_change(&space, "seed: 3", "seed: 3 # three"), ALL_HIT);
    let swapped = "heads: 2, layers: 1, hidden: 16, max_length: 64";
    assert_eq!(after_change(&space, "hidden: 16, layers: 1, heads: 2, max_length: 64", swapped), ALL_HIT);
    assert_eq!(after_change(&space, "words: { 甲: 体育, 乙: 美食 }", "words: { 乙: 美食, 甲: 体育 }"), ALL_HIT);
    assert_eq!(after_change(&space, "lr: 1.0e-3 }\n  topics", "log_every: 1, lr: 0.001 }\n  topics"), ALL_HIT);
    assert_eq!(after_change(&space, "lr: 1.0e-3 }\n  topics", "dropout: 0.1, lr: 0.001 }\n  topics"), ALL_HIT);
    space.write("other/corpus.txt", space.read("corpus.txt"));
    assert_eq!(after_change(&space, "corpus.txt", "other/corpus.txt"), ALL_HIT);
}

#[test]
fn renamed_stage_runs_nothing() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    space.write("recipe.yaml", TINY.replace("topics", "subjects"));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit subjects=hit test=hit tokens=hit");
}

#[test]
fn changed_tokenizer_invalidates_pretrain() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    assert_eq!(after_change(&space, "vocab_size: 300", "vocab_size: 40"), ALL_RAN);
}

#[test]
fn changed_learning_rate_runs_what_depends_on_it() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    let status = space.statuses(&["recipe.yaml", "--set", "stages.topics.train.lr=2e-3"]);
    assert_eq!(status, "base=hit test=ran tokens=hit topics=ran");
    let status = space.statuses(&["recipe.yaml", "--set", "stages.base.train.lr=2e-3"]);
    assert_eq!(status, "base=ran test=ran tokens=hit topics=ran");
}

#[test]
fn changed_byte_of_a_data_file_runs_what_reads_it() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    space.write("test.tsv", space.read("test.tsv").replace('蛋', "月"));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=ran tokens=hit topics=hit");
    space.write("train.tsv", space.read("train.tsv").replace('快', "慢"));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=ran tokens=hit topics=ran");
}

#[test]
fn upstream_that_runs_again_with_equal_output_stops_there() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    assert_eq!(space.statuses(&["recipe.yaml", "--force", "tokens"]), "base=hit test=hit tokens=ran topics=hit");
    // Documents of one sentence each line: the blank line at the end makes no new one.
    space.write("corpus.txt", format!("{}\n\n", space.read("corpus.txt")));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=hit tokens=ran topics=hit");
}

#[test]
fn why_names_the_field() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    let output = space.pipe(&["why", "recipe.yaml", "topics", "--set", "stages.topics.train.lr=2e-3"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout.contains("train.lr: 0.001 → 0.002"), "{}", output.stdout);
    let output =
        space.pipe(&["why", "recipe.yaml", "topics", "--set", "stages.tokens.tokenizer.wordpiece.vocab_size=200"]);
    assert!(output.stdout.contains("tokenizer.wordpiece.vocab_size: 300 → 200"), "{}", output.stdout);
    let output = space.pipe(&["why", "recipe.yaml", "topics"]);
    assert!(output.stdout.contains("unchanged"), "{}", output.stdout);
}

#[test]
fn plan_tells_hit_miss_and_reason() {
    let space = tiny();
    let plan = space.json(&["plan", "recipe.yaml"]);
    assert_eq!(plan["stages"]["tokens"]["status"], "miss");
    assert_eq!(plan["stages"]["base"]["status"], "waits");
    let _ = space.statuses(&["recipe.yaml"]);
    let plan = space.json(&["plan", "recipe.yaml", "--set", "stages.base.train.steps=9"]);
    assert_eq!(plan["stages"]["tokens"]["status"], "hit");
    assert_eq!(plan["stages"]["base"]["reason"], "train.steps: 8 → 9");
    let chart = space.pipe(&["plan", "recipe.yaml", "--format", "mermaid"]);
    assert!(chart.stdout.starts_with("flowchart LR"), "{}", chart.stdout);
}

#[test]
fn two_processes_compute_a_stage_once() {
    let space = tiny();
    let start = || {
        let mut command = space.command(&["run", "recipe.yaml", "--json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("a process")
    };
    let runs = [start(), start()].map(|child| child.wait_with_output().expect("an end"));
    let mut ran = 0;
    for run in &runs {
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let result: serde_json::Value = serde_json::from_slice(&run.stdout).expect("json");
        ran += result["stages"].as_object().expect("stages").values().filter(|stage| stage["status"] == "ran").count();
    }
    assert_eq!(ran, 4);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_done_and_cannot_be_printed_is_no_nothing_was_run() {
    let space = tiny();
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let status = |arguments: &[&str]| {
        let mut command = space.command(arguments);
        command.stdout(full());
        command.output().expect("a running command").status.code()
    };
    for _ in 0..2 {
        assert_eq!(status(&["run", "recipe.yaml"]), Some(1));
        assert_eq!(status(&["run", "recipe.yaml", "--json"]), Some(1));
    }
    let key = space.json(&["run", "recipe.yaml"])["stages"]["test"]["key"].clone();
    let key = key.as_str().expect("a key");
    for arguments in [
        &["pin", key, "--json"] as &[&str],
        &["unpin", "test", "--json"],
        &["verify", "--json"],
        &["rm", key, "--json"],
        &["gc", "--grace", "0", "--delete", "--json"],
    ] {
        assert_eq!(status(arguments), Some(1), "{arguments:?}");
    }
}
