//! Every change that a command makes to the store fails once, in each way: the process is killed there, the disk reports an
//! error, it's full once, or full from there on. Whatever the place, the next run ends with the right results, nothing in
//! the store is damaged, and nothing is left that `gc` doesn't know.
//!
//! The places are not listed here: a library that's loaded into the program counts them, and they are tried until there are
//! no more. `PIPE_FAULTS=all` tries a recipe with all kinds of stages, which takes minutes.

use crate::common;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use common::{
    Output, Space, TINY, await_settled, finish, need,
    needs::{Need, Needed},
    tiny,
};
use pipe::engine::store::Store;
use serde_json::Value;

/// A tokenizer, and a training with a checkpoint and a state for longer ones: well under a second.
const SMALL: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 120 } }
      corpus: [{ path: corpus.txt }]
  base:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 16, layers: 1, heads: 2, max_length: 32 } }
      objectives: [{ masked_lm: {} }]
      train: { steps: 2, batch: { examples: 2 }, max_length: 32, lr: 1.0e-3, schedule: constant, checkpoint_every: 1 }
"#;

/// What is the same for all trials.
pub(super) struct Bench {
    space: Space,
    library: PathBuf,
    /// A store with all results, made without any fault.
    whole: PathBuf,
    digests: BTreeMap<String, String>,
    pub(super) keys: BTreeSet<String>,
}

static BENCH: OnceLock<Result<Bench, String>> = OnceLock::new();

impl Bench {
    pub(super) fn get() -> Needed<&'static Self> {
        let bench = BENCH.get_or_init(|| {
            let space = tiny();
            let all = std::env::var("PIPE_FAULTS").is_ok_and(|which| which == "all");
            space.write("recipe.yaml", if all { TINY } else { SMALL });
            let library = space.path().join("inject.so");
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/inject.c");
            let mut cc = std::process::Command::new("cc");
            cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
            match cc.output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => return Err(error.to_string()),
            }
            // So that digests are remembered, which is a file of the store, too.
            await_settled(&space.path().join("corpus.txt"));
            let run = space.json(&["run", "recipe.yaml", "--store", "whole", "--tensorboard", ""]);
            let (digests, keys) = (field(&run, "digest"), field(&run, "key").into_values().collect());
            Ok(Self { whole: space.path().join("whole"), library, space, digests, keys })
        });
        bench.as_ref().map_err(|why| Need::Preload.unmet(why))
    }

    /// Runs a command on a store, with a fault at one of its changes; gives what it was, if there is one.
    pub(super) fn strike(&self, store: &Path, arguments: &[&str], how: &str, at: usize) -> (Output, Option<String>) {
        let told = store.with_file_name("told");
        let store = store.to_str().expect("a path");
        let mut command = self.space.command(&[arguments, &["--store", store]].concat());
        command.env("LD_PRELOAD", &self.library).env("RAYON_NUM_THREADS", "1").env("PIPE_TENSORBOARD", "");
        command.env("INJECT_BELOW", store).env("INJECT_HOW", how).env("INJECT_AT", at.to_string());
        command.env("INJECT_TOLD", &told);
        (finish(command), std::fs::read_to_string(told).ok())
    }

    /// What has to hold after a fault, and a run without one.
    fn recovers(&self, store: &Path, what: &str) {
        let path = store.to_str().expect("a path");
        let mut command = self.space.command(&["run", "recipe.yaml", "--json", "--store", path]);
        command.env("RAYON_NUM_THREADS", "1").env("PIPE_TENSORBOARD", "");
        let output = finish(command);
        assert_eq!(output.status, 0, "{what}: the next run: {}", output.stderr);
        let run: Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!(field(&run, "digest"), self.digests, "{what}: the next run");

        let store = Store::open(store).expect("a store");
        let keys = store.keys().expect("keys");
        assert_eq!(keys.iter().cloned().collect::<BTreeSet<_>>(), self.keys, "{what}");
        let damage = store.verify(&keys, &|_, _| {}).expect("a look").damage;
        assert_eq!(damage, [], "{what}");
        let wanted = keys.iter().map(|key| (key.clone(), "wanted".to_owned())).collect();
        store.collect_garbage(&store.plan_gc(&wanted, Duration::ZERO).expect("a plan")).expect("a clearing");
        for name in ["tmp", "leases", "states"] {
            assert_eq!(names(&store.root().join(name)), Vec::<String>::new(), "{what}: {name}");
        }
        let known = [
            ".gitignore",
            "artifacts",
            "digests.json",
            "format",
            "gpu",
            "leases",
            "log",
            "pins",
            "rungs",
            "sound.json",
            "states",
            "tmp",
        ];
        let unknown: Vec<_> = names(store.root()).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert_eq!(unknown, Vec::<String>::new(), "{what}");
        assert_eq!(names(&store.root().join("pins")).iter().filter(|name| name.starts_with('.')).count(), 0, "{what}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Of each stage.
fn field(run: &Value, name: &str) -> BTreeMap<String, String> {
    let stages = run["stages"].as_object().expect("stages");
    stages.iter().map(|(stage, of)| (stage.clone(), of[name].as_str().unwrap_or_default().to_owned())).collect()
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.path().strip_prefix(from).expect("a part"));
        match entry.file_type().is_dir() {
            true => std::fs::create_dir_all(target).expect("a folder"),
            false => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Has a command fail at each of its changes to a store, one after the other; gives how many there are.
fn everywhere(bench: &Bench, arguments: &[&str], with_results: bool, how: &str) -> usize {
    for at in 1.. {
        let dir = tempfile::tempdir().expect("a folder");
        let store = dir.path().join("struck");
        if with_results {
            copy(&bench.whole, &store);
        }
        let (output, told) = bench.strike(&store, arguments, how, at);
        let Some(told) = told else {
            assert_eq!(output.status, 0, "{arguments:?} without a fault: {}", output.stderr);
            return at - 1;
        };
        let what = format!("{arguments:?}, {how} at {at}, {}", told.trim().replace(&*store.to_string_lossy(), ""));
        let statuses: &[i32] = if how == "kill" { &[-1] } else { &[0, 1, 2] };
        assert!(statuses.contains(&output.status), "{what}: {} {}", output.status, output.stderr);
        for wrong in ["internal error", "panicked", "remove it", "remove the store"] {
            assert!(!output.stderr.contains(wrong), "{what}: {}", output.stderr);
        }
        if output.status == 0 && arguments[0] == "run" {
            let run: Value = serde_json::from_str(&output.stdout).expect("JSON");
            assert_eq!(field(&run, "digest"), bench.digests, "{what}");
        }
        bench.recovers(&store, &what);
    }
    unreachable!("there are fewer places")
}

/// Of a first run.
fn of_a_run(how: &str) {
    let bench = need!(Bench::get());
    let places = everywhere(bench, &["run", "recipe.yaml", "--json"], false, how);
    assert!(places > 60, "{places} places");
    println!("{how}: {places} places");
}

/// Of commands that replace, remove and pin what is there.
fn of_other_commands(how: &str) {
    let bench = need!(Bench::get());
    let key = bench.keys.iter().next().expect("a key");
    let force = ["run", "recipe.yaml", "--json", "--force", "base"];
    let gc = ["gc", "--grace", "0s", "--delete"];
    for arguments in [&force[..], &gc, &["rm", key], &["pin", key, "--name", "kept"]] {
        let places = everywhere(bench, arguments, true, how);
        assert!(places > 2, "{arguments:?}: {places} places");
        println!("{how}, {arguments:?}: {places} places");
    }
}

#[test]
fn a_run_that_is_killed_anywhere_leaves_a_store_that_the_next_one_uses() {
    of_a_run("kill");
}

#[test]
fn a_run_that_meets_a_broken_disk_anywhere_leaves_a_store_that_the_next_one_uses() {
    of_a_run("eio");
}

#[test]
fn a_run_that_meets_a_full_disk_anywhere_leaves_a_store_that_the_next_one_uses() {
    of_a_run("full");
}

#[test]
fn a_run_whose_disk_stays_full_anywhere_leaves_a_store_that_the_next_one_uses() {
    of_a_run("stays-full");
}

#[test]
fn other_commands_that_are_killed_anywhere_leave_a_store_that_the_next_run_uses() {
    of_other_commands("kill");
}

#[test]
fn other_commands_that_meet_a_broken_disk_leave_a_store_that_the_next_run_uses() {
    of_other_commands("eio");
}

#[test]
fn other_commands_that_meet_a_full_disk_leave_a_store_that_the_next_run_uses() {
    of_other_commands("full");
}

#[test]
fn other_commands_whose_disk_stays_full_leave_a_store_that_the_next_run_uses() {
    of_other_commands("stays-full");
}
