//! A family of models that only this file knows: recipes, checks, checkpoints, training and adapters take it as they
//! take the families of `src/network/model/families`.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};
use pipe::{
    data::text::Special,
    learning::train::{Silent, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        kernels::{self, Gelu},
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, FAMILIES,
            Family, FamilyCode, Initial, ModelConfig, ModelSettings, Network, OnDisk, Outline, Pass, Sizes, VectorId,
            WeightId,
            blocks::{Linear, Norm, NormKind},
            families::{model_types, of_config},
            support::{Support, support},
        },
    },
    recipe::{self, Overrides, schema},
    spec, stages,
    support::random::Key,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const VOCABULARY: usize = 24;

/// A bigram model: each token's hidden state depends on that token and its position, through one residual layer.
pub(crate) static BIGRAM: Family = Family {
    name: "bigram",
    description: "Bigram: each token is predicted from the one before it",
    version: 1,
    shares_second_version: false,
    attention: &[AttentionPattern::Causal],
    form: AnswerForm::Causal,
    chat: None,
    config: ConfigPattern { model_types: &["bigram"], keys: &[] },
    on_disk: OnDisk { prefix: "bigram.", prefixed: true, transposed: &["up.weight"], ..OnDisk::PLAIN },
    token_keys: &[("eos_token_id", Special::Eop)],
    dropout_keys: &[],
    classifier: None,
    code: FamilyCode::of::<BigramConfig>(),
};

/// What a recipe says.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct BigramSettings {
    /// Width of the hidden states
    #[schemars(range(min = 1))]
    width: usize,
    /// The longest sequence, in tokens
    #[serde(default = "max_length")]
    max_length: usize,
}

fn max_length() -> usize {
    16
}

impl ModelSettings for BigramSettings {
    fn max_length(&self) -> usize {
        self.max_length
    }

    fn attention(&self) -> AttentionSizes {
        AttentionSizes::multi_head(self.width, 1)
    }

    fn tiny() -> Self {
        Self { width: 16, max_length: max_length() }
    }
}

/// What stands in `config.json`.
#[derive(Clone, Deserialize, Serialize)]
struct BigramConfig {
    vocab_size: usize,
    width: usize,
    max_length: usize,
}

impl ModelConfig for BigramConfig {
    type Settings = BigramSettings;

    fn new(settings: &BigramSettings, vocabulary: usize) -> Self {
        Self { vocab_size: vocabulary, width: settings.width, max_length: settings.max_length }
    }

    fn build(self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        ensure!(self.width.is_multiple_of(2), "an odd width of {}", self.width);
        let mut table = |name: &str, rows| builder.table(name.into(), [rows, self.width], Initial::Normal(0.02));
        let (tokens, positions) = (table("tokens.weight", self.vocab_size), table("positions.weight", self.max_length));
        let up = Linear::new(builder, "up", [2 * self.width, self.width], true, 0.02);
        let down = Linear::new(builder, "down", [self.width, 2 * self.width], true, 0.02);
        let norm = Norm::new(builder, "norm", self.width, NormKind::Layer(1e-5));
        Ok(Box::new(Bigram { config: self, tokens, positions, up, down, norm }))
    }
}

struct Bigram {
    config: BigramConfig,
    tokens: WeightId,
    positions: WeightId,
    up: Linear,
    down: Linear,
    norm: Norm,
}

impl Architecture for Bigram {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.width,
            layers: 1,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_length,
            positions: Some(self.config.max_length),
            initializer_range: 0.02,
        }
    }

    fn class_name(&self, _pairs: bool) -> &'static str {
        "BigramLMHeadModel"
    }

    fn config(&self) -> Value {
        let mut config = json!(self.config);
        config["model_type"] = json!("bigram");
        config
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let positions = (pass.table(self.positions), pass.ids(Along::Positions));
        let x = kernels::embedding_sum((pass.table(self.tokens), &pass.tokens), [positions]);
        let x = pass.to_stream(x);
        let (up, down) = (self.up.clone(), self.down.clone());
        let x = pass.block([x], move |pass, [x]| {
            let inner = up.gelu(pass, x.clone(), Gelu::Tanh);
            down.add_to(pass, inner, x)
        });
        self.norm.forward(pass, x)
    }

    fn output(&self) -> (WeightId, Option<VectorId>) {
        (self.tokens, None)
    }
}

fn model(settings: Value) -> spec::Model {
    FAMILIES.register(&BIGRAM);
    spec::Model { family: "bigram".into(), settings }
}

fn network(seed: u64) -> Network {
    Network::new(&model(json!({ "width": 16 })), VOCABULARY, seed, &Device::flex()).unwrap()
}

/// The same text at each step.
struct Text {
    steps: usize,
}

impl Feed for Text {
    fn steps(&self) -> usize {
        self.steps
    }

    fn step(&self, step: usize) -> Result<Step> {
        Ok(Step {
            batches: vec![lay_out(&[text()], Layout::Ragged, Key::new(1).at(step as u64))],
            objective: "causal_lm".into(),
            pair_weight: 1.0,
        })
    }
}

fn text() -> Example {
    let tokens: Vec<u32> = (0..12).map(|at| 5 + at % 4).collect();
    let targets = (1..tokens.len()).map(|at| Target { at: at as u32 - 1, token: tokens[at] }).collect();
    Example { targets, ..Example::sequence(0, tokens, 0) }
}

fn trained(network: Network, steps: usize) -> (Network, Vec<f32>) {
    let train = json!({ "steps": steps, "lr": 1e-2, "dropout": 0.0, "log_every": 1 });
    let train: spec::Train = serde_json::from_value(train).unwrap();
    let mut trainer = Trainer::new(network, TrainSettings::new(&train, steps, None).unwrap());
    trainer.run(&Text { steps }, None, None, &mut Silent).unwrap();
    let losses = trainer.curve().points().map(|point| point.loss).collect();
    (trainer.network, losses)
}

fn logits(network: &Network) -> Vec<Vec<f32>> {
    let batch = lay_out(&[text()], Layout::Ragged, Key::new(0));
    network.logits_at(&batch, &[0, 5]).unwrap()
}

#[test]
fn registered_families_are_built_saved_and_loaded() {
    let network = network(3);
    assert_eq!(network.family().name, "bigram");
    let outline = Outline::new(&model(json!({ "width": 16 })), VOCABULARY).unwrap();
    assert_eq!(outline.shapes.count(), network.parameters().count() as u64);
    let error = Network::new(&model(json!({ "width": 3 })), VOCABULARY, 3, &Device::flex()).err().unwrap();
    assert_eq!(format!("{error:#}"), "the settings of `bigram`: an odd width of 3");

    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    network.save(first.path()).unwrap();
    let loaded = Network::load(first.path(), &Device::flex()).unwrap();
    assert_eq!(loaded.family().name, "bigram");
    assert_eq!(Network::inspect(first.path()).unwrap().family.name, "bigram");
    assert_eq!(logits(&loaded), logits(&network));
    loaded.save(second.path()).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(std::fs::read(first.path().join(file)).unwrap(), std::fs::read(second.path().join(file)).unwrap());
    }
    let config: Value = serde_json::from_slice(&std::fs::read(first.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"], json!(["BigramLMHeadModel"]));
    assert_eq!(of_config(&config).unwrap().name, "bigram");
    assert!(model_types().contains("bert, bigram, chatglm"), "{}", model_types());
}

#[test]
fn registered_families_learn() {
    let (network, losses) = trained(network(3), 60);
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
    let directory = tempfile::tempdir().unwrap();
    network.save(directory.path()).unwrap();
    assert_eq!(logits(&Network::load(directory.path(), &Device::flex()).unwrap()), logits(&network));

    // Layers that are recomputed for the backward pass give the same losses to the bit.
    let mut recomputing = self::network(3);
    recomputing.recompute_layers(true);
    assert_eq!(trained(recomputing, 60).1, losses);
}

#[test]
fn registered_families_take_adapters_and_heads() {
    let directory = tempfile::tempdir().unwrap();
    network(3).save(directory.path()).unwrap();
    let mut network = Network::load_frozen(directory.path(), spec::WeightForm::F32, &Device::flex()).unwrap();
    let lora = json!({ "lora": { "r": 2, "targets": ["up", "down"] } });
    network.adapt(&serde_json::from_value(lora).unwrap(), 1).unwrap();
    let before = logits(&network);
    let (network, losses) = trained(network, 10);
    assert!(losses[9] < losses[0], "{losses:?}");
    assert_ne!(logits(&network), before);

    let mut network = self::network(3);
    network.add_classifier(3, spec::Pooling::Mean, 1).unwrap();
    let batch = lay_out(&[text()], Layout::Ragged, Key::new(0));
    assert_eq!(network.class_log_probabilities(&batch).unwrap()[0].len(), 3);
}

#[test]
fn registered_families_are_in_the_support_matrix() {
    FAMILIES.register(&BIGRAM);
    let row = support().unwrap().into_iter().find(|row| row.family.name == "bigram").unwrap();
    let Support { pretrain, lora, p_tuning, generate, chat, .. } = row;
    assert_eq!(pretrain, [AttentionPattern::Causal]);
    assert!(lora && generate && !p_tuning && !chat, "there's no attention for a prefix, and no chat format");
}

#[test]
fn recipes_may_name_registered_families() {
    FAMILIES.register(&BIGRAM);
    let check = |model: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recipe.yaml");
        let text = format!(
            "stages:\n  tokens: {{ tokenize: {{ tokenizer: {{ wordpiece: {{ vocab_size: 64 }} }}, corpus: [{{ path: a.txt }}] }} }}\n  base:\n    \
             pretrain:\n      tokens: tokens\n      model: {model}\n      objectives: [{{ generative: {{ causal_lm: {{}} }} \
             }}]\n      train: {{ steps: 2, lr: 0.1, max_length: 16 }}\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::write(directory.path().join("a.txt"), "甲乙丙\n").unwrap();
        recipe::load(&path, stages::catalog(), &Overrides::default(), &|_, _| None)
    };
    let checked = check("{ bigram: { width: 16 } }").unwrap();
    let spec = checked.described("base").unwrap();
    assert_eq!(spec["model"], json!({ "bigram": { "width": 16, "max_length": 16 } }), "with its default");
    let spec = checked.canonical("base").unwrap();
    assert_eq!(spec["model"], json!({ "bigram": { "width": 16 } }), "without it");

    let told = |model: &str| check(model).err().map(|found| found.to_string()).unwrap_or_default();
    assert!(told("{ bigram: { widht: 16 } }").contains("widht"), "{}", told("{ bigram: { widht: 16 } }"));
    assert!(told("{ bigram: { width: 0 } }").contains("width"));
    assert!(told("{ bigram: { width: 16, max_length: 8 } }").contains("longer than the model can take, 8"));
    let schema = schema::text(stages::catalog());
    assert!(schema.contains("Bigram: each token is predicted from the one before it"));
}
