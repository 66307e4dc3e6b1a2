//! Several processes on one store: each stage is computed once, whatever happens to the others.

use crate::common;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use common::{Random, Space, TINY, ended, tiny};
use serde_json::Value;

const STAGES: [&str; 4] = ["tokens", "base", "topics", "test"];

fn start(space: &Space) -> Child {
    let mut command = space.command(&["run", "recipe.yaml", "--json"]);
    // Many processes on few cores.
    command.env("RAYON_NUM_THREADS", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process")
}

fn result(child: Child) -> Value {
    let output = ended(child);
    assert_eq!(output.status, 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// What processes say of a stage.
fn all<'a>(results: &'a [Value], stage: &str, field: &str) -> Vec<&'a str> {
    results.iter().map(|result| result["stages"][stage][field].as_str().expect("text")).collect()
}

fn entries(space: &Space, dir: &str) -> usize {
    std::fs::read_dir(space.path().join(".pipe").join(dir)).expect("a folder").count()
}

#[test]
fn eight_processes_compute_each_stage_once_and_agree() {
    let space = tiny();
    let results: Vec<_> = [(); 8].map(|()| start(&space)).into_iter().map(result).collect();
    for stage in STAGES {
        let ran = all(&results, stage, "status").iter().filter(|status| **status == "ran").count();
        assert_eq!(ran, 1, "{stage}");
        let digests = all(&results, stage, "digest");
        assert!(digests.iter().all(|digest| digest == &digests[0]), "{stage}: {digests:?}");
    }
    assert_eq!(["artifacts", "tmp", "leases"].map(|dir| entries(&space, dir)), [5, 0, 0]);
}

#[test]
fn seven_processes_finish_when_the_eighth_is_killed() {
    let alone = result(start(&tiny()));
    // Times from a fixed list that spreads over the run.
    for delay in [10, 90, 170, 330, 610, 900] {
        let space = tiny();
        let mut children = [(); 8].map(|()| start(&space)).into_iter();
        let mut killed = children.next().expect("eight of them");
        std::thread::sleep(Duration::from_millis(delay));
        killed.kill().expect("a kill");
        let _ = killed.wait();
        let results: Vec<_> = children.map(result).collect();
        for stage in STAGES {
            let ran = all(&results, stage, "status").iter().filter(|status| **status == "ran").count();
            assert!(ran <= 1, "{stage} ran {ran} times");
            let digests = all(&results, stage, "digest");
            let expected = alone["stages"][stage]["digest"].as_str().expect("a digest");
            assert!(digests.iter().all(|digest| *digest == expected), "{stage}: {digests:?}");
        }
        // What was killed between making an artifact and letting it go, whoever looks next tidies up.
        space.json(&["run", "recipe.yaml"]);
        assert_eq!(["artifacts", "tmp", "leases"].map(|dir| entries(&space, dir)), [5, 0, 0], "after {delay} ms");
    }
}

#[cfg(unix)]
#[test]
fn suspended_process_that_lost_its_stage_touches_nothing_of_the_new_holder() {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("steps: 8,", "steps: 400, checkpoint_every: 50,"));
    let mut command = space.command(&["run", "recipe.yaml", "--stage", "base", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("text").starts_with("base: 400 steps")));
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    };
    signal("-STOP");
    // As another machine takes the stage over: with a lease, a slot and a state of its own.
    let leases = space.path().join(".pipe/leases");
    let key = std::fs::read_dir(&leases).expect("a folder").next().expect("a lease").expect("an entry").file_name();
    let key = key.into_string().expect("a key");
    let token = "00112233445566ff";
    let lease = format!("{:020}\n{{\"token\":\"{token}\",\"host\":\"elsewhere\",\"pid\":1}}\n", 1);
    space.write(".pipe/leases/.new", lease);
    std::fs::rename(leases.join(".new"), leases.join(&key)).expect("a lease");
    let (slot, state) = (format!(".pipe/tmp/{key}.{token}/out"), format!(".pipe/tmp/{key}.{token}.state/step"));
    space.write(&slot, "theirs").write(&state, "theirs");
    signal("-CONT");
    assert!(lines.any(|line| line.expect("text").contains("another process has taken this stage over")));
    assert!(!space.path().join(".pipe/artifacts").join(&key).exists());
    assert_eq!((space.read(&slot), space.read(&state)), ("theirs".into(), "theirs".into()));
    assert!(std::fs::read_to_string(leases.join(&key)).expect("a lease").contains(token));

    // The other one fails and lets go; the state that it leaves is no checkpoint, so it's taken away first.
    std::fs::remove_dir_all(space.path().join(format!(".pipe/tmp/{key}.{token}.state"))).expect("removed");
    std::fs::remove_file(leases.join(&key)).expect("removed");
    lines.by_ref().for_each(drop);
    let result = result(child);
    assert_eq!(result["stages"]["base"]["status"], "ran");
    assert_eq!(["artifacts", "tmp", "leases"].map(|dir| entries(&space, dir)), [2, 0, 0]);
}

/// `PIPE_KILLS` is the number of kills, 12 unless it's said.
#[test]
fn processes_that_are_killed_at_random_lose_nothing_and_tell_nothing_wrong() {
    const WORKERS: usize = 8;
    let kills: usize = std::env::var("PIPE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let (space, mut random) = (tiny(), Random(18));
    let (mut killed, mut finished, mut round) = (0, 0, 0);
    while killed < kills {
        round += 1;
        let seed = format!("seed={round}");
        let run = ["run", "recipe.yaml", "--set", &seed];
        let expected = space.json(&[&run[..], &["--store", "alone"]].concat());
        let check = |found: &Value| {
            for stage in STAGES {
                let digest = |run: &Value| run["stages"][stage]["digest"].clone();
                assert_eq!(digest(found), digest(&expected), "{stage} of round {round}");
            }
        };
        // Three kills for each process, and then it may finish.
        let delays: Vec<Vec<u64>> = (0..WORKERS).map(|_| (0..3).map(|_| random.below(900) as u64).collect()).collect();
        let work = {
            let (space, check) = (&space, &check);
            move |delays: Vec<u64>| {
                let mut killed = 0;
                for delay in delays.into_iter().map(Some).chain([None]) {
                    let mut command = space.command(&[&run[..], &["--json"]].concat());
                    command.env("RAYON_NUM_THREADS", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
                    let mut child = command.spawn().expect("a process");
                    if let Some(delay) = delay {
                        std::thread::sleep(Duration::from_millis(delay));
                        if child.try_wait().expect("a process").is_none() {
                            child.kill().expect("a kill");
                            let _ = child.wait();
                            killed += 1;
                            continue;
                        }
                    }
                    check(&result(child));
                }
                killed
            }
        };
        let counts = std::thread::scope(|scope| {
            let workers: Vec<_> = delays.into_iter().map(|delays| scope.spawn(move || work(delays))).collect();
            workers.into_iter().map(|worker| worker.join().expect("no wrong result")).sum::<usize>()
        });
        killed += counts;
        finished += 4 * WORKERS - counts;
        check(&space.json(&run));
        assert_eq!(["tmp", "leases"].map(|dir| entries(&space, dir)), [0, 0], "after {killed} kills");
        assert_eq!(space.json(&["verify"])["damaged"], serde_json::json!([]));
    }
    println!("{killed} kills in {round} rounds, {finished} runs finished");
}
