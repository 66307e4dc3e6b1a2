//! Runs on a real Ray, which `../shared/tools/ray.sh` starts on this machine.

use std::{env, path::PathBuf};

use crate::{
    beds::{bed, beside, digests},
    common::{
        need,
        needs::{Need, Needed},
        tiny,
    },
};

/// The script that starts it, which would install it otherwise.
fn ray() -> Needed<PathBuf> {
    let own = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache/ray-bed"));
    let venv = env::var_os("RAY_VENV").map(PathBuf::from).or_else(own);
    if !venv.is_some_and(|venv| venv.join("bin/ray").exists()) {
        return Err(Need::Ray.unmet("RAY_VENV has no Ray"));
    }
    bed(Need::Ray, "ray.sh")
}

#[test]
fn jobs_that_are_killed_are_submitted_again_and_one_that_waits_is_told_of() {
    let bed = need!(ray());
    let space = tiny();
    space.write("recipe.yaml", space.read("recipe.yaml").replace("steps: 8,", "steps: 400, checkpoint_every: 20,"));
    let program = env!("CARGO_BIN_EXE_pipe");
    let profile = |name: &str, all: &str| {
        format!("[profiles.{name}]\nengine = \"ray\"\nask = 1\nprogram = \"{program}\"\nall = {{ {all} }}\n")
    };
    let profiles = profile("bed", "memory = \"none\"") + &profile("starved", "memory = \"none\", cpus = 99");
    space.write("pipe.toml", profiles);
    let output = beside(
        &bed,
        &space,
        r#"pipe doctor --on bed --json >doctor.json
         pipe run recipe.yaml --on bed --json >first.json 2>first.log & submitter=$!
         until cat .pipe/jobs/*/events/1.jsonl 2>/dev/null | grep -q '"progress":{"done":[1-9][0-9]'; do
           kill -0 $submitter; sleep 0.1
         done
         # It's this bed's own space of processes.
         kill -KILL $(pgrep -f -- '[/]pipe stage ')
         wait $submitter
         curl -sf "$RAY_API_SERVER_ADDRESS/api/jobs/" >jobs.json
         pipe run recipe.yaml --on bed --json >second.json
         pipe run recipe.yaml --json --store alone >alone.json
         pipe --store waits run recipe.yaml --on starved --stage tokens 2>starved.log & submitter=$!
         until grep -q "has waited for" starved.log; do kill -0 $submitter; sleep 0.5; done
         pipe --store waits cancel
         wait $submitter || true
         pipe --store waits status"#,
    );
    assert_eq!(output.status, 0, "{}\n{}\n{}", output.stdout, output.stderr, space.read("first.log"));
    let first = digests(&space.read("first.json"));
    assert_eq!(first, digests(&space.read("alone.json")));
    assert_eq!(first, digests(&space.read("second.json")));
    assert!(space.read("first.log").contains("it was killed at"), "{}", space.read("first.log"));
    // Four stages, one of them twice, and what the doctor looked with; nothing the second time.
    let jobs: serde_json::Value = serde_json::from_str(&space.read("jobs.json")).expect("JSON");
    assert_eq!(jobs.as_array().map(Vec::len), Some(7), "{jobs:#}");
    assert!(space.read("starved.log").contains("the job of `tokens` has waited for 30 s: "));
}
