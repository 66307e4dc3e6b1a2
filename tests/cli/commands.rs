//! What the command line promises: exit statuses, shapes of JSON, what goes to stdout, and what errors say.

use crate::common;
use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use common::{Space, TINY, finish, tiny};
use serde_json::Value;

pub(super) const CLOSED: &str = "label\ttext\n甲\t球队赢了\n丙\t今天下雨\n丙\t明天也下\n";

/// A tokenize stage only, which takes no time.
pub(super) fn tokens() -> Space {
    let space = tiny();
    space.write("recipe.yaml", TINY.split("  base:").next().expect("a first part"));
    space
}

pub(super) fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort();
    names
}

pub(super) fn key(space: &Space, stage: &str) -> String {
    space.json(&["run", "recipe.yaml"])["stages"][stage]["key"].as_str().expect("a key").to_owned()
}

#[test]
fn run_prints_one_object_with_what_scripts_rely_on() {
    let space = tiny();
    let output = space.pipe(&["run", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).expect("nothing but JSON on stdout");
    assert_eq!(names(&result), ["expectations", "recipe", "seconds", "stages"]);
    assert_eq!(result["recipe"], "recipe.yaml");
    assert!(result["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(names(&result["stages"]), ["base", "test", "tokens", "topics", "topics.linear"]);
    for (name, kind) in [
        ("tokens", "tokenize"),
        ("base", "pretrain"),
        ("topics", "finetune"),
        ("topics.linear", "linear"),
        ("test", "eval"),
    ] {
        let stage = &result["stages"][name];
        assert_eq!(names(stage), ["digest", "key", "kind", "metrics", "path", "seconds", "status"]);
        assert_eq!((&stage["kind"], &stage["status"]), (&kind.into(), &"ran".into()));
        assert!(stage["key"].as_str().is_some_and(|key| key.len() == 64));
        assert!(stage["digest"].as_str().is_some_and(|digest| digest.len() == 64));
        let path = space.path().join(stage["path"].as_str().expect("a path"));
        assert!(path.join("artifact.json").is_file(), "{path:?}");
    }
    for name in ["base", "topics"] {
        for metric in ["loss", "steps", "parameters", "tokens_per_second", "peak_memory_bytes"] {
            let value = &result["stages"][name]["metrics"][metric];
            assert!(
                value.is_number() || (metric == "peak_memory_bytes" && !cfg!(target_os = "linux")),
                "{name} {metric}"
            );
        }
    }
    for metric in [
        "accuracy",
        "macro_f1",
        "log_loss",
        "expected_calibration_error",
        "majority_accuracy",
        "naive_bayes_accuracy",
        "linear_accuracy",
        "linear_macro_f1",
        "leaked_rows",
        "accuracy_without_leaks",
    ] {
        assert!(result["stages"]["test"]["metrics"][metric].is_number(), "{metric}");
    }
    // The talk is on stderr: plain lines, no colours, one time left a line at most.
    assert!(output.stderr.contains("base: 8/8 loss "), "{}", output.stderr);
    assert!(output.stderr.contains("5 stages: 5 ran in"), "{}", output.stderr);
    assert!(!output.stderr.contains('\x1b'), "{}", output.stderr);
    assert!(output.stderr.lines().all(|line| line.matches(" left").count() <= 1), "{}", output.stderr);
}

#[test]
fn forcing_a_stage_that_is_not_to_run_is_an_error() {
    let output = tiny().pipe(&["run", "recipe.yaml", "--stage", "base", "--force", "topics"]);
    assert_eq!(output.status, 2);
    let expected = "--force topics: `topics` isn't part of what --stage base runs, which is `tokens`, `base`\n\
                    hint: add `--stage topics`";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
}

#[test]
fn artifacts_name_the_device_they_were_computed_on() {
    let space = tiny();
    let result = space.json(&["run", "recipe.yaml", "--stage", "base"]);
    let device = |stage: &str| {
        let path = result["stages"][stage]["path"].as_str().expect("a path");
        let record: Value = serde_json::from_str(&space.read(&format!("{path}/artifact.json"))).expect("a record");
        record["provenance"]["device"].as_str().expect("a device").to_owned()
    };
    assert_eq!(device("tokens"), "cpu");
    // The recipe says `auto`, which opens the CPU where the build has no other backend.
    let others = cfg!(feature = "gpu");
    assert!(device("base") == "cpu" || others && device("base") != "auto", "{}", device("base"));
}

#[test]
fn a_run_leaves_no_leases() {
    let space = tokens();
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=ran");
    let leases = std::fs::read_dir(space.path().join(".pipe/leases")).expect("a folder").count();
    assert_eq!(leases, 0);
}

#[test]
fn a_kernel_that_gives_nan_costs_no_state_and_changes_no_result() {
    let space = tiny();
    let recipe = TINY.replace("{ steps: 8,", "{ steps: 8, checkpoint_every: 2,");
    space.write("recipe.yaml", recipe);
    let run = ["run", "recipe.yaml", "--device", "cpu", "--stage", "base"];
    // Four norms a step of each of the two objectives, more or less: somewhere in the middle.
    let mut command = space.command(&run);
    command.env("PIPE_FAULT", "layer_norm:22");
    let output = finish(command);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains(" is not finite at step "), "{}", output.stderr);
    assert!(output.stderr.contains("the last good checkpoint, after step "), "{}", output.stderr);

    let output = space.pipe(&run);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("base: resumes from the last checkpoint, after step "), "{}", output.stderr);
    let digest =
        |store: &str| space.json(&[&run[..], &["--store", store]].concat())["stages"]["base"]["digest"].clone();
    assert_eq!(digest(".pipe"), digest("other"));
}

#[test]
fn numbers_out_of_range_stop_a_stage_and_name_the_checkpoint() {
    let space = tiny();
    let recipe = TINY.replace("max_length: 48, lr: 1.0e-3 }\n  topics", "max_length: 48, lr: 1.0e30 }\n  topics");
    space.write("recipe.yaml", &recipe);
    let run = |extra: &[&str]| space.pipe(&[&["run", "recipe.yaml", "--stage", "base"], extra].concat());
    let output = run(&[]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains(" is not finite at step 2 ("), "{}", output.stderr);
    assert!(output.stderr.contains("no checkpoint was saved before; checkpoint_every saves them"), "{}", output.stderr);
    assert!(output.stderr.contains("try a lower lr"), "{}", output.stderr);

    let output = run(&["--set", "stages.base.train.checkpoint_every=1"]);
    assert_eq!(output.status, 1);
    let (_, place) = output.stderr.split_once("the last good checkpoint, after step 1, is kept in ").expect("a place");
    let place = space.path().join(place.lines().next().expect("a path"));
    assert!(place.join("step-1.safetensors").is_file(), "{place:?}");
    let artifacts = std::fs::read_dir(space.path().join(".pipe/artifacts")).expect("a folder").count();
    assert_eq!(artifacts, 1, "that of the tokenize stage");
}

#[test]
fn failed_stage_gives_1_and_what_depends_on_it_is_not_run() {
    let space = tiny();
    let (corpus, row) = common::with_bad_end(&space.read("corpus.txt"));
    space.write("corpus.txt", corpus);
    let output = space.pipe(&["run", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 1);
    let stages = &serde_json::from_str::<Value>(&output.stdout).expect("JSON")["stages"];
    assert_eq!(stages["tokens"]["status"], "failed");
    assert_eq!(stages["tokens"]["metrics"], serde_json::json!({}));
    assert!(["base", "topics", "test"].iter().all(|name| stages[name]["status"] == "not_run"));
    let place = format!("corpus.txt: row {row}");
    assert!(output.stderr.contains(&place), "{}", output.stderr);
    assert!(stages["tokens"]["error"].as_str().is_some_and(|error| error.contains(&place)), "{stages}");
    assert!(output.stderr.contains("test: not run, since `tokens` failed"), "{}", output.stderr);
    assert!(output.stderr.contains("5 stages: 1 ran, 1 failed, 3 not run in"), "{}", output.stderr);
}

#[test]
fn wrong_recipe_or_command_line_gives_2_and_runs_nothing() {
    let space = tiny();
    space.write("train.tsv", CLOSED).write("fields.tsv", "label\ttext\n甲\t好\n乙\n");
    let cases: [(&[&str], &str); 12] = [
        (&["run", "recipe.yaml"], "label `丙` in the data has no word"),
        (&["run", "recipe.yaml", "--dry-run"], "label `丙` in the data has no word"),
        (
            &["run", "recipe.yaml", "--set", "stages.topics.data.train.path=fields.tsv"],
            "fields.tsv: row 3: 1 field for 2",
        ),
        (&["run", "recipe.yaml", "--set", "stages.topics.train.lr=fast"], "--set stages.topics.train.lr=fast"),
        (&["run", "recipe.yaml", "--stage", "topic"], "did you mean `topics`?"),
        (&["run", "recipe.yaml", "--force", "topic"], "did you mean `topics`?"),
        (&["run", "recipes.yaml"], "did you mean `recipe.yaml`?"),
        (&["run", "recipe.yaml", "--jobs", "0"], "0 is not in 1.."),
        (&["run", "recipe.yaml", "--device", "gpu"], "unknown device `gpu`"),
        (&["run", "recipe.yaml", "--devices", "cpu:1-0"], "`cpu:1-0` counts backwards"),
        (&["run", "recipe.yaml", "--devices", "cpu", "--device", "cpu"], "cannot be used with"),
        (&["rum", "recipe.yaml"], "run"),
    ];
    for (arguments, message) in cases {
        let output = space.pipe(arguments);
        assert_eq!(output.status, 2, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(message), "{arguments:?}: {}", output.stderr);
        assert_eq!(output.stdout, "");
    }
    assert!(!space.path().join(".pipe").exists());
}

#[test]
fn label_without_a_word_is_shown_at_its_place_in_the_recipe() {
    let space = tiny();
    space.write("train.tsv", CLOSED);
    for command in ["run", "check"] {
        let output = space.pipe(&[command, "recipe.yaml"]);
        assert_eq!(output.status, 2);
        let line = TINY.lines().position(|line| line.contains("train.tsv")).expect("a line") + 1;
        assert!(output.stderr.contains(&format!("--> recipe.yaml:{line}:30")), "{}", output.stderr);
        assert!(output.stderr.contains("^^^^^^^^^"), "{}", output.stderr);
        assert!(output.stderr.contains("hint: train.tsv: row 3 has it, the first of 2 rows"), "{}", output.stderr);
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn device_that_the_build_lacks_names_the_feature() {
    let space = tokens();
    let output = space.pipe(&["run", "recipe.yaml", "--device", "cuda"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("cargo build --release --features cuda"), "{}", output.stderr);
}

#[test]
fn dry_run_tells_the_plan_and_runs_nothing() {
    let space = tiny();
    let plan = space.json(&["run", "recipe.yaml", "--dry-run"]);
    assert_eq!(plan, space.json(&["plan", "recipe.yaml"]));
    assert_eq!(plan["stages"]["tokens"]["status"], "miss");
    let output = space.pipe(&["run", "recipe.yaml", "--dry-run"]);
    assert_eq!(output.status, 0);
    assert!(output.stdout.contains("depends  on the output of base"), "{}", output.stdout);
    assert!(!space.path().join(".pipe").exists());
}

#[test]
fn plan_is_also_a_chart_and_json() {
    let space = tokens();
    let chart = space.pipe(&["plan", "recipe.yaml", "--format", "mermaid"]);
    assert_eq!(chart.status, 0);
    assert!(chart.stdout.starts_with("flowchart LR\n    tokens[\"tokens<br/>"), "{}", chart.stdout);
    let json = space.pipe(&["plan", "recipe.yaml", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).expect("JSON"), space.json(&["plan", "recipe.yaml"]));
}

#[test]
fn damaged_artifact_is_noted_and_computed_again() {
    let space = tokens();
    let key = key(&space, "tokens");
    space.write(&format!(".pipe/artifacts/{key}/artifact.json"), "{\"key\": ");
    let plan = space.json(&["plan", "recipe.yaml"]);
    assert!(plan["stages"]["tokens"]["reason"].as_str().is_some_and(|reason| reason.contains("damaged")), "{plan}");
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("tokens: the stored artifact is damaged"), "{}", output.stderr);
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
}

#[test]
fn ls_and_show_tell_of_the_store() {
    let space = tokens();
    let empty = space.pipe(&["ls"]);
    assert_eq!((empty.status, space.json(&["ls"])), (0, serde_json::json!([])));
    let key = key(&space, "tokens");
    let list = space.json(&["ls"]);
    assert_eq!((list[0]["key"].as_str(), list[0]["stage"].as_str()), (Some(key.as_str()), Some("tokens")));
    let shown = space.json(&["show", &key[..8]]);
    assert_eq!(shown["manifest"]["kind"], "tokenize");
    assert_eq!(shown["path"], list[0]["path"]);
    let text = space.pipe(&["show", &key[..8]]).stdout;
    assert!(text.contains("tokenizer.json") && text.contains("vocab_size"), "{text}");
    let output = space.pipe(&["run", "recipe.yaml", "--set", "stages.tokens.tokenizer.wordpiece.vocab_size=40"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let ambiguous = space.pipe(&["show", ""]);
    assert_eq!(ambiguous.status, 2);
    assert!(ambiguous.stderr.contains("2 artifacts' keys begin with"), "{}", ambiguous.stderr);
    let unknown = space.pipe(&["show", "xyz"]);
    assert_eq!((unknown.status, unknown.stderr.contains("no artifact's key begins with `xyz`")), (2, true));
}

#[test]
fn store_is_where_the_flag_or_the_environment_says() {
    let space = tokens();
    let mut command = space.command(&["run", "recipe.yaml"]);
    command.env("PIPE_STORE", "elsewhere");
    assert_eq!(finish(command).status, 0);
    assert!(space.path().join("elsewhere/artifacts").is_dir() && !space.path().join(".pipe").exists());
    let mut command = space.command(&["run", "recipe.yaml", "--store", "here"]);
    command.env("PIPE_STORE", "elsewhere");
    assert_eq!(finish(command).status, 0);
    assert!(space.path().join("here/artifacts").is_dir());
}

#[test]
fn colours_need_a_terminal() {
    let space = tokens();
    let mut command = space.command(&["run", "recipe.yaml"]);
    command.env_remove("NO_COLOR");
    assert!(!finish(command).stderr.contains('\x1b'));
}

#[test]
fn why_knows_hits_misses_and_strangers() {
    let space = tokens();
    assert!(space.pipe(&["why", "recipe.yaml", "tokens"]).stdout.contains("the store has no run of this kind"));
    let _ = key(&space, "tokens");
    assert_eq!(space.json(&["why", "recipe.yaml", "tokens"])["status"], "hit");
    space.write("corpus.txt", "别的文字。\n");
    let why = space.json(&["why", "recipe.yaml", "tokens"]);
    assert_eq!((&why["status"], &why["differences"][0]["field"]), (&"miss".into(), &"corpus.0.path".into()));
    let output = space.pipe(&["why", "recipe.yaml", "token"]);
    assert_eq!((output.status, output.stderr.contains("did you mean `tokens`?")), (2, true));
}

#[test]
fn commands_beside_the_recipe_print_data() {
    let space = tokens();
    assert_eq!(space.json(&["check", "recipe.yaml"])["ok"], true);
    assert_eq!(space.pipe(&["check", "recipe.yaml"]).stdout, "recipe.yaml: 1 stage, no mistakes\n");
    let schema: Value = serde_json::from_str(&space.pipe(&["schema"]).stdout).expect("JSON");
    assert!(schema["properties"]["stages"].is_object());
    let devices = space.json(&["devices"]);
    let cpu = devices.as_array().expect("a list").iter().find(|device| device["device"] == "cpu").expect("a CPU");
    assert_eq!(cpu["usable"], true);
    for shell in ["bash", "zsh", "fish"] {
        let output = space.pipe(&["completions", shell]);
        assert!(output.status == 0 && output.stdout.contains("sweep"), "{shell}");
    }
}

#[test]
fn reader_who_has_had_enough_is_no_failure() {
    let space = tokens();
    let commands: [&[&str]; 4] =
        [&["schema"], &["completions", "bash"], &["run", "recipe.yaml", "--json"], &["plan", "recipe.yaml"]];
    for arguments in commands {
        let mut command = space.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(child.wait().expect("an end").success(), "{arguments:?}: {said}");
        assert!(!said.contains("error"), "{arguments:?}: {said}");
    }
}

#[test]
fn killed_run_leaves_no_artifact_and_the_next_one_works() {
    let space = tiny();
    // The second one finds what the first left half done.
    for _ in 0..2 {
        let mut command = space.command(&["run", "recipe.yaml", "--set", "stages.base.train.steps=1000000"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let started = lines.any(|line| line.expect("text").starts_with("base: 1000000 steps"));
        child.kill().expect("a kill");
        assert!(started && !child.wait().expect("an end").success());
        let half: Vec<_> = std::fs::read_dir(space.path().join(".pipe/tmp")).expect("a folder").collect();
        assert_eq!(half.len(), 1);
    }
    let list = space.json(&["ls"]);
    let kinds: Vec<_> = list.as_array().expect("a list").iter().map(|artifact| &artifact["kind"]).collect();
    assert_eq!(kinds, ["tokenize"]);
    assert_eq!(
        space.statuses(&["recipe.yaml", "--set", "stages.base.train.steps=9"]),
        "base=ran test=ran tokens=hit topics=ran"
    );
}

#[test]
fn second_run_takes_no_time() {
    let space = tiny();
    let _ = space.statuses(&["recipe.yaml"]);
    let quickest = (0..5).map(|_| {
        let began = std::time::Instant::now();
        assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 0);
        began.elapsed()
    });
    let quickest = quickest.min().expect("five runs");
    assert!(quickest.as_millis() < 50, "{quickest:?}");
}
