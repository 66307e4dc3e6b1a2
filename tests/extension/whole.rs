//! A recipe that is made of what other programs bring: a family, an objective, an optimizer, a kind of stage and a
//! launcher that only these tests know, taken through all that a session does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use indexmap::IndexMap;
use parking_lot::Mutex;
use pipe::{
    data::text::Special,
    engine::{
        executor::{Computed, Done, Ending, Event, Job, Launch, Local, Outcome, Reporter, Task, Watch},
        plan::Status,
        store::{Artifact, Metrics},
    },
    learning::{
        objectives::{
            AnswerForm, Corpus, Definition, OBJECTIVES,
            definition::{
                Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
            },
            windows::{Window, cut},
            words::WordCounts,
        },
        train::{
            Curve, OPTIMIZERS,
            optimizers::{OptimizerDef, Slot, UpdateContext, UpdateRule},
        },
    },
    network::{
        batch::{Example, Target},
        model::{AnyTensor, AttentionPattern, FAMILIES, Network, WeightRole},
    },
    recipe::{Checks, Draft, Overrides, schema},
    session::{LAUNCHERS, Launcher, Options, Recipe, Session, Wanted, launch::Setup},
    spec::{Problem, Product, Section},
    stages::{DeviceUse, Devices, Field, KINDS, Of, StageKind, catalog, estimate::Machine, estimator},
    support::Named,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    common::{Space, tiny},
    families::BIGRAM,
};

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

/// Predicts each token from the one so many places before it, and all that's before that.
static LEAP: Definition = Definition {
    name: "leap",
    section: Section::Entry,
    about: "Every token from one some places before it",
    role: ObjectiveRole::Alone,
    attention: AttentionPattern::Causal,
    assumed: false,
    teaches: None,
    measure: Some(HeldOutMetric::Perplexity),
    head: None,
    version: 2,
    settings: SettingsType::of::<Leap>(),
};

/// How far.
#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Leap {
    /// Places between a token and what it's predicted from
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    distance: usize,
}

fn one() -> usize {
    1
}

impl ObjectiveSettings for Leap {
    fn check(&self) -> Vec<Problem> {
        let problem = Problem::of_value("distance", "hardly a text is that long").hint("8 at most");
        if self.distance > 8 { vec![problem] } else { Vec::new() }
    }

    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        vec![Special::Cls]
    }

    fn predicted(&self) -> f64 {
        1.0
    }

    fn examples(&self, _: &Corpus, max_length: usize, _: &mut WordCounts) -> Result<Box<dyn Examples>> {
        Ok(Box::new(Leaps { distance: self.distance, max_length }))
    }
}

struct Leaps {
    distance: usize,
    max_length: usize,
}

impl Examples for Leaps {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), corpus.room(self.max_length))
    }

    fn example(&self, source: &ExampleSource<'_>, _: Draw) -> Result<Example> {
        let tokens = [&[source.specials().cls], source.text()].concat();
        let target = |at: usize| Target { at: (at - self.distance) as u32, token: tokens[at] };
        let targets = (self.distance..tokens.len()).map(target).collect();
        Ok(Example { targets, ..Example::sequence(source.id, tokens, 0) })
    }
}

/// The gradient over its root mean square, of which a moving average is kept for each parameter.
static RMS: OptimizerDef = OptimizerDef::new::<RmsSettings, Rms>("rms", "Gradients of one size", 1);

/// Settings of the optimizer
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct RmsSettings {
    /// Share of the average that a step keeps
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    decay: f64,
}

#[derive(Debug)]
struct Rms(f32);

impl From<RmsSettings> for Rms {
    fn from(settings: RmsSettings) -> Self {
        Self(settings.decay as f32)
    }
}

impl UpdateRule for Rms {
    fn slots(&self, _role: WeightRole, _shape: &[usize]) -> Vec<Slot> {
        vec![Slot { name: "square", shape: vec![1] }]
    }

    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        let gradient = context.clip.apply(gradient);
        let elements: Vec<f32> = gradient.clone().into_data()?.try_to_vec()?;
        let square = elements.iter().map(|element| element * element).sum::<f32>() / elements.len() as f32;
        let square = match kept.into_iter().flatten().next() {
            Some(before) => self.0 * before.into_data()?.try_to_vec::<f32>()?[0] + (1.0 - self.0) * square,
            None => square,
        };
        let step = context.lr as f32 / (square.sqrt() + 1e-6);
        let kept = Tensor::<1>::from_floats([square], &value.device());
        Ok((value - gradient * step, vec![AnyTensor::Vector(kept)]))
    }
}

/// Measures how large a model's weights are.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Weigh {
    /// The stage with the model
    #[schemars(extend("x-role" = "stage:model"))]
    model: String,
    /// What the measure is multiplied by
    #[serde(default = "unscaled")]
    scale: f64,
}

fn unscaled() -> f64 {
    1.0
}

const MODEL: Field = Field("model");

impl StageKind for Weigh {
    const NAME: &'static str = "weigh";
    const ABOUT: &'static str = "Measure a model's weights";
    const PRODUCTS: &'static [Product] = &[Product::Report];
    const FIELDS: &'static [Field] = &[MODEL];
    const DEVICES: DeviceUse = DeviceUse::One;

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        if self.scale <= 0.0 {
            let hint = "give a number above 0".to_owned();
            checks.report(checks.value(&stage.pointer("scale")), "nothing would be left of the weights", hint);
        }
    }

    fn run(&self, job: &Job<'_>, devices: &Devices) -> Result<Computed> {
        let network = Network::load(&MODEL.needed(job)?.path, &devices.first()?.device)?;
        let mut squares = 0.0;
        for parameter in network.parameters().iter() {
            let values: Vec<f32> = parameter.data()?.try_to_vec()?;
            squares += values.iter().map(|value| f64::from(value * value)).sum::<f64>();
        }
        let norm = self.scale * squares.sqrt();
        std::fs::write(job.out.join("report.json"), json!({ "norm": norm }).to_string())?;
        Ok(Metrics::from_iter([("norm".to_owned(), json!(norm))]).into())
    }
}

/// Computes stages here, and remembers which for each store.
struct Remembering;

static REMEMBERED: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

impl Named for Remembering {
    fn name(&self) -> &'static str {
        "remembering"
    }
}

impl Launcher for Remembering {
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a> {
        let store = setup.store.root().to_string_lossy().into_owned();
        Box::new(Remembered { store, local: Local::new(setup.store, setup.stages) })
    }
}

struct Remembered<'a> {
    store: String,
    local: Local<'a>,
}

impl Launch for Remembered<'_> {
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done> {
        REMEMBERED.lock().entry(self.store.clone()).or_default().push(task.id.clone());
        // What it's given can be sent anywhere.
        self.local.launch(&serde_json::from_value(serde_json::to_value(task)?)?, watch)
    }
}

fn register() {
    static ONCE: Once = Once::new();
    static WEIGH: Of<Weigh> = Of::new();
    ONCE.call_once(|| {
        FAMILIES.register(&BIGRAM);
        OBJECTIVES.register(&LEAP);
        OPTIMIZERS.register(&RMS);
        KINDS.register(&WEIGH);
        LAUNCHERS.register(&Remembering);
    });
}

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
