//! A recipe that is made of what other programs bring: a family, an objective, an optimizer, a kind of stage and a
//! launcher that only these tests know, taken through all that a session does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use burn::tensor::Device;
use indexmap::IndexMap;
use parking_lot::Mutex;
use pipe::{
    engine::{
        executor::{Ending, Event, Outcome, Reporter},
        plan::Status,
        store::Artifact,
    },
    learning::train::Curve,
    network::model::Network,
    recipe::{Overrides, schema},
    session::{Options, Recipe, Session, Wanted},
    stages::{catalog, estimate::Machine, estimator},
};
use serde_json::{Value, json};

use super::toys::{REMEMBERED, register};
use crate::common::{Space, tiny};

const RECIPE: &str = "\
seed: 3
stages:
  tokens:
    tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }
  base:
    pretrain:
      tokens: tokens
      model: { bigram: { width: 16, max_length: 32 } }
      objectives: [{ leap: { distance: 2 } }]
      train:
        steps: 20
        batch: { examples: 4 }
        max_length: 32
        lr: 1.0e-2
        log_every: 2
        checkpoint_every: 5
        optimizer: { rms: { decay: 0.9 } }
  size:
    weigh: { model: base, scale: 2.0 }
";

fn space() -> Space {
    register();
    let space = tiny();
    space.write("recipe.yaml", RECIPE);
    space
}

fn recipe(space: &Space, sets: &[(&str, &str)]) -> Result<Recipe> {
    let sets = sets.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
    Recipe::read(&space.path().join("recipe.yaml"), Overrides { vars: Vec::new(), sets })
}

/// Notes what is said, and stops the run once a stage has come to a step.
#[derive(Default)]
struct Follower {
    notes: Mutex<Vec<String>>,
    stop: Arc<AtomicBool>,
    stop_at: Option<(&'static str, usize)>,
}

impl Reporter for Follower {
    fn event(&self, stage: &str, event: Event<'_>) {
        match event {
            Event::Note(note) => self.notes.lock().push(format!("{stage}: {note}")),
            Event::Metrics(metrics) => {
                let is_there =
                    |(at, step): (&str, usize)| at == stage && metrics.iter().any(|metrics| metrics.step >= step);
                if self.stop_at.is_some_and(is_there) {
                    self.stop.store(true, Ordering::SeqCst);
                }
            }
            _ => {}
        }
    }
}

impl Follower {
    fn noted(&self, text: &str) -> bool {
        self.notes.lock().iter().any(|note| note.contains(text))
    }
}

fn session(space: &Space, store: &str, stop: Arc<AtomicBool>) -> Session {
    let options =
        Options { store: space.path().join(store), launcher: "remembering".into(), stop, ..Options::default() };
    Session::open(options).unwrap()
}

/// Runs the recipe in a store on these devices, as `--devices` takes them.
fn run(space: &Space, store: &str, devices: &str, follower: &Follower) -> IndexMap<String, Outcome> {
    let session = session(space, store, Arc::clone(&follower.stop));
    let recipe = recipe(space, &[]).unwrap();
    let devices = recipe.devices(None, Some(devices)).unwrap();
    let prepared = session.plan(&recipe, &Wanted::default(), devices).unwrap();
    session.run(prepared, follower).unwrap()
}

fn remembered(space: &Space, store: &str) -> Vec<String> {
    let store = space.path().join(store).to_string_lossy().into_owned();
    REMEMBERED.lock().get(&store).cloned().unwrap_or_default()
}

#[track_caller]
fn artifact<'a>(outcomes: &'a IndexMap<String, Outcome>, stage: &str) -> &'a Artifact {
    let outcome = &outcomes[stage];
    outcome.artifact.as_ref().unwrap_or_else(|| panic!("{stage}: {outcome:?}"))
}

fn digests(outcomes: &IndexMap<String, Outcome>) -> Vec<&str> {
    outcomes.keys().map(|stage| artifact(outcomes, stage).digest.as_str()).collect()
}

fn losses(artifact: &Artifact) -> Vec<f32> {
    Curve::of(artifact).points().map(|point| point.loss).collect()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in (1..).zip(found.iter().zip(expected)) {
        assert!((found - expected).abs() < 1e-5, "step {step}: {found} instead of {expected}");
    }
}

/// What the carets of the first mistake stand under.
fn underlined(mistakes: &str) -> &str {
    let lines: Vec<&str> = mistakes.lines().collect();
    let carets = lines.iter().position(|line| line.contains('^')).unwrap_or_else(|| panic!("no carets: {mistakes}"));
    let (start, length) = (lines[carets].find('^').unwrap(), lines[carets].matches('^').count());
    &lines[carets - 1][start..start + length]
}

#[test]
fn mistakes_in_settings_are_shown_where_they_are() {
    let space = space();
    assert!(recipe(&space, &[]).is_ok());
    let cases = [
        ("width: 16", "widht: 16", "widht", "did you mean `width`?"),
        ("width: 16", "width: 0", "0", "must be at least 1"),
        ("        max_length: 32", "        max_length: 33", "33", "longer than the model can take, 32"),
        ("distance: 2", "distence: 2", "distence", "`leap` has no key `distence`"),
        ("distance: 2", "distance: 9", "9", "hint: 8 at most"),
        ("leap: { distance: 2 }", "lead: { distance: 2 }", "lead", "did you mean `leap`?"),
        ("bigram: { width: 16", "bert: { hidden: 16, layers: 1, heads: 1", "leap", "bert"),
        ("decay: 0.9", "decoy: 0.9", "decoy", "did you mean `decay`?"),
        ("decay: 0.9", "decay: 1.5", "1.5", "must be at most 1"),
        ("rms: { decay", "rns: { decay", "rns", "did you mean `rms`?"),
        ("scale: 2.0", "scale: 0.0", "0.0", "nothing would be left of the weights"),
        ("scale: 2.0", "scales: 2.0", "scales", "did you mean `scale`?"),
        ("model: base", "model: bass", "bass", "did you mean `base`?"),
        ("model: base", "model: tokens", "tokens", "model"),
        ("weigh: {", "weight: {", "weight", "did you mean `weigh`?"),
    ];
    for (from, to, place, said) in cases {
        space.write("recipe.yaml", RECIPE.replacen(from, to, 1));
        let mistakes = recipe(&space, &[]).err().unwrap_or_else(|| panic!("no mistake in {to}")).to_string();
        assert_eq!(underlined(&mistakes), place, "{to}: {mistakes}");
        assert!(mistakes.contains(said), "{to}: {mistakes}");
    }
}

#[test]
fn the_schema_describes_the_settings() {
    register();
    let schema = schema::published(catalog());
    let text = schema.to_string();
    for said in [
        "Bigram: each token is predicted from the one before it",
        "Width of the hidden states",
        "Every token from one some places before it",
        "Places between a token and what it's predicted from",
        "Gradients of one size",
        "Share of the average that a step keeps",
        "Measure a model's weights",
        "What the measure is multiplied by",
    ] {
        assert!(text.contains(said), "{said}");
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    let fits = |text: &str| validator.is_valid(&serde_yaml::from_str::<Value>(text).unwrap());
    assert!(fits(RECIPE));
    for (from, to) in [
        ("width: 16", "widht: 16"),
        ("distance: 2", "distance: 0"),
        ("decay: 0.9", "decay: 1.5"),
        ("scale: 2.0", "scales: 2.0"),
        ("weigh: {", "weight: {"),
    ] {
        assert!(!fits(&RECIPE.replacen(from, to, 1)), "{to}");
    }
}

#[test]
fn a_plan_says_what_runs_and_what_it_takes() {
    let space = space();
    let statuses = |sets: &[(&str, &str)]| {
        let (recipe, session) = (recipe(&space, sets).unwrap(), session(&space, "store", Arc::default()));
        let devices = recipe.devices(Some("cpu"), None).unwrap();
        let prepared = session.plan(&recipe, &Wanted::default(), devices).unwrap();
        let status = |status: &Status| match status {
            Status::Miss { reason, .. } => format!("miss: {reason}"),
            other => other.word().to_owned(),
        };
        prepared.plan.stages().map(|(_, planned)| status(&planned.status)).collect::<Vec<_>>()
    };
    let estimate = |devices: &str| {
        let (recipe, session) = (recipe(&space, &[]).unwrap(), session(&space, "store", Arc::default()));
        let devices = recipe.devices(None, Some(devices)).unwrap();
        let machine = Machine::new(&devices);
        let prepared = session.plan(&recipe, &Wanted::default(), devices).unwrap();
        let estimator = estimator(&prepared.graph, &prepared.plan, &machine);
        let of = |stage: &str| estimator.stage(prepared.graph.get(stage).unwrap()).unwrap();
        assert!(of("tokens").is_none() && of("size").is_none(), "nothing is trained");
        of("base").unwrap()
    };
    let optimizer = |devices: &str| {
        let parts = estimate(devices).planned.memory.parts();
        parts.into_iter().find(|(name, _)| *name == "optimizer").unwrap().1
    };

    assert_eq!(statuses(&[]), ["miss: no tokenize stage was run before", "waits", "waits"]);
    // Two tables, two linear layers with biases, a norm.
    let (vocabulary, width, length) = (300, 16, 32);
    let parameters = (vocabulary + length) * width + 2 * (2 * width * width) + 3 * width + 2 * width;
    let before = estimate("cpu");
    assert_eq!((before.parameters, before.planned.trained, before.about), (parameters, parameters, true));
    // One float for each of eight parameters, on each device.
    assert_eq!((optimizer("cpu"), optimizer("cpu:0-1")), (4 * 8, 2 * 4 * 8));

    let outcomes = run(&space, "store", "cpu", &Follower::default());
    assert_eq!(statuses(&[]), ["hit"; 3]);
    let after = estimate("cpu");
    assert!(!after.about);
    assert_eq!(json!(after.parameters), artifact(&outcomes, "base").metrics["parameters"]);
    for (path, value, field) in [
        ("base.model.bigram.width", "8", "model.bigram.width"),
        ("base.objectives.0.leap.distance", "3", "objectives"),
        ("base.train.optimizer.rms.decay", "0.5", "train.optimizer.rms.decay"),
    ] {
        let path = format!("stages.{path}");
        let found = statuses(&[(path.as_str(), value)]);
        assert!(found[1].starts_with("miss: ") && found[1].contains(field), "{path}: {found:?}");
        assert_eq!((found[0].as_str(), found[2].as_str()), ("hit", "waits"), "{path}");
    }
    assert_eq!(statuses(&[("stages.size.scale", "3")]), ["hit", "hit", "miss: scale: 2.0 → 3.0"]);
    assert_eq!(statuses(&[("stages.base.train.log_every", "1")]), ["hit"; 3], "it changes no result");
}

#[test]
fn it_runs_once_and_is_a_hit_then() {
    let space = space();
    let outcomes = run(&space, "store", "cpu", &Follower::default());
    assert!(outcomes.values().all(|outcome| outcome.ending == Ending::Ran), "{outcomes:?}");
    assert_eq!(remembered(&space, "store"), ["tokens", "base", "size"]);
    let base = artifact(&outcomes, "base");
    let losses = losses(base);
    assert!(losses[19] < losses[0] - 0.3, "{losses:?}");
    let read = |file: &str| serde_json::from_slice::<Value>(&std::fs::read(base.file(file)).unwrap()).unwrap();
    assert_eq!(read("config.json")["model_type"], "bigram");
    assert_eq!(read("task.json")["objectives"][0]["leap"], json!({ "distance": 2 }));
    let network = Network::load(&base.path, &Device::flex()).unwrap();
    let norm = |values: Vec<f32>| values.iter().map(|value| f64::from(value * value)).sum::<f64>();
    let squares: f64 =
        network.parameters().iter().map(|parameter| norm(parameter.data().unwrap().try_to_vec().unwrap())).sum();
    assert_eq!(artifact(&outcomes, "size").metrics["norm"], json!(2.0 * squares.sqrt()));

    let again = run(&space, "store", "cpu", &Follower::default());
    assert!(again.values().all(|outcome| outcome.ending == Ending::Hit), "{again:?}");
    assert_eq!(remembered(&space, "store").len(), 3);
}

/// Stops pretraining in its midst.
fn stopped(space: &Space, store: &str, devices: &str) {
    let follower = Follower { stop_at: Some(("base", 7)), ..Follower::default() };
    let outcomes = run(space, store, devices, &follower);
    let endings: Vec<Ending> = outcomes.values().map(|outcome| outcome.ending).collect();
    assert_eq!(endings, [Ending::Ran, Ending::Paused, Ending::NotRun]);
    let place = outcomes["base"].error.as_deref().unwrap_or_default();
    assert!(place.contains("of 20"), "{place}");
}

#[test]
fn a_run_that_was_stopped_resumes_to_the_same_bytes() {
    let space = space();
    let whole = run(&space, "whole", "cpu", &Follower::default());
    stopped(&space, "store", "cpu");
    let follower = Follower::default();
    let resumed = run(&space, "store", "cpu", &follower);
    assert!(follower.noted("base: resumes from the last checkpoint, after step"), "{:?}", follower.notes);
    assert_eq!(digests(&resumed), digests(&whole));
    assert_eq!(remembered(&space, "store"), ["tokens", "base", "base", "size"]);
}

#[test]
fn two_devices_learn_what_one_learns() {
    let space = space();
    let one = run(&space, "one", "cpu", &Follower::default());
    let two = run(&space, "two", "cpu:0-1", &Follower::default());
    let expected = losses(artifact(&one, "base"));
    assert_near(&losses(artifact(&two, "base")), &expected);
    assert_eq!(artifact(&two, "base").key, artifact(&one, "base").key, "devices are no part of the key");
    assert_eq!(artifact(&two, "base").metrics["devices"], 2);
    let devices = ["tokens", "base", "size"].map(|stage| artifact(&two, stage).provenance.device.as_str());
    assert_eq!(devices, ["cpu", "cpu:0, cpu:1", "cpu:0"]);
    assert_eq!(remembered(&space, "two"), ["tokens", "base", "size"]);

    stopped(&space, "both", "cpu");
    assert_near(&losses(artifact(&run(&space, "both", "cpu:0-1", &Follower::default()), "base")), &expected);
    let again = run(&space, "again", "cpu:0-1", &Follower::default());
    assert_eq!(digests(&again), digests(&two), "the same devices give the same bytes");
}
