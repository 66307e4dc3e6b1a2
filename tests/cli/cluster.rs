//! Runs on a cluster whose commands are stand-ins: `sbatch` runs its tasks at once, in a folder of their own and with nothing of
//! the environment, and says and does otherwise where a test wants it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    beds,
    common::{Output, Space, await_that, ended, finish, outputs, tiny},
};

/// A space with stand-ins for Slurm's commands, whose files are in `fake`.
fn cluster(next: &str) -> Space {
    let space = tiny();
    space.write("fake/next", next).write("fake/last", "0\n").write("fake/jobs/none", "").write("fake/calls", "");
    // The program that is tested is large, and needs no copy.
    let program = env!("CARGO_BIN_EXE_pipe");
    space.write("pipe.toml", format!("[profiles.here]\nengine = \"slurm\"\nask = 1\nprogram = \"{program}\"\n"));
    space
}

fn command(space: &Space, arguments: &[&str]) -> Command {
    let mut command = space.command(arguments);
    let stand_ins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/cluster");
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{}:{path}", stand_ins.display()));
    command.env("FAKE", space.path().join("fake")).env_remove("XDG_CONFIG_HOME");
    command
}

pub(super) fn pipe(space: &Space, arguments: &[&str]) -> Output {
    finish(command(space, arguments))
}

const RUN: [&str; 5] = ["run", "recipe.yaml", "--on", "here", "--json"];

fn digests(output: &Output) -> Vec<(String, String)> {
    beds::digests(&output.stdout)
}

fn calls(space: &Space) -> Vec<String> {
    space.read("fake/calls").lines().map(str::to_owned).collect()
}

/// What the same recipe gives on this machine.
fn here(space: &Space) -> Vec<(String, String)> {
    let output = space.pipe(&["run", "recipe.yaml", "--json", "--store", "alone"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    digests(&output)
}

#[test]
fn job_reads_its_part_of_the_plan_which_old_runs_have_as_a_whole() {
    let space = cluster("");
    assert_eq!(pipe(&space, &RUN).status, 0);
    let status = pipe(&space, &["status", "--json"]);
    let runs: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    let folder = space.path().join(".pipe/jobs").join(runs[0]["run"].as_str().expect("a name"));
    let at = |name: &str| folder.join(name);
    let job = |batch: &str| {
        let folder = folder.display().to_string();
        pipe(&space, &["stage", "--job", &folder, "--batch", batch, "--task", "0"])
    };
    let last = std::fs::read_dir(at("batches")).expect("batches").count() / 3 - 1;
    let (last, parts) = (last.to_string(), at(&format!("batches/{last}.parts")));
    std::fs::rename(at("plan.json"), at("away")).expect("a plan");
    assert_eq!(job(&last).status, 0);
    std::fs::rename(at("away"), at("plan.json")).expect("a plan");
    std::fs::remove_file(&parts).expect("parts");
    assert_eq!(job(&last).status, 0);
    let none = job("99");
    assert!(none.status != 0 && none.stderr.contains("99"), "{}", none.stderr);
}

#[test]
fn stages_are_computed_by_jobs_and_the_second_time_nothing_is_submitted() {
    let space = cluster("");
    let output = pipe(&space, &RUN);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(digests(&output), here(&space));
    // tokens and the wide baseline's rows at once, then one after the other.
    let submitted = calls(&space).len();
    assert!((3..=5).contains(&submitted), "{submitted} batches");
    // What is read came out of the store.
    let inputs = walkdir::WalkDir::new(space.path().join(".pipe/inputs")).into_iter().flatten();
    let names: Vec<_> =
        inputs.filter(|entry| entry.file_type().is_file()).map(|entry| entry.file_name().to_owned()).collect();
    assert!(
        ["corpus.txt", "train.tsv", "dev.tsv", "test.tsv"].iter().all(|name| names.iter().any(|found| found == name))
    );

    let again = pipe(&space, &RUN);
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert_eq!(digests(&again), digests(&output));
    assert_eq!(calls(&space).len(), submitted);
    let status = pipe(&space, &["status"]);
    assert!(status.stdout.contains("recipe.yaml") && status.stdout.contains("5 ran"), "{}", status.stdout);
    let json = |arguments: &[&str]| {
        let output = pipe(&space, arguments);
        let value: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        outputs::fits(arguments, &value);
        value
    };
    let runs = json(&["status", "--json"]);
    assert_eq!(runs[0]["counts"], serde_json::json!({ "ran": 5 }));
    assert_eq!((&runs[0]["engine"], &runs[0]["jobs"]), (&"slurm".into(), &serde_json::Value::Null));
    let run = json(&["status", runs[0]["run"].as_str().expect("a name"), "--json"]);
    assert_eq!(run[0]["jobs"], serde_json::json!({ "running": 0, "waiting": 0 }));
    assert_eq!(run[0]["stages"]["base"]["status"], "ran");
    assert_eq!(json(&["attach", "--json"])["stages"]["base"]["digest"], run[0]["stages"]["base"]["digest"]);
    assert_eq!(json(&["cancel", "--json"])["cancelled"], true);
    let planned = json(&["plan", "recipe.yaml", "--on", "here", "--json"]);
    assert_eq!(planned["batches"], serde_json::json!([]));
    let logs = pipe(&space, &["logs", "base"]);
    assert!(logs.stdout.contains("base: done"), "{}", logs.stdout);
}

#[test]
fn jobs_need_nothing_of_the_submitter_and_a_run_that_was_left_is_found_again() {
    let space = cluster("");
    let expected = here(&space);
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--detach"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("`pipe attach"), "{}", output.stderr);
    // Each waits for those before it.
    assert_eq!(calls(&space).len(), 4, "{}", output.stderr);
    for name in ["corpus.txt", "train.tsv", "dev.tsv", "test.tsv", "recipe.yaml", "pipe.toml"] {
        std::fs::rename(space.path().join(name), space.path().join(format!("gone-{name}"))).expect("a file");
    }
    let attached = pipe(&space, &["attach"]);
    assert_eq!(attached.status, 0, "{}", attached.stderr);
    for name in ["corpus.txt", "train.tsv", "dev.tsv", "test.tsv", "recipe.yaml", "pipe.toml"] {
        std::fs::rename(space.path().join(format!("gone-{name}")), space.path().join(name)).expect("a file");
    }
    assert_eq!(digests(&pipe(&space, &RUN)), expected);
}

#[test]
fn what_a_site_refuses_for_now_is_offered_again_and_what_it_may_have_taken_is_looked_for() {
    let space = cluster("full\nunsure\naway\n");
    let output = pipe(&space, &RUN);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("no more jobs are taken at the moment"), "{}", output.stderr);
    assert_eq!(digests(&output), here(&space));
    // The second call was taken though it failed, and found by its name.
    assert_eq!(calls(&space)[..3], ["full", "unsure", "away"]);
    let jobs = std::fs::read_dir(space.path().join("fake/jobs")).expect("a folder").count() - 1;
    assert_eq!(jobs, 5, "one for each stage");
}

#[test]
fn batch_that_is_too_large_for_a_limit_is_submitted_in_parts() {
    let space = cluster("");
    // Two stages can run at once, and one is taken at a time.
    space.write("fake/most", "1\n");
    let output = pipe(&space, &RUN);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("no more jobs are taken at the moment"), "{}", output.stderr);
    // Five stages, and the two of them together.
    assert_eq!(calls(&space).len(), 6);
}

#[test]
fn how_a_job_ended_is_told_in_plain_words() {
    for (next, said) in [
        ("oom\n", "ran out of memory: `2G` was asked for"),
        ("never\n", "no machine has what it asks for (BadConstraints)"),
        ("account\n", "its job isn't taken: Batch job submission failed: Invalid account"),
    ] {
        let space = cluster(next);
        let profile = space.read("pipe.toml");
        space.write("pipe.toml", format!("{profile}[profiles.here.kinds.tokenize]\nmemory = \"2G\"\n"));
        let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
        assert_eq!(output.status, 1, "{next}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{next}: {}", output.stderr);
    }
}

#[test]
fn a_job_that_is_lost_is_submitted_again() {
    for next in ["lost\n", "gone\n"] {
        let space = cluster(next);
        let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
        assert_eq!(output.status, 0, "{next}: {}", output.stderr);
        assert_eq!(calls(&space).len(), 2, "{next}");
    }
}

#[test]
fn time_limit_that_is_over_costs_nothing_that_was_kept() {
    let space = cluster("");
    let expected_recipe = space.read("recipe.yaml").replace("steps: 8,", "steps: 300,");
    space.write("recipe.yaml", expected_recipe);
    let first = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
    assert_eq!(first.status, 0, "{}", first.stderr);
    space.write("fake/next", "short\nshort\n");
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "base", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("its time limit (the partition's) was over at"), "{}", output.stderr);
    let alone = space.pipe(&["run", "recipe.yaml", "--stage", "base", "--json", "--store", "alone"]);
    assert_eq!(digests(&output), digests(&alone));
}

#[test]
fn submitter_that_is_killed_is_followed_by_another_and_nothing_is_submitted_twice() {
    for delay in [0, 400] {
        let space = cluster("");
        let mut child = command(&space, &RUN).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process");
        let folder = space.path().join(".pipe/jobs");
        let batch = || {
            let runs = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            runs.map(|run| run.path().join("batches/0.json")).any(|file| file.exists())
        };
        await_that("a batch is noted", batch);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().expect("a kill");
        let _ = ended(child);
        let attached = pipe(&space, &["attach"]);
        assert_eq!(attached.status, 0, "{}", attached.stderr);
        let jobs = std::fs::read_dir(space.path().join("fake/jobs")).expect("a folder").count() - 1;
        assert_eq!(jobs, 5, "one for each stage, after {delay} ms");
        assert_eq!(digests(&pipe(&space, &RUN)), here(&space));
    }
}

#[test]
fn paths_are_whatever_they_are() {
    let space = cluster("");
    let profile = space.read("pipe.toml").replace("[profiles.here]\n", "[profiles.here]\nstore = \"it's a store\"\n");
    space.write("pipe.toml", profile);
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(space.path().join("it's a store/artifacts").exists());
}

#[test]
fn keys_that_mean_nothing_to_an_engine_are_mistakes() {
    let space = cluster("");
    let profile = "[profiles.here]\nengine = \"ray\"\naddress = \"http://127.0.0.1:1\"\nclaim = \"disk\"\n\
                   [profiles.here.kinds.pretrain]\npartition = \"main\"\nextra = { any = [\"thing\"] }\n";
    space.write("pipe.toml", profile);
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    for said in ["`claim` means nothing to ray", "--> pipe.toml:4:", "`partition` means nothing to ray", "2 errors in"]
    {
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
}

#[test]
fn worker_of_another_build_refuses_and_names_both() {
    let space = cluster("");
    let other = space.path().join("other");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_pipe")).expect("the program");
    bytes.push(0);
    std::fs::write(&other, bytes).expect("a copy");
    let status = Command::new("chmod").args(["+x"]).arg(&other).status();
    assert!(status.expect("chmod").success());
    space.write(
        "pipe.toml",
        format!("[profiles.here]\nengine = \"slurm\"\nask = 1\nprogram = \"{}\"\n", other.display()),
    );
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains("its job failed before it could say why"), "{}", output.stderr);
    let builds = output.stderr.matches("0.1.0 (").count();
    assert!(output.stderr.contains("was planned by build") && builds >= 2, "{}", output.stderr);
}

#[test]
fn sweep_is_submitted_in_arrays_and_asks_seldom() {
    let space = cluster("");
    let recipe = space.read("recipe.yaml");
    let sweep =
        "sweep:\n  grid:\n    stages.topics.train.lr: [1.0e-3, 3.0e-3, 1.0e-2]\n    stages.topics.train.seed: [1, 2]\n";
    space.write("recipe.yaml", format!("{recipe}{sweep}"));
    let output = pipe(&space, &["sweep", "recipe.yaml", "--on", "here", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let scripts: Vec<String> = std::fs::read_dir(space.path().join("fake"))
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("script."))
        .map(|entry| std::fs::read_to_string(entry.path()).expect("a script"))
        .collect();
    assert!(scripts.iter().any(|script| script.contains("--array=0-5\n")), "six cells at once");
    let asked: Vec<f64> = space.read("fake/asked").lines().map(|line| line.parse().expect("a time")).collect();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > 0.95), "{asked:?}");
    let again = pipe(&space, &["sweep", "recipe.yaml", "--on", "here"]);
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert!(again.stderr.contains("all stored"), "{}", again.stderr);
}

#[test]
fn plan_shows_scripts_and_submits_nothing() {
    let space = cluster("");
    let output = pipe(&space, &["plan", "recipe.yaml", "--on", "here"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(
        output.stdout.contains("# tokens\n#!/bin/sh\n") || output.stdout.contains("# tokens, "),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("#SBATCH --array=0") && output.stdout.contains("--mem="), "{}", output.stdout);
    assert_eq!(calls(&space), Vec::<String>::new());
}

#[test]
fn mistakes_in_profiles_have_carets_and_hints() {
    let space = cluster("");
    space.write(
        "pipe.toml",
        "[profiles.here]\nengine = \"slrum\"\n\n[profiles.here.kinds.pretrian]\nmemory = \"64 GB\"\n",
    );
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here"]);
    assert_eq!(output.status, 2);
    for said in [
        "there is no engine `slrum`",
        "--> pipe.toml:2:10",
        "did you mean `slurm`?",
        "there is no kind of stage `pretrian`",
        "did you mean `pretrain`?",
        "`64 GB` is no amount of memory",
        "3 errors in pipe.toml",
    ] {
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
    space.write("pipe.toml", "[profiles.there]\nengine = \"slurm\"\npartiton = \"gpu\"\n");
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "there"]);
    assert!(output.stderr.contains("has no key `partiton`"), "{}", output.stderr);
    space.write("pipe.toml", "[profiles.there]\nengine = \"slurm\"\n");
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "her"]);
    assert!(output.stderr.contains("there is no profile `her`"), "{}", output.stderr);
}
