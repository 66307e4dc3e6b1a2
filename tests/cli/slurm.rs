//! Runs on a real Slurm of several nodes, which `../shared/tools/slurm.sh` starts on this machine: each node is a space of
//! processes with a host name of its own, and can lose its power.

use std::path::{Path, PathBuf};

use crate::{
    beds::{bed, beside, digests},
    common::{
        Space, free_port, need,
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

/// The tiny recipe, a profile for machines that have a remote in common and no disk, and the lines that begin it.
fn apart() -> Needed<(Space, String)> {
    let moto = std::env::var("PIPE_MOTO_SERVER").unwrap_or_else(|_| "moto_server".into());
    if std::process::Command::new(&moto).arg("--version").output().is_err() {
        return Err(Need::S3.unmet(format!("{moto} can't be started")));
    }
    let space = tiny();
    let (program, folder, port) = (env!("CARGO_BIN_EXE_pipe"), space.path().display(), free_port());
    // Each node has a file system of its own where the submitter's folder is.
    let profile = format!(
        r#"[profiles.bed]
engine = "slurm"
ask = 1
program = "{program}"
remote = "s3://cache/of/all"
store = "{folder}/own"

[profiles.bed.all]
memory = "1G"
before = ["flock / sh -c 'mountpoint -q {folder} || mount -t tmpfs none {folder}'"]
environment = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]
"#
    );
    space.write("pipe.toml", profile);
    let lines = format!(
        r#"export AWS_ENDPOINT_URL=http://127.0.0.1:{port} AWS_ACCESS_KEY_ID=ASIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=geheim
         export AWS_REGION=us-east-1
         {moto} -H 127.0.0.1 -p {port} >/dev/null 2>&1 &
         until curl -s $AWS_ENDPOINT_URL >/dev/null; do sleep 0.2; done
         scope=ASIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request
         curl -sf -X PUT -H "Authorization: AWS4-HMAC-SHA256 Credential=$scope, SignedHeaders=host, Signature=00" $AWS_ENDPOINT_URL/cache
         "#
    );
    Ok((space, lines))
}

#[test]
fn machines_that_share_no_disk_have_a_remote_in_common() {
    let bed = need!(slurm());
    let (space, begin) = need!(apart());
    let lines = begin
        + "pipe doctor --on bed >doctor
         pipe run recipe.yaml --on bed --json >first.json
         pipe run recipe.yaml --on bed --json >second.json
         ls .pipe/artifacts 2>/dev/null | wc -l >here
         squeue -h -r -t all | wc -l >jobs
         pipe --store other status --on bed --json >status.json
         pipe --store other logs base --on bed >log
         pipe run recipe.yaml --json --store alone >alone.json";
    let output = beside(&bed, &space, &lines);
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    let first = digests(&space.read("first.json"));
    assert_eq!(first, digests(&space.read("alone.json")));
    assert_eq!(first, digests(&space.read("second.json")));
    assert!(!space.path().join("own").exists(), "the nodes' stores are their own");
    assert_eq!((space.read("here").trim(), space.read("jobs").trim()), ("0", "6"));
    let found = space.read("doctor");
    assert!(found.lines().all(|line| line.starts_with("ok ")), "{found}");
    assert!(found.contains("reads and writes s3://cache/of/all") && found.contains("MB/s to the remote"), "{found}");
    // Another machine that sees the remote knows the run, too.
    assert!(space.read("status.json").contains(r#""ran": 5"#), "{}", space.read("status.json"));
    assert!(space.read("log").contains("base: done"), "{}", space.read("log"));
}

#[test]
fn what_one_machine_has_begun_another_one_that_shares_no_disk_goes_on_with() {
    let bed = need!(slurm());
    let (space, begin) = need!(apart());
    space.write("recipe.yaml", space.read("recipe.yaml").replace("steps: 8,", "steps: 8000, checkpoint_every: 20,"));
    let lines = begin
        + r#"pipe run recipe.yaml --on bed --json >first.json 2>first.log & follower=$!
         events() { cat .pipe/jobs/*/events/1.jsonl 2>/dev/null; }
         until events | grep -q '"progress":{"done":[1-9][0-9]'; do sleep 0.2; done
         node=$(squeue -h -t R -o %N | head -1)
         scontrol update NodeName="$node" State=DRAIN Reason=test
         scontrol requeue "$(squeue -h -t R -o %A | head -1)"
         for i in $(seq 150); do
           for job in $(squeue -h -r -t PD -o %A 2>/dev/null || true); do scontrol update JobId=$job StartTime=now 2>/dev/null || true; done
           kill -0 $follower 2>/dev/null || break
           sleep 1
         done
         wait $follower
         pipe logs base --on bed >log
         pipe run recipe.yaml --json --store alone >alone.json"#;
    let output = beside(&bed, &space, &lines);
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(digests(&space.read("first.json")), digests(&space.read("alone.json")));
    assert!(space.read("log").contains("resumes from the last checkpoint, after step "), "{}", space.read("log"));
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

/// What decides as it goes needs a process that follows it, which may be a job itself.
#[test]
fn manager_of_a_search_runs_as_a_job() {
    let bed = need!(slurm());
    let space = space();
    let program = env!("CARGO_BIN_EXE_pipe");
    let search = "sweep:
  tpe:
    cells: 4
    startup: 2
    batch: 2
    values: { stages.topics.train.lr: { log: [1.0e-4, 1.0e-2] } }
  minimize: stages.topics.metrics.loss
";
    space.write("recipe.yaml", format!("{}{search}", space.read("recipe.yaml")));
    let lines = format!(
        "sbatch -W -o manager --mem=500M --wrap '{program} sweep recipe.yaml --on bed --json >found.json 2>log' || cat log manager
         squeue -h -r -t all | wc -l >jobs
         pipe sweep recipe.yaml --json --store alone >alone.json"
    );
    let output = beside(&bed, &space, &lines);
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    let cells = |name: &str| {
        let sweep: serde_json::Value = serde_json::from_str(&space.read(name)).unwrap();
        sweep["cells"].clone()
    };
    let found = cells("found.json");
    assert_eq!(found.as_array().map(Vec::len), Some(4), "{found}");
    // The manager, what all cells share, and the cells.
    let jobs: usize = space.read("jobs").trim().parse().unwrap();
    assert!(jobs > 4, "{jobs}");
}
