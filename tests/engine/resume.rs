//! What is stopped goes on, and ends as if nothing had happened: killed, interrupted, or to become longer.

use crate::common;
use std::{
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use common::{Space, TINY, await_that, ended, tiny};
use pipe::support::random::{Key, Stream};
use serde_json::Value;

const BASE: [&str; 4] = ["run", "recipe.yaml", "--stage", "base"];

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing but artifacts and what is remembered of files is in the store.
fn is_tidy(space: &Space) {
    for folder in ["tmp", "states"] {
        let left = entries(&space.path().join(".pipe").join(folder));
        assert!(left.is_empty(), "{left:?} is left in {folder}");
    }
}

fn digests(result: &Value) -> Vec<(String, String)> {
    let stages = result["stages"].as_object().expect("stages");
    stages.iter().map(|(name, stage)| (name.clone(), stage["digest"].as_str().unwrap_or("none").to_owned())).collect()
}

fn start(space: &Space, arguments: &[&str]) -> Child {
    space.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process")
}

/// Waits until a stage of this space has kept a state.
fn await_state(space: &Space) {
    let tmp = space.path().join(".pipe/tmp");
    let is_kept = |name: &String| name.ends_with(".state") && tmp.join(name).join("state.json").exists();
    await_that("a state is kept", || entries(&tmp).iter().any(is_kept));
}

/// Whether one of the files below a folder has these bytes in it.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let files =
        walkdir::WalkDir::new(folder).into_iter().flatten().filter_map(|entry| std::fs::read(entry.path()).ok());
    files.into_iter().any(|file| file.windows(bytes.len()).any(|part| part == bytes))
}

/// Runs again and again, killed at random moments `kills` times, in new stores as often as one is finished; gives how
/// often each store's run was finished. Each finished run has the digests of one that nothing happened to.
fn kill_at_random(arguments: &[&str], kills: usize, seed: u64) {
    let random: &mut Stream = &mut Key::new(seed).stream();
    let whole = Space::new();
    let began = Instant::now();
    let expected = digests(&whole.json(arguments));
    let whole_time = began.elapsed().as_secs_f64();
    let began = Instant::now();
    whole.json(arguments);
    let startup = began.elapsed().as_secs_f64();

    // Twice the time that a run takes, in all: most of it is lost since the last checkpoint, or in starting.
    let longest = 4.0 * whole_time / kills as f64;
    let mut space = Space::new();
    let mut killed = 0;
    while killed < kills {
        let mut child = start(&space, arguments);
        std::thread::sleep(Duration::from_secs_f64(startup + longest * random.f64()));
        match child.try_wait().expect("a process") {
            None => {
                child.kill().expect("a process to kill");
                let _ = child.wait();
                killed += 1;
            }
            Some(status) => {
                assert!(status.success(), "{}", ended(child).stderr);
                assert_eq!(digests(&space.json(arguments)), expected, "after {killed} kills");
                is_tidy(&space);
                space = Space::new();
            }
        }
    }
    assert_eq!(digests(&space.json(arguments)), expected);
    space.json(arguments);
    is_tidy(&space);
}

fn recipe(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name).to_string_lossy().into_owned()
}

/// The stages that come before finetuning, made small.
const SMALL: [&str; 20] = [
    "--var",
    "hidden=16",
    "--var",
    "layers=1",
    "--set",
    "stages.encoder.train.epochs=0.6",
    "--set",
    "stages.encoder.train.checkpoint_every=3",
    "--set",
    "stages.generator.train.epochs=0.4",
    "--set",
    "stages.generator.train.checkpoint_every=3",
    "--set",
    "stages.topics.train.epochs=1",
    "--set",
    "stages.topics.train.evaluate_every=8",
    "--set",
    "stages.topics.train.checkpoint_every=3",
    "--set",
    "stages.topics.train.max_length=48",
];

#[test]
fn thirty_kills_over_the_main_recipe_change_nothing() {
    let recipe = recipe("chatglm_cls.yaml");
    kill_at_random(&[&["run", &recipe][..], &SMALL].concat(), 30, 6);
}

#[test]
fn kills_while_an_adapter_is_trained_change_nothing() {
    let recipe = recipe("lora_cls.yaml");
    kill_at_random(&[&["run", &recipe][..], &SMALL].concat(), 8, 7);
}

/// A training that was killed behind a checkpoint, and what comes out of one that wasn't.
fn killed_training() -> (Space, Vec<(String, String)>) {
    let recipe = TINY.replace("steps: 8,", "steps: 1200, checkpoint_every: 20,");
    let whole = tiny();
    whole.write("recipe.yaml", &recipe);
    let expected = digests(&whole.json(&BASE));

    let killed = tiny();
    killed.write("recipe.yaml", &recipe);
    killed.json(&["run", "recipe.yaml", "--stage", "tokens"]);
    let mut child = start(&killed, &BASE);
    await_state(&killed);
    child.kill().expect("a process to kill");
    let _ = child.wait();
    (killed, expected)
}

#[test]
fn killed_training_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let (killed, expected) = killed_training();

    let plan = killed.json(&["plan", "recipe.yaml"]);
    let step = plan["stages"]["base"]["continues_from"].as_u64().expect("a step");
    assert!(step >= 20 && step.is_multiple_of(20), "{plan}");
    let result = killed.pipe(&[&BASE[..], &["--json"]].concat());
    assert_eq!(result.status, 0, "{}", result.stderr);
    let told = format!("base: resumes from the last checkpoint, after step {step}");
    assert!(result.stderr.contains(&told), "{}", result.stderr);
    let result: Value = serde_json::from_str(&result.stdout).expect("json");
    assert_eq!(result["stages"]["base"]["status"], "ran");
    assert_eq!(digests(&result), expected);
    is_tidy(&killed);
}

#[test]
fn state_that_was_damaged_is_thrown_away_with_a_note() {
    let (killed, expected) = killed_training();
    let tmp = killed.path().join(".pipe/tmp");
    let state = entries(&tmp).into_iter().find(|name| name.ends_with(".state")).expect("a state");
    let record = tmp.join(state).join("state.json");
    let length = std::fs::metadata(&record).expect("a record").len();
    std::fs::File::options().write(true).open(&record).expect("a file").set_len(length / 2).expect("a cut");

    let result = killed.pipe(&[&BASE[..], &["--json"]].concat());
    assert_eq!(result.status, 0, "{}", result.stderr);
    assert!(
        result.stderr.contains("can't resume from the last checkpoint, so that is thrown away"),
        "{}",
        result.stderr
    );
    assert_eq!(digests(&serde_json::from_str(&result.stdout).expect("json")), expected);
    is_tidy(&killed);
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let kill = std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
}

#[test]
#[cfg(unix)]
fn interrupted_run_pauses_says_how_to_go_on_and_goes_on() {
    let recipe = TINY.replace("steps: 8,", "steps: 1500, checkpoint_every: 10,");
    let whole = tiny();
    whole.write("recipe.yaml", &recipe);
    let expected = digests(&whole.json(&["run", "recipe.yaml"]));

    for (name, jobs) in [("INT", "1"), ("TERM", "2")] {
        let space = tiny();
        space.write("recipe.yaml", &recipe);
        space.json(&["run", "recipe.yaml", "--stage", "tokens"]);
        let run = ["run", "recipe.yaml", "--jobs", jobs];
        let child = start(&space, &run);
        await_state(&space);
        signal(&child, name);
        let output = ended(child);
        assert_eq!(output.status, 130, "{}", output.stderr);
        assert!(output.stderr.contains("base: stopped after step "), "{}", output.stderr);
        // The linear baseline needs none of what is paused: with two jobs it runs beside.
        let others = if jobs == "1" { "1 paused, 3 not run in" } else { "1 paused, 2 not run in" };
        assert!(output.stderr.contains("5 stages: ") && output.stderr.contains(others), "{}", output.stderr);
        let again = format!("the same command resumes from here: pipe {}", run.join(" "));
        assert!(output.stderr.contains(&again), "{}", output.stderr);
        let left = entries(&space.path().join(".pipe/tmp"));
        assert!(left.len() == 1 && left[0].ends_with(".state"), "{left:?}");
        assert_eq!(digests(&space.json(&run)), expected);
        is_tidy(&space);
    }
}

#[test]
#[cfg(unix)]
fn interrupted_sweep_goes_on() {
    let space = tiny();
    let recipe = TINY.replace("steps: 8,", "steps: 1500, checkpoint_every: 10,");
    let grid = "sweep:\n  grid: { stages.topics.train.lr: [1.0e-3, 3.0e-2] }\n";
    space.write("recipe.yaml", format!("{recipe}{grid}"));
    space.json(&["run", "recipe.yaml", "--stage", "tokens"]);
    let sweep = ["sweep", "recipe.yaml", "--jobs", "2"];
    let child = start(&space, &sweep);
    await_state(&space);
    signal(&child, "INT");
    let output = ended(child);
    assert_eq!(output.status, 130, "{}", output.stderr);
    assert!(output.stderr.contains("base: stopped after step "), "{}", output.stderr);
    let output = space.pipe(&sweep);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("base: resumes from the last checkpoint, after step "), "{}", output.stderr);
    is_tidy(&space);
}

#[test]
#[cfg(unix)]
fn second_interrupt_stops_at_once() {
    let space = tiny();
    // Steps that take long enough for both signals to fall into one.
    let recipe =
        TINY.replace("steps: 8, batch: { examples: 4 }", "steps: 4000, accumulate: 400, batch: { examples: 4 }");
    space.write("recipe.yaml", recipe.replace("lr: 1.0e-3 }\n  topics", "lr: 1.0e-3, log_every: 1 }\n  topics"));
    space.json(&["run", "recipe.yaml", "--stage", "tokens"]);
    let child = start(&space, &BASE);
    await_that("a step is done", || holds(&space.path().join(".pipe/tensorboard"), b"loss"));
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(5));
    let began = Instant::now();
    // The first may have been enough already.
    let _ = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status();
    assert_eq!(ended(child).status, 130);
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// What the tiny recipe becomes with a constant schedule and this length of its first and second training.
fn constant(base: &str, topics: &str) -> String {
    let schedule = "schedule: constant, warmup_steps: 1,";
    let recipe = TINY.replace("steps: 8,", &format!("{base}, {schedule}"));
    recipe.replace("epochs: 2,", &format!("{topics}, {schedule} evaluate_every: 2, keep_best: accuracy,"))
}

#[test]
fn longer_training_with_a_constant_rate_goes_on_where_the_shorter_one_ended() {
    for (short, long, step) in [
        (("steps: 5", "steps: 3"), ("steps: 12", "steps: 8"), 3),
        (("epochs: 0.5", "epochs: 1"), ("epochs: 1.3", "epochs: 4.5"), 2),
    ] {
        let whole = tiny();
        whole.write("recipe.yaml", constant(long.0, long.1));
        let expected = digests(&whole.json(&["run", "recipe.yaml"]));

        let space = tiny();
        space.write("recipe.yaml", constant(short.0, short.1));
        space.json(&["run", "recipe.yaml"]);
        // The second training begins with what the first gave, so it has to be the same one for going on.
        space.write("recipe.yaml", constant(short.0, long.1));
        let plan = space.json(&["plan", "recipe.yaml"]);
        assert_eq!(plan["stages"]["topics"]["continues_from"], step, "{plan}");
        let text = space.pipe(&["plan", "recipe.yaml"]).stdout;
        assert!(text.contains(&format!("continues after step {step}; train.")), "{text}");
        let output = space.pipe(&["run", "recipe.yaml"]);
        let told = format!("topics: resumes from where a shorter training ended, after step {step}");
        assert!(output.stderr.contains(&told), "{}", output.stderr);
        let fresh = tiny();
        fresh.write("recipe.yaml", constant(short.0, long.1));
        let result = fresh.json(&["run", "recipe.yaml"]);
        assert_eq!(digests(&space.json(&["run", "recipe.yaml"])), digests(&result));

        space.write("recipe.yaml", constant(long.0, long.1));
        let output = space.pipe(&["run", "recipe.yaml"]);
        assert!(output.stderr.contains("base: resumes from where a shorter training ended"), "{}", output.stderr);
        assert_eq!(digests(&space.json(&["run", "recipe.yaml"])), expected);
    }
}

#[test]
fn training_whose_rate_depends_on_its_length_starts_over() {
    for schedule in ["schedule: linear", "schedule: cosine", "schedule: constant, warmup_ratio: 0.1"] {
        let space = tiny();
        let recipe = |steps: usize| TINY.replace("steps: 8,", &format!("steps: {steps}, {schedule},"));
        space.write("recipe.yaml", recipe(4));
        space.json(&BASE);
        is_tidy(&space);
        space.write("recipe.yaml", recipe(8));
        assert_eq!(space.json(&["plan", "recipe.yaml"])["stages"]["base"]["continues_from"], Value::Null);
        let output = space.pipe(&BASE);
        assert!(!output.stderr.contains("resumes from"), "{}", output.stderr);
    }
}

#[test]
fn shorter_training_and_a_forced_one_start_over() {
    let space = tiny();
    for (steps, arguments) in [(8, &BASE[..]), (4, &BASE), (8, &[&BASE[..], &["--force", "base"]].concat())] {
        space.write("recipe.yaml", constant(&format!("steps: {steps}"), "epochs: 1"));
        let output = space.pipe(arguments);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(!output.stderr.contains("resumes from"), "{}", output.stderr);
    }
    let gone = space.json(&["gc", "--grace", "0s"]);
    assert!(gone.to_string().contains("/states/"), "{gone}");
}

#[test]
fn cells_that_differ_in_length_only_share_their_beginning() {
    let space = tiny();
    let grid = "sweep:\n  grid: { stages.base.train.steps: [9, 3, 6] }\n";
    space.write("recipe.yaml", format!("{}{grid}", constant("steps: 3", "epochs: 1")));
    let output = space.pipe(&["sweep", "recipe.yaml", "--jobs", "2"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    for step in [3, 6] {
        let told = format!("resumes from where a shorter training ended, after step {step}");
        assert_eq!(output.stderr.matches(&told).count(), 1, "{}", output.stderr);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn terminal_that_is_closed_keeps_a_checkpoint_unless_hangups_are_ignored() {
    let hang_up = |child: &Child| {
        let status = std::process::Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    };
    let started = |space: &Space, by: &[&str]| {
        space.json(&["run", "recipe.yaml", "--stage", "tokens"]);
        let mut command = std::process::Command::new(by[0]);
        command.args(&by[1..]).arg(env!("CARGO_BIN_EXE_pipe")).args(BASE).current_dir(space.path());
        command.env_remove("PIPE_STORE").env_remove("PIPE_REMOTE");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process");
        await_state(space);
        child
    };
    let recipe = TINY.replace("steps: 8,", "steps: 4000, checkpoint_every: 5,");
    let space = tiny();
    space.write("recipe.yaml", &recipe);
    // Whatever the tests themselves were started with, such as `nohup`.
    let child = started(&space, &["env", "--default-signal=HUP"]);
    // The terminal's, and that of the shell in it.
    hang_up(&child);
    hang_up(&child);
    let output = ended(child);
    assert_eq!(output.status, 130, "{}", output.stderr);
    assert!(output.stderr.contains("the same command resumes"), "{}", output.stderr);
    let plan = space.json(&["plan", "recipe.yaml"]);
    assert_eq!(plan["stages"]["base"]["status"], "miss");
    assert!(plan["stages"]["base"]["continues_from"].as_u64().is_some_and(|step| step > 5), "{plan}");

    let space = tiny();
    space.write("recipe.yaml", recipe.replace("4000", "60"));
    let child = started(&space, &["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    hang_up(&child);
    assert_eq!(ended(child).status, 0);
}
