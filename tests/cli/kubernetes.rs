//! Runs on Kubernetes whose `kubectl` is a stand-in, which runs pods on this machine; and what is submitted, held against the
//! schemas of its API.

use std::{path::Path, process::Command};

use super::cluster::pipe;
use crate::{
    beds::digests,
    common::{Space, finish, need, needs::Need, tiny},
};

fn cluster(next: &str) -> Space {
    let space = tiny();
    space.write("fake/next", next).write("fake/calls", "").write("fake/asked", "");
    for folder in ["pods", "ends", "kjobs"] {
        std::fs::create_dir_all(space.path().join("fake").join(folder)).expect("a folder");
    }
    let program = env!("CARGO_BIN_EXE_pipe");
    let profile = "[profiles.here]\nengine = \"kubernetes\"\nask = 1\nclaim = \"disk\"\nall = { memory = \"1G\" }\n";
    space.write("pipe.toml", format!("{profile}program = \"{program}\"\n"));
    space
}

const RUN: [&str; 5] = ["run", "recipe.yaml", "--on", "here", "--json"];

#[test]
fn stages_are_computed_by_pods_whatever_becomes_of_them() {
    // No place for another Job, an answer that was lost, and pods that are evicted and killed.
    let space = cluster("quota\nunsure\nevicted\nkilled\n");
    let output = pipe(&space, &RUN);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let alone = space.pipe(&["run", "recipe.yaml", "--json", "--store", "alone"]);
    assert_eq!(digests(&output.stdout), digests(&alone.stdout));
    assert!(output.stderr.contains("no more jobs are taken at the moment"), "{}", output.stderr);
    assert!(output.stderr.contains("it was killed; submitted again"), "{}", output.stderr);
    let calls = || space.read("fake/calls").lines().count();
    // What was too much at once is offered in parts: five stages, and the one that was killed again.
    assert_eq!(calls(), 7, "{}", space.read("fake/calls"));
    let again = pipe(&space, &RUN);
    assert_eq!((again.status, digests(&again.stdout)), (0, digests(&output.stdout)));
    assert_eq!(calls(), 7);
}

#[test]
fn how_a_pod_ended_is_told_in_plain_words() {
    for (next, said) in [
        ("oom\n", "ran out of memory: `1G` was asked for"),
        ("image\n", "it can never run, since its image can't be had (InvalidImageName: it isn't there)"),
        ("invalid\n", "its job isn't taken: The Job \"x\" is invalid"),
    ] {
        let space = cluster(next);
        let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--stage", "tokens"]);
        assert_eq!(output.status, 1, "{next}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{next}: {}", output.stderr);
        if next == "image\n" {
            assert!(output.stderr.contains("what the pod said"), "{}", output.stderr);
            assert!(space.read("fake/cancelled").contains("delete job --ignore-not-found"));
        }
    }
}

#[test]
fn detached_run_leaves_what_has_to_wait_to_whoever_attaches() {
    let space = cluster("");
    let output = pipe(&space, &["run", "recipe.yaml", "--on", "here", "--detach"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(space.read("fake/calls").lines().count(), 1, "the others need it");
    let attached = pipe(&space, &["attach"]);
    assert_eq!(attached.status, 0, "{}", attached.stderr);
}

#[test]
fn claim_has_to_be_said() {
    let space = cluster("");
    space.write("pipe.toml", "[profiles.here]\nengine = \"kubernetes\"\n");
    let output = pipe(&space, &["plan", "recipe.yaml", "--on", "here"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("how pods come by the store"), "{}", output.stderr);
}

/// The files of profiles in the guide's page.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/kubernetes.md");
    let mut blocks = vec![String::new()];
    for line in std::fs::read_to_string(page).expect("the page").lines() {
        let code = line.strip_prefix("    ").or(Some("").filter(|_| line.is_empty()));
        match (code, blocks.last_mut()) {
            (Some(code), Some(block)) => block.push_str(&format!("{code}\n")),
            _ => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| block.trim_start().starts_with("[profiles."));
    blocks
}

#[test]
fn manifests_are_what_the_api_takes() {
    let validate = need!(Need::KubernetesValidate.variable("PIPE_KUBERNETES_VALIDATE"));
    let space = cluster("");
    let mut profiles = documented();
    assert!(profiles.len() > 1, "{profiles:?}");
    profiles.push(space.read("pipe.toml"));
    for profile in profiles {
        let name = profile.split(['.', ']']).nth(1).expect("a name").to_owned();
        // The store is the test's.
        let lines = profile.lines().filter(|line| !line.starts_with("store"));
        space.write("pipe.toml", lines.collect::<Vec<_>>().join("\n"));
        let output = pipe(&space, &["plan", "recipe.yaml", "--on", &name, "--manifest"]);
        assert_eq!(output.status, 0, "{profile}: {}", output.stderr);
        assert!(output.stdout.matches("\nkind: Job\n").count() > 1, "{}", output.stdout);
        space.write("jobs.yaml", &output.stdout);
        let mut command = Command::new(&validate);
        command.args(["--strict", "jobs.yaml"]).current_dir(space.path());
        let said = finish(command);
        assert_eq!(said.status, 0, "{}{}\n{}", said.stdout, said.stderr, output.stdout);
    }
    // It isn't content with everything.
    let wrong = space.read("jobs.yaml").replace("completions:", "completion:");
    space.write("jobs.yaml", wrong);
    let mut command = Command::new(&validate);
    command.args(["--strict", "jobs.yaml"]).current_dir(space.path());
    assert_ne!(finish(command).status, 0);
}
