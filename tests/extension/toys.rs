//! An objective, an optimizer, a kind of stage and a launcher that only these tests know.

use std::{collections::BTreeMap, sync::Once};

use anyhow::Result;
use burn::tensor::Tensor;
use parking_lot::Mutex;
use pipe::{
    data::text::Special,
    engine::{
        executor::{Computed, Done, Job, Launch, Local, Task, Watch},
        store::Metrics,
    },
    learning::{
        objectives::{
            AnswerForm, Corpus, Definition, OBJECTIVES,
            definition::{
                Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
            },
            windows::{Window, cut},
        },
        train::{
            OPTIMIZERS,
            optimizers::{OptimizerDef, Slot, UpdateContext, UpdateRule},
        },
    },
    network::{
        batch::{Example, Target},
        model::{AnyTensor, AttentionPattern, FAMILIES, Network, WeightRole},
    },
    recipe::{Checks, Draft},
    session::{LAUNCHERS, Launcher, launch::Setup},
    spec::{Problem, Product, Section},
    stages::{DeviceUse, Devices, Field, KINDS, Of, StageKind},
    support::Named,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::families::BIGRAM;

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

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
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

pub(super) static REMEMBERED: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

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

pub(super) fn register() {
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
