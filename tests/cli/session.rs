//! Recipes run from a program, stages in processes of their own, and what is checked and refused before anything runs.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use pipe::{
    engine::executor::{Done, Launch, Local, Task, Watch},
    recipe::Overrides,
    session::{
        Checks, LAUNCHERS, Launcher, Options, Recipe, Session, Upcoming, Wanted,
        launch::Setup,
        sweep::{Planner, Space as Cells},
    },
    support::Named,
};
use serde_json::Value;

use crate::common::{TINY, finish, tiny};

const SWEEP: &str =
    "\nsweep:\n  grid: { stages.topics.train.lr: [1.0e-3, 2.0e-3] }\n  maximize: stages.test.metrics.accuracy\n";

/// The example's program, which `cargo test` builds beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    profile.join("examples").join(format!("embed{}", std::env::consts::EXE_SUFFIX))
}

#[test]
fn a_program_plans_and_runs_a_recipe_and_reads_its_results() {
    let space = tiny();
    let run = || {
        let mut command = Command::new(example());
        finish({
            command.args(["recipe.yaml", "store"]).current_dir(space.path());
            command
        })
    };
    let first = run();
    assert_eq!(first.status, 0, "{}", first.stderr);
    for line in ["tokens: miss", "base: waits", "base: computed in"] {
        assert!(first.stdout.lines().any(|found| found.starts_with(line)), "no {line:?} in {}", first.stdout);
    }
    let measured = first.stdout.lines().last().and_then(|line| line.strip_prefix("test: ")).expect("a line of metrics");
    let metrics: Value = serde_json::from_str(measured).expect("JSON");
    assert!(metrics["accuracy"].is_number(), "{metrics}");
    let second = run();
    assert!(
        second.stdout.starts_with("tokens: hit\nbase: hit\ntopics: hit\ntopics.linear: hit\ntest: hit\n"),
        "{}",
        second.stdout
    );
    assert!(!second.stdout.contains("computed"), "{}", second.stdout);
}

fn digests(result: &Value) -> Vec<(String, Value, Value)> {
    let stages = result["stages"].as_object().expect("stages");
    stages.iter().map(|(name, stage)| (name.clone(), stage["key"].clone(), stage["digest"].clone())).collect()
}

#[test]
fn stages_computed_in_processes_of_their_own_give_the_same() {
    let space = tiny();
    let here = space.json(&["--store", "here", "run", "recipe.yaml"]);
    let there = space.json(&["--store", "there", "run", "recipe.yaml", "--launcher", "process"]);
    assert!(digests(&here).iter().all(|(_, key, digest)| key.is_string() && digest.is_string()), "{here}");
    assert_eq!(digests(&here), digests(&there));
    assert_eq!(space.json(&["--store", "there", "run", "recipe.yaml"])["stages"]["test"]["status"], "hit");
    let unknown = space.pipe(&["run", "recipe.yaml", "--launcher", "magic"]);
    assert_eq!(unknown.status, 2);
    assert!(
        unknown.stderr.contains("unknown launcher `magic`\nhint: known are `fitting`, `local`, `process`"),
        "{}",
        unknown.stderr
    );
}

/// Computes stages here, and counts them.
struct Counting;

static COUNTED: AtomicUsize = AtomicUsize::new(0);

struct Counted<'a>(Local<'a>);

impl Named for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
}

impl Launcher for Counting {
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a> {
        Box::new(Counted(Local::new(setup.store, setup.stages)))
    }
}

impl Launch for Counted<'_> {
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done> {
        COUNTED.fetch_add(1, Ordering::SeqCst);
        // What it's given can be sent anywhere.
        let task: Task = serde_json::from_str(&serde_json::to_string(task)?)?;
        self.0.launch(&task, watch)
    }
}

#[test]
fn a_launcher_of_a_programs_own_is_used_by_its_name() {
    let space = tiny();
    let here = space.json(&["--store", "here", "run", "recipe.yaml", "--stage", "base"]);
    LAUNCHERS.register(&Counting);
    let options = Options { store: space.path().join("there"), launcher: "counting".into(), ..Options::default() };
    let session = Session::open(options).expect("a session");
    let recipe = Recipe::read(&space.path().join("recipe.yaml"), Overrides::default()).expect("a recipe");
    let wanted = Wanted { stages: vec!["base".into()], ..Wanted::default() };
    let devices = recipe.devices(Some("cpu"), None).expect("a device");
    let prepared = session.plan(&recipe, &wanted, devices).expect("a plan");
    let outcomes = session.run(prepared, &Vec::new()).expect("a run");
    assert_eq!(COUNTED.load(Ordering::SeqCst), 2);
    for (name, outcome) in &outcomes {
        let digest = outcome.artifact.as_ref().map(|artifact| artifact.digest.clone());
        assert_eq!(here["stages"][name]["digest"], digest.expect("an artifact"), "{name}");
    }
}

/// A failure crosses the border between processes with its causes.
#[test]
fn failure_in_a_process_of_its_own_is_told_with_its_causes() {
    let space = tiny();
    space.write("corpus.txt", crate::common::with_bad_end(&space.read("corpus.txt")).0);
    let [here, there] =
        [&["run", "recipe.yaml"][..], &["run", "recipe.yaml", "--launcher", "process"]].map(|run| space.pipe(run));
    assert_eq!((here.status, there.status), (1, 1), "{}", there.stderr);
    let failure = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.contains("error:"));
        lines.take_while(|line| !line.contains("not run")).map(str::to_owned).collect()
    };
    assert!(!failure(&here.stderr).is_empty(), "{}", here.stderr);
    assert_eq!(failure(&here.stderr), failure(&there.stderr));
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_killed_leaves_a_state_that_the_next_run_resumes_from() {
    let space = tiny();
    let train = "train: { steps: 400, checkpoint_every: 5, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }";
    space.write(
        "recipe.yaml",
        TINY.replace("train: { steps: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }", train),
    );
    let arguments = ["-v", "run", "recipe.yaml", "--stage", "base", "--launcher", "process"];
    let mut run = space.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a run");
    let stderr = BufReader::new(run.stderr.take().expect("its stderr"));
    let mut pid = None;
    let mut all = String::new();
    for line in stderr.lines().map_while(std::io::Result::ok) {
        all.push_str(&line);
        all.push('\n');
        if line.contains("launched a process") && line.contains("base") {
            pid = line.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        }
        // So much has been trained that a state is there.
        let states = || std::fs::read_dir(space.path().join(".pipe/tmp")).into_iter().flatten().flatten();
        let is_kept = || states().any(|entry| entry.path().join("state.json").is_file());
        if line.starts_with("base: ")
            && is_kept()
            && let Some(pid) = pid.take()
        {
            assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
        }
    }
    assert_eq!(run.wait().expect("its end").code(), Some(1), "{all}");
    assert!(all.contains("the process that computed it ended with signal: 9"), "{all}");
    let next = space.pipe(&["run", "recipe.yaml", "--stage", "base", "--launcher", "process"]);
    assert_eq!(next.status, 0, "{}", next.stderr);
    assert!(next.stderr.contains("base: resumes from the last checkpoint, after step"), "{}", next.stderr);
}

#[test]
fn a_job_that_is_none_is_refused() {
    let space = tiny();
    let mut stage = space.command(&["stage"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    stage.stdin.take().expect("its stdin").write_all(b"{}\n").expect("a job");
    let output = stage.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the job is malformed"), "{output:?}");
}

/// Checks are about what is missing: what the store has is taken from wherever it came.
#[test]
fn a_sweep_that_is_stored_needs_no_checks() {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{SWEEP}"));
    let refused = |trained: usize| {
        let session =
            Session::open(Options { store: space.path().join(".pipe"), ..Options::default() }).expect("a session");
        let recipe = Recipe::read(&space.path().join("recipe.yaml"), Overrides::default()).expect("a recipe");
        let none = |_: &_, _: &_| None;
        let checks = Checks::default().with(|upcoming: Upcoming<'_>| {
            ensure!(upcoming.plan.missing().all(|node| node.kind != "finetune"), "this machine is too small");
            Ok(())
        });
        let mut planner = Planner::new(&recipe.document, &recipe.overrides, &none).checking(checks, &session);
        let mut cells = Cells::new(&recipe.checked).expect("a space").expect("a sweep");
        let mistakes = planner.add(&cells.next(&recipe.checked).expect("cells")).expect("a look");
        assert_eq!(planner.cells().len(), trained);
        mistakes.cells()
    };
    assert_eq!(refused(0), 2);
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(refused(2), 0);
}

/// Whatever asks for a stage reports it in the same words when its record can't be read.
#[cfg(unix)]
#[test]
fn a_record_that_cannot_be_read_is_reported_by_all_that_ask_for_it() {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{SWEEP}"));
    let run = space.json(&["run", "recipe.yaml", "--stage", "tokens"]);
    let key = run["stages"]["tokens"]["key"].as_str().expect("a key");
    let record = space.path().join(".pipe/artifacts").join(key).join("artifact.json");
    std::fs::remove_file(&record).expect("a record");
    // Nobody can read what leads to itself, not even root.
    std::os::unix::fs::symlink(&record, &record).expect("a link");
    let commands: [&[&str]; 8] = [
        &["run", "recipe.yaml"],
        &["run", "recipe.yaml", "--dry-run"],
        &["plan", "recipe.yaml"],
        &["sweep", "recipe.yaml"],
        &["sweep", "recipe.yaml", "--dry-run"],
        &["why", "recipe.yaml", "tokens"],
        &["gc", "recipe.yaml"],
        &["report", "recipe.yaml"],
    ];
    let expected = format!("failed to read the record .pipe/artifacts/{key}/artifact.json");
    for command in commands {
        let output = space.pipe(command);
        assert_eq!(output.status, 2, "{command:?}: {}", output.stderr);
        assert!(output.stderr.contains(&expected), "{command:?}: {}", output.stderr);
        assert!(output.stderr.contains("symbolic links"), "{command:?}: {}", output.stderr);
    }
    // To compute it again is not to ask for it.
    assert_eq!(space.statuses(&["recipe.yaml", "--stage", "tokens", "--force", "tokens"]), "tokens=ran");
}

#[test]
fn what_cannot_be_written_is_found_before_anything_runs() {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{SWEEP}"));
    let output = space.pipe(&["sweep", "recipe.yaml", "--csv", "nowhere/cells.csv"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("so nothing was run"), "{}", output.stderr);
    assert!(!space.path().join(".pipe/artifacts").exists());
    let output = space.pipe(&["sweep", "recipe.yaml", "--max-cells", "1", "--csv", "cells.csv"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(space.read("cells.csv").lines().count() == 2);
}

/// All recipes' secrets are kept, not the first one's alone.
#[test]
fn secrets_of_every_recipe_are_left_out_of_what_is_said() {
    let space = tiny();
    let secret = |name: &str| {
        let path = format!("train: {{ path: \"{{{{ env('{name}') }}}}.tsv\" }}");
        format!("{}{SWEEP}", TINY.replace("train: { path: train.tsv }", &path))
    };
    space.write("one.yaml", secret("PIPE_TEST_ONE")).write("two.yaml", secret("PIPE_TEST_TWO"));
    space.write("geheim-eins.tsv", space.read("train.tsv"));
    // That rows of the second recipe's file can't be read shows after the recipe was checked.
    space.write("geheim-eins-zwei.tsv", [space.read("train.tsv").as_bytes(), b"\xff\t\xff\n"].concat());
    let run = |arguments: &[&str]| {
        let mut command = space.command(arguments);
        command
            .env("PIPE_TEST_ONE", "geheim-eins")
            .env("PIPE_TEST_TWO", "geheim-eins-zwei")
            .env("PIPE_LOG", "pipe=trace");
        finish(command)
    };
    assert_eq!(run(&["run", "one.yaml", "--stage", "tokens"]).status, 0);
    let output = run(&["gc", "one.yaml", "two.yaml"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("PIPE_TEST_TWO") && !said.contains("geheim") && !said.contains("-zwei"), "{said}");
}

#[test]
fn what_is_decided_is_said_on_stderr_where_it_is_asked_for() {
    let space = tiny();
    let run = |arguments: &[&str]| {
        let output = space.pipe(arguments);
        assert_eq!(output.status, 0, "{}", output.stderr);
        output
    };
    let verbose = run(&["-vv", "run", "recipe.yaml", "--stage", "tokens", "--json"]);
    assert!(serde_json::from_str::<Value>(&verbose.stdout).is_ok(), "{}", verbose.stdout);
    for said in ["DEBUG pipe::engine::plan", "status=\"miss\"", "took the lease", "ending=\"ran\""] {
        assert!(verbose.stderr.contains(said), "no {said:?} in {}", verbose.stderr);
    }
    let quiet = run(&["run", "recipe.yaml", "--stage", "tokens"]);
    assert!(!quiet.stderr.contains("pipe::engine"), "{}", quiet.stderr);
    let mut command = space.command(&["run", "recipe.yaml", "--stage", "tokens"]);
    let chosen = finish({
        command.env("PIPE_LOG", "pipe::engine::executor=info");
        command
    });
    assert!(chosen.stderr.contains("ending=\"hit\"") && !chosen.stderr.contains("engine::plan"), "{}", chosen.stderr);
}
