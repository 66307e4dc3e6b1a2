//! Several processes sweep one recipe in one store without an engine: what another one is at is left to it, and the cells are
//! split. A cell here mostly waits, so that the cores don't matter.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use anyhow::Result;
use pipe::{
    engine::{
        executor::{Computed, Event, Job, Reporter},
        store::Metrics,
    },
    recipe::{Checks, Draft, Overrides},
    session::{
        Options, Recipe, Session,
        sweep::{Selection, Sweep, SweepObserver},
    },
    spec::Product,
    stages::{Devices, Field, KINDS, Of, StageKind},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::{Space, await_that};

/// Waits, and notes that it did.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Nap {
    /// How long
    milliseconds: u64,
    /// Which one it is
    number: u64,
}

impl StageKind for Nap {
    const NAME: &'static str = "nap";
    const ABOUT: &'static str = "Wait";
    const PRODUCTS: &'static [Product] = &[Product::Report];
    const FIELDS: &'static [Field] = &[];

    fn check(&self, _stage: &Draft, _checks: &mut Checks<'_>) {}

    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let place = PathBuf::from(std::env::var_os(PLACE).expect("a place"));
        // A second process that takes the same nap finds the file.
        std::fs::File::options().write(true).create_new(true).open(place.join(format!("nap-{}", self.number)))?;
        std::thread::sleep(Duration::from_millis(self.milliseconds));
        std::fs::write(job.out.join("report.json"), json!({ "number": self.number }).to_string())?;
        Ok(Metrics::from_iter([("number".to_owned(), json!(self.number))]).into())
    }
}

/// Where the processes of this test meet.
const PLACE: &str = "PIPE_TEST_PLACE";
/// How many of them there are.
const PROCESSES: &str = "PIPE_TEST_PROCESSES";

const CELLS: usize = 24;

struct Quiet;

impl Reporter for Quiet {
    fn event(&self, _stage: &str, event: Event<'_>) {
        assert!(!matches!(event, Event::Failed { .. }), "{event:?}");
    }
}

impl SweepObserver for Quiet {}

/// Run by the other one in processes of their own.
#[test]
#[ignore = "a part of the other one"]
fn sweeps_with_others() {
    static ONCE: Once = Once::new();
    static NAP: Of<Nap> = Of::new();
    ONCE.call_once(|| KINDS.register(&NAP));
    let place = PathBuf::from(std::env::var_os(PLACE).expect("a place"));
    let processes: usize = std::env::var(PROCESSES).expect("their number").parse().expect("a number");
    let session = Session::open(Options { store: place.join("store"), ..Options::default() }).expect("a store");
    let recipe = Recipe::read(&place.join("recipe.yaml"), Overrides::default()).expect("a recipe");
    let devices = recipe.devices(Some("cpu"), None).expect("the CPU");
    let selection = Selection::new(None, &[]).expect("all cells");
    let mut sweep = Sweep::new(&session, &recipe, devices, selection).expect("a sweep").expect("a section");
    let (cells, mistakes) = sweep.plan_next().expect("cells");
    assert!(cells.len() == CELLS && mistakes.is_empty());

    // All begin when all are there, so that no process's start counts.
    std::fs::write(place.join(format!("ready-{}", std::process::id())), "").expect("a file");
    let ready = || std::fs::read_dir(&place).expect("a folder").flatten();
    await_that("all are there", || {
        ready().filter(|entry| entry.file_name().to_string_lossy().starts_with("ready-")).count() == processes
    });
    let began = Instant::now();
    let swept = sweep.run(&Quiet).expect("a run");
    assert!(swept.outcomes.values().all(|outcome| outcome.is_good()), "{:?}", swept.outcomes);
    assert_eq!(swept.outcomes.len(), CELLS);
    std::fs::write(place.join(format!("took-{}", std::process::id())), began.elapsed().as_millis().to_string())
        .expect("a file");
}

/// The time that so many processes take together, in seconds.
fn time(processes: usize) -> f64 {
    let space = Space::new();
    let numbers: Vec<String> = (0..CELLS).map(|number| number.to_string()).collect();
    let recipe = format!(
        "stages:\n  nap: {{ nap: {{ milliseconds: 500, number: 0 }} }}\nsweep:\n  grid:\n    stages.nap.number: [{}]\n",
        numbers.join(", ")
    );
    space.write("recipe.yaml", recipe);
    let start = |_| -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["splitting::sweeps_with_others", "--exact", "--ignored"]).stdout(Stdio::piped());
        let environment: [(&str, &OsStr); 2] =
            [(PLACE, space.path().as_os_str()), (PROCESSES, OsStr::new(if processes == 1 { "1" } else { "4" }))];
        command.envs(environment).spawn().expect("a process")
    };
    let children: Vec<Child> = (0..processes).map(start).collect();
    for child in children {
        let output = child.wait_with_output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let entries: Vec<_> = std::fs::read_dir(space.path()).expect("a folder").flatten().collect();
    let named = |beginning: &str| -> Vec<&std::fs::DirEntry> {
        entries.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning)).collect()
    };
    assert_eq!(named("nap-").len(), CELLS, "each cell was computed once");
    let took = named("took-")
        .into_iter()
        .map(|entry| std::fs::read_to_string(entry.path()).expect("a time").parse::<f64>().expect("a number") / 1000.0);
    took.fold(0.0, f64::max)
}

#[test]
fn four_processes_split_the_cells() {
    let (one, four) = (time(1), time(4));
    println!("one process takes {one:.1} s, and four take {four:.1} s");
    assert!(four <= 0.35 * one, "one process takes {one} s, and four take {four} s");
}
