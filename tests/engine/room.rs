//! Disks that are too small, and stores that lie on two of them.

use crate::common;
use std::path::{Path, PathBuf};

use common::{Space, TINY, need, needs::Needed, tiny};

use super::faults::Mount;

/// A training whose result takes about a megabyte, and each of its checkpoints three.
fn space() -> Space {
    let space = tiny();
    let recipe = TINY.split("  topics:").next().expect("a first part");
    let recipe = recipe.replace("hidden: 16, layers: 1, heads: 2", "hidden: 64, layers: 5, heads: 2");
    space.write("recipe.yaml", recipe.replace("steps: 8,", "steps: 4, checkpoint_every: 1, schedule: constant,"));
    space
}

fn run(space: &Space, store: &str) -> common::Output {
    space.pipe(&["run", "recipe.yaml", "--json", "--store", store])
}

fn digest(output: &common::Output) -> String {
    let run: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    run["stages"]["base"]["digest"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn more_room_is_never_worse_and_what_was_trained_is_stored_or_gone_on_from() {
    let space = space();
    let expected = digest(&run(&space, "whole"));
    let mut is_enough = false;
    for kilobytes in [1_400, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 12_000] {
        let disk = need!(Mount::new(&space, &format!("disk{kilobytes}"), &format!("{kilobytes}k")));
        let store = format!("disk{kilobytes}/store");
        let output = run(&space, &store);
        let is_done = output.status == 0;
        assert!(is_done || !is_enough, "{kilobytes} kB don't do, and less did: {}", output.stderr);
        is_enough |= is_done;
        if is_done {
            assert_eq!(digest(&output), expected, "{kilobytes} kB");
            assert_eq!(space.pipe(&["verify", "--store", &store]).status, 0);
        } else {
            assert!(output.stderr.contains("is full"), "{}", output.stderr);
        }
        drop(disk);
    }
    assert!(is_enough);
}

#[test]
fn a_training_says_what_it_will_take_and_warns_where_that_is_not_there() {
    let space = space();
    let disk = need!(Mount::new(&space, "disk", "2500k"));
    let output = run(&space, "disk/store");
    assert!(output.stderr.contains("base: warning: takes "), "{}", output.stderr);
    assert!(output.stderr.contains("checkpoints may not fit"), "{}", output.stderr);
    drop(disk);
    let output = run(&space, "whole");
    assert!(output.stderr.contains("base: takes ") && !output.stderr.contains("warning"), "{}", output.stderr);
}

#[test]
fn a_result_that_does_not_fit_leaves_the_checkpoint_and_goes_on_from_it() {
    let space = space();
    let disk = need!(Mount::new(&space, "disk", "12m"));
    let expected = digest(&run(&space, "whole"));
    // Stopped behind its third step, and then nearly everything is taken.
    let output = space.pipe(&["run", "recipe.yaml", "--store", "disk/store", "--stage", "tokens"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let mut child = space.command(&["run", "recipe.yaml", "--store", "disk/store"]).spawn().expect("a process");
    let state = |disk: &Path| {
        let found = walkdir::WalkDir::new(disk).into_iter().flatten();
        found.into_iter().any(|entry| entry.file_name() == "state.json")
    };
    let at = space.path().join("disk/store/tmp");
    common::await_that("a state is kept", || {
        state(&at) || std::fs::read_dir(&at).is_ok_and(|mut dir| dir.next().is_none())
    });
    child.kill().expect("a kill");
    let _ = child.wait();
    if !state(&at) {
        return;
    }
    let ballast: PathBuf = space.path().join("disk/ballast");
    let mut bytes = 12 << 20;
    while bytes > 4096 && std::fs::write(&ballast, vec![1_u8; bytes]).is_err() {
        bytes -= 4096;
    }
    let output = run(&space, "disk/store");
    assert!(output.stderr.contains("resumes from the last checkpoint"), "{}", output.stderr);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("the checkpoint makes room for the result"), "{}", output.stderr);
    assert_eq!(digest(&output), expected);
    drop(disk);
}

#[cfg(unix)]
#[test]
fn store_on_two_file_systems_is_refused_when_it_is_opened() {
    for folder in ["artifacts", "tmp"] {
        let space = tiny();
        std::fs::create_dir(space.path().join(".pipe")).expect("a folder");
        let mount: Needed<Mount> = Mount::new(&space, &format!(".pipe/{folder}"), "8m");
        let mount = need!(mount);
        for command in [&["run", "recipe.yaml"] as &[&str], &["ls"]] {
            let output = space.pipe(command);
            assert_eq!(output.status, 2, "{}", output.stderr);
            assert!(output.stderr.contains("lie on two file systems"), "{}", output.stderr);
            assert!(output.stderr.contains("--store"), "{}", output.stderr);
        }
        drop(mount);
        // As a link.
        let disk = need!(Mount::new(&space, "disk", "8m"));
        std::fs::remove_dir(space.path().join(".pipe").join(folder)).expect("a removal");
        std::os::unix::fs::symlink(space.path().join("disk"), space.path().join(".pipe").join(folder)).expect("a link");
        assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 2);
        drop(disk);
    }
}
