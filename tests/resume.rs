//! A training stage that is killed goes on from its last checkpoint, and ends as if nothing had happened.

mod common;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use common::{TINY, tiny};

#[test]
fn killed_training_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let recipe = TINY.replace("steps: 8,", "steps: 1200, checkpoint_every: 20,");
    let run = ["run", "recipe.yaml", "--stage", "base"];
    let whole = tiny();
    whole.write("recipe.yaml", &recipe);
    let expected = whole.json(&run)["stages"]["base"]["digest"].clone();

    let killed = tiny();
    killed.write("recipe.yaml", &recipe);
    let mut child = killed.command(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let tmp = killed.path().join(".pipe/tmp");
    let has_state = || {
        let entries = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "state")).count() > 0
    };
    let began = Instant::now();
    while !has_state() && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("a process to kill");
    let _ = child.wait();

    let result = killed.pipe(&[&run[..], &["--json"]].concat());
    assert_eq!(result.status, 0, "{}", result.stderr);
    assert!(result.stderr.contains("goes on from the last checkpoint"), "{}", result.stderr);
    let result: serde_json::Value = serde_json::from_str(&result.stdout).expect("json");
    assert_eq!(result["stages"]["base"]["status"], "ran");
    assert_eq!(result["stages"]["base"]["digest"], expected);
    assert_eq!(std::fs::read_dir(&tmp).expect("a folder").count(), 0, "nothing temporary is left");
}
