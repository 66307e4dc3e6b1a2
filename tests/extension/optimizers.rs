//! A toy optimizer, registered from outside: signs of gradients, as signSGD has it, and a count of its steps.

use crate::common::{TINY, pausing::Pausing, tiny};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use pipe::{
    engine::store::State,
    learning::train::{
        Cadence, Checkpoints, OPTIMIZERS, Silent, TrainSettings, Trainer,
        optimizers::{self, OptimizerDef, Slot, UpdateContext, UpdateRule},
    },
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        model::{AnyTensor, Network, WeightRole},
    },
    recipe::{self, Overrides},
    stages::catalog,
    support::random::Key,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Settings of the toy
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
struct SignSettings {
    /// What steps are multiplied by
    scale: f64,
}

impl Default for SignSettings {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

#[derive(Debug)]
struct Sign(f32);

impl From<SignSettings> for Sign {
    fn from(settings: SignSettings) -> Self {
        Self(settings.scale as f32)
    }
}

static SIGN: OptimizerDef = OptimizerDef::new::<SignSettings, Sign>("sign", "Signs of gradients", 1);

impl UpdateRule for Sign {
    fn slots(&self, _role: WeightRole, _shape: &[usize]) -> Vec<Slot> {
        vec![Slot { name: "count", shape: vec![1] }]
    }

    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        let direction = match gradient {
            AnyTensor::Vector(gradient) => AnyTensor::Vector(gradient.sign()),
            AnyTensor::Matrix(gradient) => AnyTensor::Matrix(gradient.sign()),
        };
        let one = || AnyTensor::Vector(Tensor::ones([1], &value.device()));
        let count = kept.into_iter().flatten().next().map_or_else(one, |count| count + one());
        let counted: Vec<f32> = count.clone().into_data()?.try_to_vec()?;
        assert_eq!(counted, [context.parameter_step as f32], "{}", context.name);
        Ok((value - direction * (context.lr as f32 * self.0), vec![count]))
    }
}

const STEPS: usize = 60;

/// Six texts, the same at each step.
struct Texts;

impl Feed for Texts {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let text = |id: u64| {
            let tokens: Vec<u32> = (0..8 + id).map(|at| Key::new(id).at(at).below(24) as u32).collect();
            let targets = (1..tokens.len()).map(|at| Target { at: at as u32 - 1, token: tokens[at] }).collect();
            Example { targets, ..Example::sequence(id, tokens, 0) }
        };
        let examples: Vec<Example> = (0..6).map(text).collect();
        let batch = lay_out(&examples, Layout::Ragged, Key::new(1).at(step as u64));
        Ok(Step { batches: vec![batch], objective: "causal_lm".into(), pair_weight: 1.0 })
    }
}

/// An optimizer's name, its settings, a learning rate that suits it, and by how much the loss of `ln 24` falls at least.
type Case = (&'static str, Value, f64, f64);

/// The toy, and what recipes can name anyway.
fn cases() -> [Case; 5] {
    OPTIMIZERS.register(&SIGN);
    [
        ("sign", json!({ "scale": 0.5 }), 4e-3, 1.0),
        ("sgd", json!({}), 0.1, 0.15),
        ("sgd", json!({ "momentum": 0.0 }), 0.2, 0.05),
        ("muon", json!({}), 1e-2, 1.0),
        ("adamw", json!({ "beta2": 0.99 }), 1e-2, 1.0),
    ]
}

fn trainer((name, settings, lr, _): &Case, devices: usize) -> Trainer {
    let model = json!({ "gpt2": { "hidden": 32, "layers": 2, "heads": 2, "max_length": 16 } });
    let network = Network::new(&serde_json::from_value(model).unwrap(), 24, 7, &Device::flex()).unwrap();
    let train = json!({ "steps": STEPS, "lr": lr, "dropout": 0.1, "optimizer": { *name: settings } });
    let settings = TrainSettings::new(&serde_json::from_value(train).unwrap(), STEPS, None).unwrap();
    let mut trainer = Trainer::new(network, settings);
    trainer.share_with(vec![Device::flex(); devices - 1]);
    trainer
}

fn trained(case: &Case, devices: usize) -> Trainer {
    let mut trainer = trainer(case, devices);
    trainer.run(&Texts, None, None, &mut Silent).unwrap();
    trainer
}

fn losses(trainer: &Trainer) -> Vec<f32> {
    trainer.curve().points().map(|point| point.loss).collect()
}

fn weights(trainer: &Trainer) -> Vec<Vec<f32>> {
    let parameters = trainer.network.parameters().iter();
    parameters.map(|parameter| parameter.data().unwrap().try_to_vec().unwrap()).collect()
}

#[test]
fn optimizers_learn_and_resume_with_the_same_bytes() {
    for case in cases() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"), "key");
        let whole = trained(&case, 1);
        let (first, last) = (losses(&whole)[0], whole.curve().final_loss().unwrap());
        assert!(last < f64::from(first) - case.3, "{case:?}: {first} to {last}");

        let checkpoints = Checkpoints { every: Cadence::Steps(STEPS), state: state.clone(), last: None };
        assert!(trainer(&case, 1).run(&Texts, None, Some(&checkpoints), &mut Pausing(STEPS / 2)).unwrap().paused);
        let mut resumed = trainer(&case, 1);
        assert!(resumed.load_state(&state).unwrap());
        resumed.run(&Texts, None, None, &mut Silent).unwrap();
        assert_eq!(losses(&resumed), losses(&whole), "{case:?}");
        assert!(weights(&resumed) == weights(&whole), "{case:?}");
    }
}

#[test]
fn optimizers_learn_on_two_devices_what_they_learn_on_one() {
    for case in cases() {
        // What is near to 0 may have either sign.
        let tolerance = if case.0 == "sign" { 0.1 } else { 1e-4 };
        let (one, two) = (losses(&trained(&case, 1)), losses(&trained(&case, 2)));
        for (step, (one, two)) in one.iter().zip(&two).take(10).enumerate() {
            assert!((one - two).abs() < tolerance, "{case:?}, step {step}: {two} instead of {one}");
        }
    }
}

#[test]
fn optimizers_give_the_same_bytes_on_one_thread_and_on_two() {
    for case in cases() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| weights(&trained(&case, 1)))
        };
        assert!(on(1) == on(2), "{case:?}");
    }
}

#[test]
fn what_an_optimizer_keeps_is_known_before_it_runs() {
    let bytes = |(name, settings, ..): &Case, role: WeightRole, shape: &[usize]| {
        let rule = OPTIMIZERS.named(name).unwrap().rule(settings).unwrap();
        optimizers::state_bytes(&*rule, role, shape)
    };
    let [sign, sgd, plain, muon, adamw] = cases();
    for (case, linear, embedding) in [(sign, 4, 4), (sgd, 48, 48), (plain, 0, 0), (muon, 48, 96), (adamw, 96, 96)] {
        assert_eq!(bytes(&case, WeightRole::Linear, &[3, 4]), linear, "{case:?}");
        assert_eq!(bytes(&case, WeightRole::Embedding, &[3, 4]), embedding, "{case:?}");
    }
}

/// Checks the tiny recipe with this among its settings of pretraining.
fn check(train: &str) -> Result<recipe::Checked, String> {
    OPTIMIZERS.register(&SIGN);
    let space = tiny();
    space.write("recipe.yaml", TINY.replacen("lr: 1.0e-3", &format!("lr: 1.0e-3, {train}"), 1));
    let path = space.path().join("recipe.yaml");
    recipe::load(&path, catalog(), &Overrides::default(), &|_, _| None).map_err(|problems| problems.to_string())
}

#[test]
fn recipes_name_optimizers_with_settings_of_their_own() {
    let checked = check("optimizer: { sign: {} }").unwrap();
    let canonical = checked.canonical("base").unwrap();
    assert_eq!(canonical["train"]["optimizer"], json!({ "sign": {} }), "without defaults");
    assert_eq!(checked.described("base").unwrap()["train"]["optimizer"], json!({ "sign": { "scale": 1.0 } }));
    let canonical = check("optimizer: { sign: { scale: 2 } }").unwrap().canonical("base").unwrap();
    assert_eq!(canonical["train"]["optimizer"]["sign"]["scale"], 2.0);
    assert!(check("dropout: 0.2").unwrap().canonical("base").unwrap()["train"].get("optimizer").is_none());

    for (train, message) in [
        ("optimizer: { sign: { scales: 2 } }", "`sign` has no key `scales`"),
        ("optimizer: { sing: {} }", "did you mean `sign`?"),
        ("optimizer: { adamw: { beta1: 1 } }", "`beta1` must be less than 1"),
        ("optimizer: { sgd: {} }, weight_decay: 0.1", "`optimizer` and `weight_decay` are both given"),
    ] {
        let error = check(train).map(|_| ()).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let schema = recipe::schema::published(catalog());
    assert_eq!(schema["$defs"]["SignSettings"]["properties"]["scale"]["default"], json!(1.0));
}
