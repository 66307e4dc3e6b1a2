//! Runs on a real Slurm of several nodes, which `../shared/tools/slurm.sh` starts on this machine: each node is a space of
//! processes with a host name of its own, and can lose its power.

use std::path::{Path, PathBuf};

use crate::{
    beds::{bed, beside, digests},
    common::{
        Space, need,
        needs::{Need, Needed},
        tiny,
    },
};

/// The script that starts it, which would install it otherwise.
fn slurm() -> Needed<PathBuf> {
    let daemons = ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged"];
    if daemons.iter().any(|file| !Path::new(file).exists()) {
        return Err(Need::Slurm.unmet("slurmctld, slurmd and munge aren't installed"));
    }
    bed(Need::Slurm, "slurm.sh")
}

/// The tiny recipe, and a profile for it.
fn space() -> Space {
    let space = tiny();
    let program = env!("CARGO_BIN_EXE_pipe");
    let profile =
        format!("[profiles.bed]\nengine = \"slurm\"\nask = 2\nprogram = \"{program}\"\nall = {{ memory = \"1G\" }}\n");
    space.write("pipe.toml", profile);
    space
}

#[test]
fn recipe_runs_on_its_nodes_as_on_one_machine() {
    let bed = need!(slurm());
    let space = space();
    let output = beside(
        &bed,
        &space,
        "pipe doctor --on bed
         pipe run recipe.yaml --on bed --json >first.json
         squeue -h -r -t all | wc -l >jobs
         pipe run recipe.yaml --on bed --json >second.json
         squeue -h -r -t all | wc -l >>jobs
         pipe run recipe.yaml --json --store alone >alone.json",
    );
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("locks of files hold between machines"), "{}", output.stdout);
    let first = digests(&space.read("first.json"));
    assert_eq!(first, digests(&space.read("alone.json")));
    assert_eq!(first, digests(&space.read("second.json")));
    let jobs = space.read("jobs");
    let counts: Vec<&str> = jobs.split_whitespace().collect();
    assert_eq!(counts[0], counts[1], "nothing is submitted the second time");
}

#[test]
fn run_outlives_its_submitter_its_controller_and_a_node() {
    let bed = need!(slurm());
    let space = space();
    space.write("recipe.yaml", space.read("recipe.yaml").replace("steps: 8,", "steps: 1500, checkpoint_every: 20,"));
    let output = beside(
        &bed,
        &space,
        r#"pipe run recipe.yaml --on bed --json >/dev/null 2>first.log & submitter=$!
         events() { cat .pipe/jobs/*/events/1.jsonl 2>/dev/null; }
         # In the middle of pretraining the submitter is killed, the controller goes away, and the node loses its power.
         until events | grep -q '"progress":{"done":[1-9][0-9]'; do sleep 0.2; done
         kill -KILL $submitter
         node=$(squeue -h -t R -o %N | head -1)
         bed ctld stop; sleep 2; bed ctld start
         bed kill "$node"
         pipe attach & follower=$!
         # Slurm makes a job wait for two minutes that lost its node.
         for i in $(seq 150); do
           for job in $(squeue -h -r -t PD -o %A 2>/dev/null || true); do scontrol update JobId=$job StartTime=now 2>/dev/null || true; done
           kill -0 $follower 2>/dev/null || break
           sleep 1
         done
         wait $follower
         pipe run recipe.yaml --on bed --json >last.json
         pipe verify
         pipe run recipe.yaml --json --store alone >alone.json"#,
    );
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(digests(&space.read("last.json")), digests(&space.read("alone.json")));
}
