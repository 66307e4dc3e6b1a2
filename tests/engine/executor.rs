//! How a graph of stages is run, with stages that only pretend to work.

use crate::common;
use std::{
    collections::BTreeMap,
    sync::{Barrier, Mutex, atomic::Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use common::Space;
use indexmap::IndexMap;
use pipe::{
    engine::{
        executor::{Computed, Ending, Event, Job, Local, Options, Outcome, Paused, Reporter, Runner, execute},
        plan::{Graph, Resolver},
        store::{Metrics, Store},
    },
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};
use serde_json::json;

/// A chain `a` → `b` → `c`, and `x` → `y` beside it.
const TWO_BRANCHES: &str = "
stages:
  a: { tokenize: { tokenizer: { file: a.json } } }
  x: { tokenize: { tokenizer: { file: x.json } } }
  b: { tokenize: { tokenizer: { stage: a } } }
  c: { tokenize: { tokenizer: { stage: b } } }
  y: { tokenize: { tokenizer: { stage: x } } }
";

pub(super) fn space() -> Space {
    let space = Space::new();
    space.write("a.json", "{}").write("x.json", "[]");
    space
}

pub(super) fn tasks(space: &Space, recipe: &str) -> Graph {
    let document = Document::parse(&space.path().join("recipe.yaml"), recipe, catalog()).unwrap();
    let checked = document.check(&Overrides::default(), &|_, _| None).unwrap();
    graph(&checked).unwrap()
}

/// Plans all stages and runs what is missing.
pub(super) fn run_with(
    tasks: &Graph,
    store: &Store,
    force: &[&str],
    runner: &dyn Runner,
    reporter: &dyn Reporter,
    options: &Options,
) -> IndexMap<String, Outcome> {
    let digests = Default::default();
    let force: Vec<String> = force.iter().map(|name| (*name).to_owned()).collect();
    let plan = Resolver::new(store, &digests).forcing(&force).plan(tasks).unwrap();
    execute(plan, &Resolver::new(store, &digests), &Local::new(store, runner), reporter, options)
}

/// Writes what it's told to, or fails in the way it's told to.
#[derive(Default)]
pub(super) struct Fake<'a> {
    /// By stage, what it writes instead of its own name and what it read.
    output: BTreeMap<&'a str, &'a str>,
    failing: Vec<&'a str>,
    panicking: Vec<&'a str>,
    /// Paused by this stage itself, and with it the whole run.
    stopping: Vec<&'a str>,
    /// Stages that wait for each other, so that they must run at the same time.
    meeting: Option<(Barrier, Vec<&'a str>)>,
    ran: Mutex<Vec<String>>,
}

impl Runner for Fake<'_> {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        if let Some((barrier, names)) = &self.meeting
            && names.contains(&job.name)
        {
            barrier.wait();
        }
        self.ran.lock().unwrap().push(job.name.to_owned());
        std::fs::write(job.out.join("half"), "half")?;
        if self.failing.contains(&job.name) {
            bail!("it rains");
        }
        if let Some(part) = job.until {
            let step = 9 / part;
            bail!(Paused {
                metrics: Metrics::from_iter([("loss".into(), 2.into())]),
                measured: Some(json!({ "step": step })),
                ..Paused::at(format!("stopped after step {step}"))
            });
        }
        if self.stopping.contains(&job.name) {
            job.stop.store(true, Ordering::SeqCst);
            bail!(Paused::at("stopped"));
        }
        assert!(!self.panicking.contains(&job.name), "a {} bug", job.name);
        let read: Vec<_> =
            job.artifacts.values().map(|input| std::fs::read_to_string(input.file("out")).unwrap()).collect();
        let own = self
            .output
            .get(job.name)
            .map_or_else(|| format!("{}({})", job.name, read.join(" ")), |text| (*text).into());
        std::fs::write(job.out.join("out"), own)?;
        Ok(Metrics::from_iter([("read".into(), read.len().into())]).into())
    }
}

impl Fake<'_> {
    fn ran(&self) -> Vec<String> {
        std::mem::take(&mut *self.ran.lock().unwrap())
    }
}

/// Remembers what it's told.
#[derive(Default)]
pub(super) struct Told(pub(super) Mutex<Vec<String>>);

impl Reporter for Told {
    fn event(&self, stage: &str, event: Event<'_>) {
        let event = match event {
            Event::Hit { .. } => "hit".into(),
            Event::InRemote { .. } => "in the remote".into(),
            Event::Fetching => "fetching".into(),
            Event::Fetched => "fetched".into(),
            Event::Waiting => "waiting".into(),
            Event::Started { node, .. } => format!("started {}", node.kind),
            Event::Progress { .. } => "progress".into(),
            Event::Metrics(_) => "metrics".into(),
            Event::Note(note) => format!("note {note}"),
            Event::Finished { .. } => "finished".into(),
            Event::Paused { place } => format!("paused {place}"),
            Event::Failed { error } => format!("failed {error:#}"),
            Event::NotRun { because, .. } => format!("not run because {because}"),
        };
        self.0.lock().unwrap().push(format!("{stage}: {event}"));
    }
}

pub(super) fn run(
    space: &Space,
    tasks: &Graph,
    fake: &Fake<'_>,
    jobs: usize,
    force: &[&str],
) -> IndexMap<String, Outcome> {
    told(space, tasks, fake, jobs, force).0
}

fn told(
    space: &Space,
    tasks: &Graph,
    fake: &Fake<'_>,
    jobs: usize,
    force: &[&str],
) -> (IndexMap<String, Outcome>, Vec<String>) {
    let store = Store::open(&space.path().join("store")).unwrap();
    let options = Options { jobs, ..Options::default() };
    let reporter = Told::default();
    let outcomes = run_with(tasks, &store, force, fake, &reporter, &options);
    (outcomes, reporter.0.into_inner().unwrap())
}

pub(super) fn endings(outcomes: &IndexMap<String, Outcome>) -> String {
    let endings: Vec<_> = outcomes.iter().map(|(name, outcome)| format!("{name}={}", outcome.ending.name())).collect();
    endings.join(" ")
}

#[test]
fn each_stage_runs_after_those_it_needs_and_reads_what_they_wrote() {
    let (space, fake) = (space(), Fake::default());
    let tasks = tasks(&space, TWO_BRANCHES);
    let outcomes = run(&space, &tasks, &fake, 1, &[]);
    assert_eq!(endings(&outcomes), "a=ran x=ran b=ran c=ran y=ran");
    assert_eq!(fake.ran(), ["a", "x", "b", "c", "y"]);
    let artifact = outcomes["c"].artifact.as_ref().unwrap();
    assert_eq!(std::fs::read_to_string(artifact.file("out")).unwrap(), "c(b(a()))");
    assert_eq!(artifact.metrics["read"], 1);
}

#[test]
fn branches_run_side_by_side_with_two_jobs() {
    let space = space();
    let tasks = tasks(&space, TWO_BRANCHES);
    let fake = Fake { meeting: Some((Barrier::new(2), vec!["a", "x"])), ..Fake::default() };
    let (send, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| send.send(endings(&run(&space, &tasks, &fake, 2, &[]))).unwrap());
        // With one after the other, the first would wait for ever.
        let endings = done.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| std::process::abort());
        assert_eq!(endings, "a=ran x=ran b=ran c=ran y=ran");
    });
}

#[test]
fn failure_ends_its_own_branch_only_and_names_the_root() {
    for jobs in [1, 2] {
        let (space, fake) = (space(), Fake { failing: vec!["a"], ..Fake::default() });
        let tasks = tasks(&space, TWO_BRANCHES);
        let (outcomes, told) = told(&space, &tasks, &fake, jobs, &[]);
        assert_eq!(endings(&outcomes), "a=failed x=ran b=not_run c=not_run y=ran");
        assert_eq!(outcomes["a"].error.as_deref(), Some("it rains"));
        assert!(outcomes["a"].key.is_some() && outcomes["b"].key.is_none());
        for line in ["a: failed it rains", "b: not run because a", "c: not run because a", "y: finished"] {
            assert!(told.iter().any(|told| told == line), "no {line:?} in {told:?}");
        }
        // What failed is tried again, and what went well isn't.
        let fake = Fake::default();
        assert_eq!(endings(&run(&space, &tasks, &fake, jobs, &[])), "a=ran x=hit b=ran c=ran y=hit");
    }
}

#[test]
fn panic_in_a_stage_is_a_failure_of_that_stage() {
    let (space, fake) = (space(), Fake { panicking: vec!["x"], ..Fake::default() });
    let tasks = tasks(&space, TWO_BRANCHES);
    let outcomes = run(&space, &tasks, &fake, 2, &[]);
    assert_eq!(endings(&outcomes), "a=ran x=failed b=ran c=ran y=not_run");
    assert_eq!(outcomes["x"].error.as_deref(), Some("internal error: a x bug"));
    assert_eq!(std::fs::read_dir(space.path().join("store/tmp")).unwrap().count(), 0);
}

#[test]
fn second_run_is_all_hits_and_runs_nothing() {
    let (space, fake) = (space(), Fake::default());
    let tasks = tasks(&space, TWO_BRANCHES);
    let first = run(&space, &tasks, &fake, 1, &[]);
    fake.ran();
    let (second, told) = told(&space, &tasks, &fake, 1, &[]);
    assert_eq!(endings(&second), "a=hit x=hit b=hit c=hit y=hit");
    assert!(fake.ran().is_empty());
    assert_eq!(told, ["a: hit", "x: hit", "b: hit", "c: hit", "y: hit"]);
    assert!(first.values().zip(second.values()).all(|(first, second)| first.key == second.key));
}

#[test]
fn forced_stage_with_equal_output_stops_there_and_with_another_goes_on() {
    let space = space();
    let tasks = tasks(&space, TWO_BRANCHES);
    run(&space, &tasks, &Fake::default(), 1, &[]);
    let fake = Fake::default();
    assert_eq!(endings(&run(&space, &tasks, &fake, 1, &["a"])), "a=ran x=hit b=hit c=hit y=hit");
    let fake = Fake { output: BTreeMap::from([("a", "new"), ("b", "b(a())")]), ..Fake::default() };
    assert_eq!(endings(&run(&space, &tasks, &fake, 1, &["a"])), "a=ran x=hit b=ran c=hit y=hit");
    assert_eq!(fake.ran(), ["a", "b"]);
}

#[test]
fn stages_with_the_same_key_are_computed_once() {
    let recipe = "
stages:
  one: { tokenize: { tokenizer: { file: a.json } } }
  two: { tokenize: { tokenizer: { file: a.json } } }
";
    for jobs in [1, 2] {
        let (space, fake) = (space(), Fake::default());
        let outcomes = run(&space, &tasks(&space, recipe), &fake, jobs, &[]);
        assert_eq!(fake.ran().len(), 1);
        let mut endings = [outcomes["one"].ending, outcomes["two"].ending].map(Ending::name);
        endings.sort();
        assert_eq!(endings, ["hit", "ran"]);
        assert_eq!(outcomes["one"].key, outcomes["two"].key);
    }
}

#[test]
fn input_that_vanished_fails_its_stage() {
    let (space, fake) = (space(), Fake::default());
    let tasks = tasks(&space, TWO_BRANCHES);
    let store = Store::open(&space.path().join("store")).unwrap();
    let digests = Default::default();
    let resolver = Resolver::new(&store, &digests);
    let plan = resolver.plan(&tasks).unwrap();
    std::fs::remove_file(space.path().join("x.json")).unwrap();
    let error = resolver.plan(&tasks).unwrap_err();
    assert!(format!("{error:#}").contains("x.json"), "{error:#}");
    let outcomes = execute(plan, &resolver, &Local::new(&store, &fake), &Told::default(), &Options::default());
    assert_eq!(endings(&outcomes), "a=ran x=failed b=ran c=ran y=not_run");
    assert!(outcomes["x"].error.as_deref().unwrap().contains("x.json"), "{:?}", outcomes["x"].error);
}

#[test]
fn input_that_changed_after_it_was_planned_fails_its_stage_and_is_planned_anew() {
    let (space, fake) = (space(), Fake::default());
    let tasks = tasks(&space, TWO_BRANCHES);
    let store = Store::open(&space.path().join("store")).unwrap();
    let digests = Default::default();
    let resolver = Resolver::new(&store, &digests);
    let plan = resolver.plan(&tasks).unwrap();
    let planned = plan.get("x").unwrap().key.known().unwrap().to_owned();
    space.write("x.json", "[1, 2]");
    let outcomes = execute(plan, &resolver, &Local::new(&store, &fake), &Told::default(), &Options::default());
    assert_eq!(endings(&outcomes), "a=ran x=failed b=ran c=ran y=not_run");
    let error = outcomes["x"].error.as_deref().unwrap();
    assert!(error.contains("x.json changed after the run was planned"), "{error}");
    assert!(store.record(&planned).unwrap().is_none());
    assert_eq!(endings(&run(&space, &tasks, &fake, 1, &[])), "a=hit x=ran b=hit c=hit y=ran");
}

#[test]
fn damaged_artifact_is_computed_again_with_a_note() {
    let space = space();
    let tasks = tasks(&space, TWO_BRANCHES);
    let first = run(&space, &tasks, &Fake::default(), 1, &[]);
    let artifact = first["b"].artifact.as_ref().unwrap();
    std::fs::write(artifact.file("artifact.json"), r#"{"key": "#).unwrap();
    let fake = Fake::default();
    let (outcomes, told) = told(&space, &tasks, &fake, 1, &[]);
    assert_eq!(endings(&outcomes), "a=hit x=hit b=ran c=hit y=hit");
    assert!(told.iter().any(|line| line.starts_with("b: note the stored artifact is damaged")), "{told:?}");
    assert_eq!(endings(&run(&space, &tasks, &fake, 1, &[])), "a=hit x=hit b=hit c=hit y=hit");
}

#[test]
fn stage_that_is_paused_at_its_step_keeps_its_state_and_is_no_failure() {
    let space = space();
    let tasks = tasks(&space, TWO_BRANCHES);
    let store = Store::open(&space.path().join("store")).unwrap();
    let options = Options { until: BTreeMap::from([("b".into(), 3)]), ..Options::default() };
    let outcomes = run_with(&tasks, &store, &[], &Fake::default(), &Told::default(), &options);
    assert_eq!(endings(&outcomes), "a=ran x=ran b=paused c=not_run y=ran");
    let paused = &outcomes["b"];
    assert_eq!((paused.error.as_deref(), &paused.so_far["loss"]), (Some("stopped after step 3"), &2.into()));
    assert_eq!(outcomes["c"].error.as_deref(), Some("`b` was paused"));
    assert_eq!(endings(&run(&space, &tasks, &Fake::default(), 1, &[])), "a=hit x=hit b=ran c=ran y=hit");
}

#[test]
fn nothing_begins_once_the_run_is_stopped() {
    for jobs in [1, 2] {
        let (space, fake) = (space(), Fake { stopping: vec!["b"], ..Fake::default() });
        let recipe = "
stages:
  a: { tokenize: { tokenizer: { file: a.json } } }
  b: { tokenize: { tokenizer: { stage: a } } }
  c: { tokenize: { tokenizer: { stage: b } } }
";
        let (outcomes, told) = told(&space, &tasks(&space, recipe), &fake, jobs, &[]);
        assert_eq!(endings(&outcomes), "a=ran b=paused c=not_run");
        assert_eq!(outcomes["c"].error.as_deref(), Some("not scheduled: the run was stopped before"));
        assert!(told.contains(&"b: paused stopped".to_owned()), "{told:?}");
        assert_eq!(fake.ran(), ["a", "b"]);
    }
}
