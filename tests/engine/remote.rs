//! The shared cache: what another machine computes and fetches, and what happens when the remote is damaged or away.
//! Here the remote is a directory or a plain web server; `remote_s3.rs` has a real S3 server.

use crate::common;
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{
    Space, TINY, finish, tiny,
    web::{Serves, serve},
};
use serde_json::Value;

const ALL_RAN: &str = "base=ran test=ran tokens=ran topics=ran";
const ALL_FETCHED: &str = "base=fetched test=fetched tokens=fetched topics=fetched";
const ALL_HIT: &str = "base=hit test=hit tokens=hit topics=hit";

/// A directory for a remote, and its URL.
fn directory() -> (Space, String) {
    let space = Space::new();
    let url = format!("file://{}", space.path().display());
    (space, url)
}

/// A remote that has the tiny recipe's stages.
fn filled() -> (Space, String) {
    let (remote, url) = directory();
    assert_eq!(tiny().statuses(&["recipe.yaml", "--remote", &url]), ALL_RAN);
    (remote, url)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn stored(space: &Space) -> usize {
    entries(&space.path().join(".pipe/artifacts")).len()
}

/// Another finetuning of the same base.
fn other_lr(space: &Space) {
    let from = "max_length: 48, lr: 1.0e-3 }\n  test";
    assert!(TINY.contains(from));
    space.write("recipe.yaml", TINY.replace(from, "max_length: 48, lr: 2.0e-3 }\n  test"));
}

/// The remote's file with the bytes of a stage's file, as its record tells.
fn blob(remote: &Space, result: &Value, stage: &str, name: &str) -> PathBuf {
    let key = result["stages"][stage]["key"].as_str().unwrap();
    let text = remote.read(&format!("v1/records/{key}"));
    let record: Value = serde_json::from_str(&text).unwrap();
    let files = record["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["path"] == name).unwrap();
    remote.path().join("v1/blobs").join(file["digest"].as_str().unwrap())
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn another_machine_computes_nothing_and_fetches_records_alone() {
    let (_remote, url) = filled();
    let other = tiny();
    let result = other.json(&["run", "recipe.yaml", "--remote", &url]);
    assert!(result["stages"].as_object().unwrap().values().all(|stage| stage["status"] == "fetched"), "{result}");
    assert_eq!(result["remote"]["records"], 5);
    assert_eq!(result["remote"]["files"], 0);
    assert!(result["stages"]["test"]["metrics"]["accuracy"].is_number() && result["stages"]["test"]["path"].is_null());
    assert_eq!(stored(&other), 0);
    // What was seen is remembered, so that not even records are fetched again.
    let again = other.json(&["run", "recipe.yaml", "--remote", &url]);
    assert_eq!((&again["remote"]["records"], &again["remote"]["pushed"]), (&0.into(), &0.into()));
    // The table of an evaluation takes its report, one small file.
    let output = other.pipe(&["run", "recipe.yaml", "--remote", &url]);
    assert!(output.stdout.contains("naive Bayes") && output.stderr.contains("5 in the remote"), "{output:?}");
    assert!(output.stderr.contains("fetched 0 records and 1 file"), "{}", output.stderr);
}

#[test]
fn only_files_that_a_computed_stage_reads_are_fetched() {
    let (_remote, url) = filled();
    let other = tiny();
    other_lr(&other);
    let plan = other.json(&["plan", "recipe.yaml", "--remote", &url]);
    let status = |stage: &str| plan["stages"][stage]["status"].as_str().unwrap().to_owned();
    assert_eq!([status("tokens"), status("base"), status("topics")], ["remote", "remote", "miss"]);
    assert!(plan["stages"]["tokens"]["fetch_bytes"].is_null() && plan["stages"]["base"]["fetch_bytes"].is_u64());
    let text = other.pipe(&["plan", "recipe.yaml", "--remote", &url]).stdout;
    assert!(text.contains("in the remote") && text.contains("fetch"), "{text}");

    let expected = "base=fetched test=ran tokens=fetched topics=ran";
    assert_eq!(other.statuses(&["recipe.yaml", "--remote", &url]), expected);
    assert_eq!(stored(&other), 4, "base and topics.linear were fetched, topics and test were computed");
    assert_eq!(entries(&other.path().join(".pipe/remote/parts")).len(), 0);
    // What was computed here is there for all.
    let third = tiny();
    other_lr(&third);
    assert_eq!(third.statuses(&["recipe.yaml", "--remote", &url]), ALL_FETCHED);
}

#[test]
fn fetched_artifacts_are_those_that_were_pushed() {
    let (remote, url) = directory();
    let first = tiny();
    let result = first.json(&["run", "recipe.yaml", "--remote", &url]);
    let other = tiny();
    let pulled = other.json(&["pull", "recipe.yaml", "--remote", &url]);
    assert!(pulled["stages"].as_object().unwrap().values().all(|stage| stage == "fetched"), "{pulled}");
    assert_eq!(other.statuses(&["recipe.yaml"]), ALL_HIT);
    for (_, stage) in result["stages"].as_object().unwrap() {
        let key = stage["key"].as_str().unwrap();
        let files = walkdir::WalkDir::new(first.path().join(".pipe/artifacts").join(key)).into_iter();
        for file in files.map(Result::unwrap).filter(|file| file.file_type().is_file()) {
            let there = other.path().join(file.path().strip_prefix(first.path()).unwrap());
            assert_eq!(std::fs::read(file.path()).unwrap(), std::fs::read(there).unwrap(), "{}", file.path().display());
        }
    }
    let distinct = entries(&remote.path().join("v1/blobs")).len();
    let tokenizer = blob(&remote, &result, "tokens", "tokenizer.json");
    assert_eq!(tokenizer, blob(&remote, &result, "base", "tokenizer.json"), "equal files are there once");
    assert_eq!(pulled["remote"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), distinct > 0);
}

#[test]
fn a_store_that_was_filled_without_the_remote_is_pushed_by_the_next_run() {
    let (_remote, url) = directory();
    let space = tiny();
    assert_eq!(space.statuses(&["recipe.yaml"]), ALL_RAN);
    let result = space.json(&["run", "recipe.yaml", "--remote", &url]);
    assert_eq!(result["remote"]["pushed"], 5);
    assert_eq!(space.json(&["run", "recipe.yaml", "--remote", &url])["remote"]["pushed"], 0);
    assert_eq!(space.json(&["push", "recipe.yaml", "--remote", &url])["stages"]["base"], "here");
    assert_eq!(tiny().statuses(&["recipe.yaml", "--remote", &url]), ALL_FETCHED);
}

#[test]
fn a_damaged_file_of_the_remote_is_found_computed_again_and_replaced() {
    let (remote, url) = directory();
    let result = tiny().json(&["run", "recipe.yaml", "--remote", &url]);
    let model = blob(&remote, &result, "base", "model.safetensors");
    flip(&model);
    let other = tiny();
    other_lr(&other);
    let output = other.pipe(&["run", "recipe.yaml", "--remote", &url, "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("base: the remote's copy of model.safetensors is damaged"), "{}", output.stderr);
    let now: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(now["stages"]["base"]["status"], "ran");
    assert_eq!(now["stages"]["base"]["digest"], result["stages"]["base"]["digest"]);
    let name = model.file_name().unwrap().to_str().unwrap();
    assert_eq!(blake3::hash(&std::fs::read(&model).unwrap()).to_hex().as_str(), name, "it was replaced");

    // A file that is missing, or shorter than it was.
    std::fs::remove_file(&model).unwrap();
    let tokens = blob(&remote, &result, "tokens", "tokens-00000.parquet");
    std::fs::File::options().write(true).open(&tokens).unwrap().set_len(100).unwrap();
    let third = tiny();
    third.write(
        "recipe.yaml",
        TINY.replace("max_length: 48, lr: 1.0e-3 }\n  test", "max_length: 48, lr: 3.0e-3 }\n  test"),
    );
    let output = third.pipe(&["run", "recipe.yaml", "--remote", &url]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("model.safetensors is missing in the remote"), "{}", output.stderr);
    assert!(output.stderr.contains("the remote's copy of tokens-00000.parquet is damaged"), "{}", output.stderr);
    assert!(output.stderr.contains("4 ran"), "{}", output.stderr);
    assert!(model.exists());
}

#[test]
fn a_damaged_record_is_a_miss_and_replaced() {
    let (remote, url) = directory();
    let result = tiny().json(&["run", "recipe.yaml", "--remote", &url]);
    let record = remote.path().join("v1/records").join(result["stages"]["test"]["key"].as_str().unwrap());
    flip(&record);
    let other = tiny();
    let output = other.pipe(&["run", "recipe.yaml", "--remote", &url]);
    assert!(output.stderr.contains("is damaged: its checksum does not match"), "{}", output.stderr);
    assert!(output.stderr.contains("1 ran, 4 in the remote"), "{}", output.stderr);
    assert_eq!(tiny().statuses(&["recipe.yaml", "--remote", &url]), ALL_FETCHED);
}

#[test]
fn models_are_fetched_for_predict_and_export() {
    let (_remote, url) = filled();
    let other = tiny();
    let output = other.pipe(&["predict", "recipe.yaml", "topics", "--text", "他喜欢吃面", "--remote", &url]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(stored(&other), 1, "the finetuned model, and nothing else");
    let output = other.pipe(&["export", "recipe.yaml", "base", "out", "--remote", &url]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(other.path().join("out/model.safetensors").exists());
    assert_eq!(stored(&other), 2);
}

#[test]
fn fetched_stages_can_be_shown() {
    let (_remote, url) = filled();
    let other = tiny();
    let result = other.json(&["run", "recipe.yaml", "--remote", &url]);
    let key = result["stages"]["test"]["key"].as_str().unwrap();
    assert_eq!(other.json(&["show", &key[..12], "--remote", &url])["key"], key);
    assert_eq!(tiny().json(&["show", key, "--remote", &url])["metrics"], result["stages"]["test"]["metrics"]);
    assert_ne!(other.pipe(&["show", &key[..12]]).status, 0);
}

#[test]
fn unreachable_remote_is_told_once_and_the_run_goes_on() {
    let space = tiny();
    let began = Instant::now();
    let output = space.pipe(&["run", "recipe.yaml", "--remote", "http://127.0.0.1:1/cache"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(output.stderr.matches("warning").count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("http://127.0.0.1:1/cache can't be used"), "{}", output.stderr);
    assert!(output.stderr.contains("5 ran"), "{}", output.stderr);
    assert!(began.elapsed() < Duration::from_secs(30));
    let result = space.json(&["run", "recipe.yaml", "--remote", "http://127.0.0.1:1/cache"]);
    assert_eq!(result["remote"]["unpushed"], 5);
}

#[test]
fn a_remote_that_answers_nothing_is_given_up() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/cache", listener.local_addr().unwrap());
    let space = tiny();
    let mut command = space.command(&["plan", "recipe.yaml", "--remote", &url]);
    command.env("PIPE_REMOTE_TIMEOUT", "1s");
    let began = Instant::now();
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("can't be used"), "{}", output.stderr);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn secrets_in_the_url_are_refused_and_never_said() {
    let space = tiny();
    let output = space.pipe(&["run", "recipe.yaml", "--remote", "https://anna:geheim@127.0.0.1:1/cache"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("environment") && !output.stderr.contains("geheim"), "{}", output.stderr);
    let mut command = space.command(&["run", "--help"]);
    command.env("PIPE_REMOTE", "https://anna:geheim@127.0.0.1:1/cache");
    let help = finish(command);
    assert!(help.stdout.contains("PIPE_REMOTE") && !help.stdout.contains("geheim"));
    let output = space.pipe(&["run", "recipe.yaml", "--remote", "ftp://host/cache"]);
    assert!(output.status == 2 && output.stderr.contains("known are s3://"), "{}", output.stderr);
}

#[test]
fn the_environment_can_name_the_remote() {
    let (remote, url) = directory();
    let space = tiny();
    let mut command = space.command(&["run", "recipe.yaml"]);
    command.env("PIPE_REMOTE", &url);
    assert_eq!(finish(command).status, 0);
    assert_eq!(entries(&remote.path().join("v1/records")).len(), 5);
}

#[test]
fn a_plain_web_server_is_read_from_and_its_refusal_told_once() {
    let (remote, _) = filled();
    let url = serve(remote.path(), Serves::Reading);
    let other = tiny();
    assert_eq!(other.statuses(&["recipe.yaml", "--remote", &url]), ALL_FETCHED);
    other_lr(&other);
    let output = other.pipe(&["run", "recipe.yaml", "--remote", &url]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("2 ran, 3 in the remote"), "{}", output.stderr);
    assert_eq!(output.stderr.matches("warning").count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("pushing to the remote") && output.stderr.contains("405"), "{}", output.stderr);
}

#[test]
fn the_dry_run_of_a_sweep_knows_what_the_remote_has() {
    let (remote, url) = directory();
    let sweep = "\nsweep: { grid: { stages.topics.train.seed: [1, 2] }, maximize: stages.test.metrics.accuracy }\n";
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{sweep}"));
    space.json(&["sweep", "recipe.yaml", "--remote", &url]);
    assert!(!entries(&remote.path().join("v1/records")).is_empty());
    let other = tiny();
    other.write("recipe.yaml", format!("{TINY}{sweep}"));
    let plan = other.json(&["sweep", "recipe.yaml", "--dry-run", "--remote", &url]);
    assert_eq!((&plan["to_compute"], &plan["stored"]), (&serde_json::json!({}), &7.into()), "{plan}");
    assert_eq!(stored(&other), 0);
}
