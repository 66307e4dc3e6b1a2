//! Artifacts that are removed, damaged or replaced while a run counts on them.

use crate::common;
use std::path::Path;

use anyhow::Result;
use common::{Space, await_tick};
use parking_lot::Mutex;
use pipe::{
    engine::{
        executor::{Computed, Event, Job, Local, Options, Reporter, Runner, execute},
        plan::{Graph, Resolver},
        store::{Artifact, Claim, Metrics, Provenance, Store},
    },
    recipe::{Document, Overrides},
    session::graph,
    stages::catalog,
};

struct Silent;

impl Reporter for Silent {
    fn event(&self, _stage: &str, _event: Event<'_>) {}
}

/// Writes its name and what it read, and has something happen to the store while `late` runs.
struct Meddler<'a> {
    /// What it does, given the times that `late` was begun.
    before: &'a (dyn Fn(usize) + Sync),
    after: &'a (dyn Fn(usize) + Sync),
    ran: Mutex<Vec<String>>,
}

impl Runner for Meddler<'_> {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        let times = {
            let mut ran = self.ran.lock();
            ran.push(job.name.to_owned());
            ran.iter().filter(|name| *name == "late").count()
        };
        if job.name == "slow" || job.name == "late" {
            (self.before)(times);
        }
        let read = job.artifacts.values().map(|input| std::fs::read_to_string(input.file("out")));
        let read = read.collect::<Result<Vec<_>, _>>()?.join(" ");
        if job.name == "late" {
            (self.after)(times);
        }
        std::fs::write(job.out.join("out"), format!("{}({read})", job.name))?;
        Ok(Computed::default())
    }
}

const LATE: &str = "
stages:
  mine: { tokenize: { tokenizer: { file: a.json } } }
  slow: { tokenize: { tokenizer: { file: b.json } } }
  late: { tokenize: { tokenizer: { stage: mine } } }
";

/// Runs `mine` before, and then all, with something done to the artifact of `mine` meanwhile.
fn meddle(before: &(dyn Fn(usize, &Artifact) + Sync), after: &(dyn Fn(usize, &Artifact) + Sync)) -> (String, String) {
    let space = Space::new();
    space.write("a.json", "[1]").write("b.json", "[2]");
    let store = Store::open(&space.path().join("store")).unwrap();
    let digests = Mutex::default();
    let document = Document::parse(&space.path().join("recipe.yaml"), LATE, catalog()).unwrap();
    let graph = graph(&document.check(&Overrides::default(), &|_, _| None).unwrap()).unwrap();
    let mut first = graph.clone();
    first.select(["mine"]).unwrap();
    let resolver = Resolver::new(&store, &digests);
    let nothing = |_: usize| ();
    let go = |graph: &Graph, runner: &Meddler<'_>| {
        let plan = resolver.plan(graph).unwrap();
        execute(plan, &resolver, &Local::new(&store, runner), &Silent, &Options::default())
    };
    let quiet = Meddler { before: &nothing, after: &nothing, ran: Mutex::default() };
    let mine = go(&first, &quiet)["mine"].artifact.clone().unwrap();
    let (before, after) = (|times: usize| before(times, &mine), |times: usize| after(times, &mine));
    let runner = Meddler { before: &before, after: &after, ran: Mutex::default() };
    let outcomes = go(&graph, &runner);
    for outcome in outcomes.values() {
        assert!(outcome.is_good(), "{:?}", outcome.error);
        let artifact = outcome.artifact.as_ref().unwrap();
        assert!(store.find(&artifact.key).unwrap().is_some(), "{}", outcome.kind);
    }
    let out = std::fs::read_to_string(outcomes["late"].artifact.as_ref().unwrap().file("out")).unwrap();
    let found = store.verify(&store.keys().unwrap(), &|_, _| {}).unwrap();
    assert_eq!(found.damage, []);
    (out, runner.ran.into_inner().join(" "))
}

fn remove(artifact: &Artifact) {
    std::fs::remove_dir_all(&artifact.path).unwrap();
}

/// Puts something else in the place of an artifact's file.
fn damage(artifact: &Artifact) {
    await_tick(&artifact.path);
    std::fs::write(artifact.file("out"), "damaged").unwrap();
}

#[test]
fn hit_that_is_removed_before_its_turn_is_computed_again() {
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 0 {
                remove(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(mine())", "slow mine late"));
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 0 {
                damage(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(mine())", "slow mine late"));
}

#[test]
fn input_that_is_taken_away_from_a_running_stage_is_computed_again_and_so_is_the_stage() {
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 1 {
                remove(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(mine())", "slow late mine late"));
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 1 {
                damage(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(mine())", "slow late mine late"));
}

#[test]
fn hit_that_nothing_reads_any_more_is_there_in_the_end_too() {
    let (out, ran) = meddle(&|_, _| (), &|times, mine| {
        if times == 1 {
            remove(mine)
        }
    });
    assert_eq!((out.as_str(), ran.as_str()), ("late(mine())", "slow late mine"));
}

/// As another process does that computes it again and gets something else.
fn replace(artifact: &Artifact) {
    let root = artifact.path.parent().and_then(Path::parent).unwrap();
    let store = Store::open(root).unwrap();
    let Claim::Miss(slot) = store.claim(artifact.manifest.clone(), true, &|| {}).unwrap() else {
        panic!("it's forced")
    };
    std::fs::write(slot.dir().join("out"), "other").unwrap();
    slot.commit(Metrics::new(), Provenance::default()).unwrap();
}

#[test]
fn input_that_another_process_replaces_is_read_as_it_is_then() {
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 0 {
                replace(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(other)", "slow late"));
    // What was read by then doesn't count.
    let (out, ran) = meddle(
        &|times, mine| {
            if times == 1 {
                replace(mine)
            }
        },
        &|_, _| (),
    );
    assert_eq!((out.as_str(), ran.as_str()), ("late(other)", "slow late late"));
    let (out, ran) = meddle(&|_, _| (), &|times, mine| {
        if times == 1 {
            replace(mine)
        }
    });
    assert_eq!((out.as_str(), ran.as_str()), ("late(other)", "slow late late"));
}
