//! `pipe ci` in repositories as people have them: what changed is run, and held against the base as git has it.

use std::path::Path;

use crate::common;
use common::{Output, Space, TINY, finish, outputs, run_in, tiny};
use pipe::engine::{
    remote::{decode, encode},
    store::Artifact,
};
use serde_json::Value;

/// The tiny recipe with something expected of its evaluation.
fn recipe(expect: &str) -> String {
    let eval = "eval: { model: topics, data: { path: test.tsv } }";
    TINY.replace(eval, &format!("eval: {{ model: topics, data: {{ path: test.tsv }}, expect: {expect} }}"))
}

/// What holds whatever the tiny model has learned, and depends on the base.
const EXPECT: &str = "{ rows: { drop_at_most: 0 }, log_loss: { rise_at_most: 10, at_least: 0 } }";

fn git(dir: &Path, arguments: &[&str]) -> String {
    run_in(dir, "git", arguments)
}

fn commit(space: &Space, message: &str) {
    git(space.path(), &["add", "--all"]);
    git(space.path(), &["commit", "--quiet", "--message", message]);
}

/// A repository with the recipe and its data, in which a store is ignored.
fn repository(expect: &str) -> Space {
    let space = tiny();
    git(space.path(), &["init", "--quiet", "--initial-branch", "main"]);
    space.write("recipe.yaml", recipe(expect)).write(".gitignore", ".pipe/\n*.md\n*.xml\n");
    commit(&space, "begin");
    space
}

/// Half as many test rows.
fn worsen(space: &Space) {
    let rows: Vec<String> = space.read("test.tsv").lines().take(4).map(str::to_owned).collect();
    space.write("test.tsv", rows.join("\n") + "\n");
}

fn url(remote: &Path) -> String {
    format!("file://{}", remote.display())
}

/// Runs with `--json`, and expects this status.
fn ci(space: &Space, status: i32, arguments: &[&str]) -> Value {
    let output = space.pipe(&[&["ci", "recipe.yaml", "--json"], arguments].concat());
    assert_eq!(output.status, status, "{}", output.stderr);
    let json = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout));
    outputs::fits(&["ci"], &json);
    json
}

fn statuses(result: &Value) -> String {
    let stages = result["recipes"][0]["stages"].as_object().expect("stages");
    let word = |(name, stage): (&String, &Value)| format!("{name}={}", stage["status"].as_str().expect("a word"));
    stages.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn verdicts(result: &Value) -> Vec<&str> {
    let list = result["recipes"][0]["expectations"].as_array().expect("a list");
    list.iter().map(|one| one["verdict"].as_str().expect("a word")).collect()
}

#[test]
fn what_changed_is_run_and_held_against_the_base() {
    let (space, remote) = (repository(EXPECT), Space::new());
    let url = url(remote.path());
    space.json(&["run", "recipe.yaml", "--remote", &url]);

    space.write("recipe.yaml", recipe(EXPECT).replace("train: { epochs: 2", "train: { weight_decay: 0.2, epochs: 2"));
    commit(&space, "decay");
    let arguments = ["--base", "HEAD~1", "--remote", &url, "--summary", "summary.md"];
    let result = ci(&space, 0, &arguments);
    assert_eq!(statuses(&result), "base=hit test=ran tokens=hit topics=ran topics.linear=hit");
    assert_eq!(verdicts(&result), ["met"; 3]);
    let compared: Vec<_> = result["recipes"][0]["compared"].as_array().expect("pairs").iter().collect();
    assert_eq!(compared.iter().map(|pair| &pair["stage"]).collect::<Vec<_>>(), ["topics", "test"]);
    let difference = &compared[0]["differences"][0];
    assert_eq!((&difference["field"], &difference["b"]), (&"train.weight_decay".into(), &"0.2".into()));
    assert_eq!(compared[1]["paired"]["rows"], 6);
    let summary = space.read("summary.md");
    assert!(summary.starts_with("## `recipe.yaml`: all 3 expectations are met\n"), "{summary}");
    assert!(summary.contains("| `topics` | ran |") && summary.contains("`train.weight_decay: "), "{summary}");
    assert!(summary.contains("2 of 5 stages computed in") && summary.contains("; the cache saved "), "{summary}");
    assert!(summary.contains("paired bootstrap over 6 rows"), "{summary}");
    // Nothing was left behind in the working tree.
    assert_eq!(git(space.path(), &["status", "--short"]), "");

    // Another machine finds all of it, and reads nothing but what it shows: the predictions of both evaluations.
    let other = Space::new();
    git(other.path(), &["clone", "--quiet", &space.path().display().to_string(), "."]);
    let again = ci(&other, 0, &arguments);
    assert_eq!(statuses(&again), "base=fetched test=fetched tokens=fetched topics=fetched topics.linear=fetched");
    assert_eq!((&again["remote"]["files"], &again["remote"]["pushed"]), (&2.into(), &0.into()));
    assert_eq!(again["recipes"][0]["compared"], result["recipes"][0]["compared"]);
    let summary = other.read("summary.md");
    assert!(summary.contains("None of 5 stages was computed; the cache saved"), "{summary}");

    worsen(&space);
    commit(&space, "lose rows");
    let result = ci(&space, 3, &[&arguments[..], &["--junit", "junit.xml"]].concat());
    assert_eq!(statuses(&result), "base=hit test=ran tokens=hit topics=hit topics.linear=hit");
    let broken = &result["recipes"][0]["expectations"][0];
    assert_eq!((&broken["verdict"], &broken["figure"]), (&"broken".into(), &3.0.into()));
    assert_eq!(broken["message"], "`rows` of `test` is 3, 3 below the base's 6");
    let summary = space.read("summary.md");
    assert!(summary.starts_with("## `recipe.yaml`: 1 expectation is broken\n"), "{summary}");
    assert!(summary.contains("| `test` `rows` | drop at most 0 | 3 | **broken** |"), "{summary}");
    assert!(summary.contains("`data.path: contents"), "{summary}");
    assert!(space.read("junit.xml").contains("<failure message=\"`rows` of `test` is 3"));
}

#[test]
fn without_results_of_the_base_nothing_is_held_against_it_unless_that_is_refused() {
    let space = repository(EXPECT);
    worsen(&space);
    commit(&space, "lose rows");
    let result = ci(&space, 0, &["--base", "HEAD~1", "--summary", "summary.md"]);
    assert_eq!(verdicts(&result), ["not_judged", "not_judged", "met"]);
    assert_eq!(result["recipes"][0]["expectations"][0]["message"], "the base has no stored result of it");
    let summary = space.read("summary.md");
    assert!(summary.starts_with("## `recipe.yaml`: 1 expectation met, 2 not judged\n"), "{summary}");
    assert!(summary.contains("No result of it is stored"), "{summary}");
    ci(&space, 3, &["--base", "HEAD~1", "--strict"]);

    // On GitHub the summary goes where GitHub shows it, after what stands there.
    space.write("step.md", "before\n").write("new.yaml", space.read("recipe.yaml"));
    let mut command = space.command(&["ci", "new.yaml", "--base", "HEAD"]);
    command.env("GITHUB_STEP_SUMMARY", space.path().join("step.md"));
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(space.read("step.md"), format!("before\n{}", output.stdout));
    assert!(
        output.stdout.contains("There is nothing to compare with: the base has no such recipe."),
        "{}",
        output.stdout
    );
}

#[test]
fn a_shallow_clone_fetches_the_base_or_tells_how_deep_it_should_be() {
    let space = repository(EXPECT);
    let remote = Space::new();
    let url = url(remote.path());
    space.json(&["run", "recipe.yaml", "--remote", &url]);
    git(space.path(), &["checkout", "--quiet", "-b", "change"]);
    worsen(&space);
    commit(&space, "lose rows");

    let clone = Space::new();
    let from = format!("file://{}", space.path().display());
    git(clone.path(), &["clone", "--quiet", "--depth", "1", "--branch", "change", &from, "."]);
    let output = clone.pipe(&["ci", "recipe.yaml", "--base", "HEAD~1"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("the clone is shallow and lacks the base `HEAD~1`"), "{}", output.stderr);
    assert!(output.stderr.contains("`fetch-depth: 0`"), "{}", output.stderr);
    assert!(!clone.path().join(".pipe").exists());

    // What GitHub says of a pull request.
    let mut command = clone.command(&["ci", "recipe.yaml", "--json", "--remote", &url]);
    command.env("GITHUB_BASE_REF", "main");
    let output: Output = finish(command);
    assert_eq!(output.status, 3, "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(result["base"]["revision"], "origin/main");
    assert_eq!(result["base"]["commit"], git(space.path(), &["rev-parse", "main"]).trim());
    assert_eq!(verdicts(&result)[0], "broken");

    let output = space.pipe(&["ci", "recipe.yaml", "--base", "nowhere"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("git knows no base `nowhere`"), "{}", output.stderr);
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn data_that_git_lacks_is_taken_as_unchanged_and_a_pointer_is_no_data() {
    let space = repository(EXPECT);
    let data = space.read("test.tsv");
    // One file that git ignores, and one of which it has a pointer.
    space.write(".gitignore", ".pipe/\n*.md\ndev.tsv\n").write("test.tsv", POINTER);
    git(space.path(), &["rm", "--quiet", "--cached", "dev.tsv"]);
    commit(&space, "large files elsewhere");
    let output = space.pipe(&["ci", "recipe.yaml", "--base", "HEAD"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("test.tsv is a pointer of Git LFS, and not the data"), "{}", output.stderr);
    assert!(output.stderr.contains("`lfs: true`"), "{}", output.stderr);

    space.write("test.tsv", &data);
    space.json(&["run", "recipe.yaml"]);
    let result = ci(&space, 0, &["--base", "HEAD", "--summary", "summary.md"]);
    assert_eq!(statuses(&result), "base=hit test=hit tokens=hit topics=hit topics.linear=hit");
    assert_eq!(verdicts(&result), ["met"; 3]);
    let taken: Vec<_> = result["recipes"][0]["taken_as_unchanged"].as_array().expect("a list").iter().collect();
    assert_eq!(taken.iter().map(|one| &one["path"]).collect::<Vec<_>>(), ["dev.tsv", "test.tsv"]);
    let summary = space.read("summary.md");
    assert!(summary.contains("`dev.tsv` (ignored by git), `test.tsv` (git has a pointer to it (LFS))"), "{summary}");

    // Another pointer is another file, of which nothing is known here.
    space.write("test.tsv", POINTER.replace("4d7a", "5e8b"));
    commit(&space, "another large file");
    space.write("test.tsv", &data);
    let result = ci(&space, 0, &["--base", "HEAD~1"]);
    let reason = result["recipes"][0]["no_base"].as_str().expect("a reason");
    assert!(reason.contains("test.tsv is another large file (LFS) there"), "{reason}");
}

#[test]
fn data_is_found_where_the_recipe_would_find_it() {
    let space = repository(EXPECT);
    let outside = Space::new();
    outside.write("dev.tsv", space.read("dev.tsv"));
    // A folder, a glob, data beside the working directory rather than the recipe, and some outside of the repository.
    let dots = "../".repeat(space.path().components().count());
    let elsewhere = format!("{dots}{}/dev.tsv", outside.path().display().to_string().trim_start_matches('/'));
    let text = recipe(EXPECT)
        .replace("path: corpus.txt", "path: texts")
        .replace("path: train.tsv", "path: 'rows/tr*.tsv'")
        .replace("path: dev.tsv", &format!("path: {elsewhere}"));
    space.write("recipes/recipe.yaml", text);
    for (from, to) in [("corpus.txt", "recipes/texts/corpus.txt"), ("train.tsv", "recipes/rows/train.tsv")] {
        space.write(to, space.read(from));
        std::fs::remove_file(space.path().join(from)).expect("removed");
    }
    commit(&space, "folders");
    space.json(&["run", "recipes/recipe.yaml"]);
    worsen(&space);
    space.write("recipes/rows/train_2.tsv", "label\ttext\n甲\t比赛开始\n");
    commit(&space, "more training rows, fewer test rows");
    let output = space.pipe(&["ci", "recipes/recipe.yaml", "--base", "HEAD~1", "--json"]);
    assert_eq!(output.status, 3, "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(statuses(&result), "base=hit test=ran tokens=hit topics=ran topics.linear=ran");
    let taken = result["recipes"][0]["taken_as_unchanged"].as_array().expect("a list");
    assert_eq!(taken.iter().map(|one| &one["why"]).collect::<Vec<_>>(), ["outside of the repository"]);
    let base: Vec<_> = ["tokens", "base", "topics", "test"]
        .map(|stage| !result["recipes"][0]["stages"][stage]["base_key"].is_null())
        .into();
    assert_eq!(base, [true; 4]);
}

/// All files below a folder with what they hold.
fn all(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().to_owned(), std::fs::read(entry.path()).expect("a file"))).collect()
}

#[test]
fn a_forks_pull_request_reads_the_remote_and_writes_nothing_to_it() {
    let (space, remote) = (repository(EXPECT), Space::new());
    let url = url(remote.path());
    space.json(&["run", "recipe.yaml", "--remote", &url]);
    let before = all(remote.path());
    assert!(!before.is_empty());
    let fork = Space::new();
    git(fork.path(), &["clone", "--quiet", &space.path().display().to_string(), "."]);
    fork.write("recipe.yaml", recipe(EXPECT).replace("train: { epochs: 2", "train: { weight_decay: 0.2, epochs: 2"));
    let event =
        r#"{ "repository": { "full_name": "a/b" }, "pull_request": { "head": { "repo": { "full_name": "c/b" } } } }"#;
    fork.write("event.json", event);
    let as_fork = |arguments: &[&str]| {
        let mut command = fork.command(arguments);
        command.env("GITHUB_EVENT_NAME", "pull_request").env("GITHUB_EVENT_PATH", "event.json");
        finish(command)
    };
    let output = as_fork(&["ci", "recipe.yaml", "--base", "HEAD", "--remote", &url, "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(statuses(&result), "base=fetched test=ran tokens=fetched topics=ran topics.linear=fetched");
    assert_eq!((&result["remote"]["read_only"], &result["remote"]["pushed"]), (&true.into(), &0.into()));
    assert!(output.stderr.contains("a fork's pull request, so the remote is only read"), "{}", output.stderr);
    assert!(all(remote.path()) == before);

    let output = as_fork(&["push", "recipe.yaml", "--remote", &url]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("--remote-readonly=false"), "{}", output.stderr);
    let output = fork.pipe(&["run", "recipe.yaml", "--force", "test", "--remote", &url, "--remote-readonly"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(all(remote.path()) == before);
    let output = as_fork(&["push", "recipe.yaml", "--remote", &url, "--remote-readonly=false"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(all(remote.path()).len() > before.len());
}

#[test]
fn a_record_that_claims_other_settings_than_its_keys_is_not_believed() {
    let (space, remote) = (repository(EXPECT), Space::new());
    let url = url(remote.path());
    let run = space.json(&["run", "recipe.yaml", "--remote", &url]);
    let key = run["stages"]["topics"]["key"].as_str().expect("a key");
    let file = remote.path().join("v1/records").join(key);
    let text = std::fs::read(&file).expect("a record");
    let forged = |change: &dyn Fn(&mut Artifact)| {
        let mut record = decode(&text, key).expect("a record");
        change(&mut record);
        std::fs::write(&file, encode(&record).expect("a text")).expect("written");
        let other = Space::new();
        git(other.path(), &["clone", "--quiet", &space.path().display().to_string(), "."]);
        let output = other.pipe(&["run", "recipe.yaml", "--remote", &url, "--remote-readonly", "--json"]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let run: Value = serde_json::from_str(&output.stdout).expect("JSON");
        (run["stages"]["topics"]["status"].as_str().expect("a word").to_owned(), output.stderr)
    };
    // As it was, with another checksum.
    assert_eq!(forged(&|record| record.provenance.host = "elsewhere".into()).0, "fetched");
    for change in [
        &|record: &mut Artifact| record.provenance.spec["train"]["lr"] = 7.0.into(),
        &|record: &mut Artifact| record.manifest.spec["train"]["lr"] = 7.0.into(),
        &|record: &mut Artifact| record.digest = "0".repeat(64),
    ] as [&dyn Fn(&mut Artifact); 3]
    {
        let (status, said) = forged(change);
        assert_eq!(status, "ran", "{said}");
        assert!(said.contains("the remote's record of") && said.contains("is damaged"), "{said}");
    }
}
