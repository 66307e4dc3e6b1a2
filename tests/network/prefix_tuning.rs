//! P-tuned models give the numbers that they give elsewhere: PEFT's for classes of transformers, ChatGLM's for its own.
//! `adapters.py` says how; what it gave once stands here, and where `PIPE_PYTHON` is it's asked again.

use crate::common;
use std::{path::Path, process::Command};

use burn::tensor::{Device, Tensor, TensorData};
use common::{
    need,
    needs::{Need, Needed},
    parity::furthest,
};
use pipe::{
    network::{
        batch::Batch,
        model::{CopyOptions, Network, copy},
    },
    spec::{self, WeightForm},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

/// The name of the table.
const TABLE: &str = "transformer.prefix_encoder.embedding.weight";
pub(crate) const VOCABULARY: usize = 24;
const TOKENS: usize = 5;
pub(crate) const LENGTH: usize = 9;

/// A model whose weights are large enough for mistakes to be seen.
pub(crate) fn base(family: &str, directory: &Path) {
    let model = json!({ family: {
        "hidden": 32, "layers": 3, "heads": 4, "max_length": 32, "initializer_range": 0.3
    } });
    let model: spec::Model = serde_json::from_value(model).unwrap();
    Network::new(&model, VOCABULARY, 1, &Device::flex()).unwrap().save(directory).unwrap();
}

/// The same with a prefix, whose table is a wave.
fn tuned(directory: &Path) -> Network {
    let mut network = Network::load_frozen(directory, WeightForm::F32, &Device::flex()).unwrap();
    let adapter = serde_json::from_value(json!({ "p_tuning": { "tokens": TOKENS } })).unwrap();
    network.adapt(&adapter, 3).unwrap();
    let table = network.parameters_mut().iter_mut().find(|parameter| parameter.name == TABLE).unwrap();
    let shape = table.shape();
    let wave = (0..shape[0] * shape[1]).map(|at| (1.3 * at as f32 + 0.7 * (at / 7) as f32).sin() * 1.5).collect();
    table.set(Tensor::<2>::from_data(TensorData::new::<f32, _>(wave, shape), &Device::flex()));
    network
}

/// How many tokens at the beginning all others see.
fn context(family: &str) -> usize {
    match family {
        "bert" => LENGTH,
        "chatglm" => 4,
        _ => 0,
    }
}

/// One sequence. ChatGLM-6B's has a context, after which positions stand still and those within the answer count.
pub(crate) fn batch(family: &str) -> Batch {
    let context = context(family);
    let is_answer = |at: usize| family == "chatglm" && at >= context;
    let position = |at: usize| if is_answer(at) { context - 1 } else { at };
    let block = |at: usize| if is_answer(at) { at + 1 - context } else { 0 };
    Batch {
        rows: 1,
        width: LENGTH,
        tokens: (0..LENGTH).map(|at| (at * 7 + 2) as u32 % VOCABULARY as u32).collect(),
        positions: (0..LENGTH).map(|at| position(at) as u32).collect(),
        block_positions: (0..LENGTH).map(|at| block(at) as u32).collect(),
        span_starts: vec![0; LENGTH],
        span_ends: (1..=LENGTH).map(|next| next.max(context) as u32).collect(),
        dropout_keys: vec![0; LENGTH],
        ..Batch::default()
    }
}

pub(crate) fn logits(network: &Network) -> Vec<f32> {
    let places: Vec<u32> = (0..LENGTH as u32).collect();
    network.logits_at(&batch(network.family().name), &places).unwrap().concat()
}

/// What `adapters.py` gives, with the input as its last argument.
pub(crate) fn asked(family: &str, arguments: &[&str]) -> Needed<Vec<f32>> {
    let python = Need::Transformers.variable("PIPE_PYTHON")?;
    let folder = tempfile::tempdir().unwrap();
    let Batch { tokens, positions, block_positions, .. } = batch(family);
    let input = json!({
        "input_ids": tokens, "positions": positions, "block_positions": block_positions, "context": context(family),
    });
    let path = folder.path().join("input.json");
    std::fs::write(&path, input.to_string()).unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/adapters.py"));
    command.args(arguments).arg(&path).env("HF_HUB_OFFLINE", "1");
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let rows: Vec<Vec<f32>> = serde_json::from_str(output.stdout.trim()).unwrap();
    Ok(rows.concat())
}

#[track_caller]
pub(crate) fn check(what: &str, found: &[f32], expected: &[f32]) {
    let worst = furthest(found, expected);
    eprintln!("{what}: logits differ by {worst:e}");
    assert!(worst < 1e-4, "{what}: {worst}");
}

/// The last token's first logits of [`tuned`] models, by `adapters.py peft` (PEFT 0.21.2, transformers 5.23.0) and
/// `adapters.py chatglm`.
const LOGITS: [(&str, [f32; 6]); 5] = [
    ("gpt2", [-2.5043895, 1.2798387, 0.7523103, -1.5798126, 2.664154, -2.4463658]),
    ("glm4", [-0.57282627, -2.4549952, -3.5358062, -0.4587031, 1.2910271, -0.6429291]),
    ("bert", [-1.6216885, -1.231061, -0.05283571, -2.4431512, 2.9667504, -1.1548144]),
    ("chatglm", [0.46597826, 0.6681311, 1.0676135, 1.2666224, -1.7941252, 0.10797191]),
    ("chatglm2", [-1.4781032, -2.8511055, 0.7488741, -0.93567526, 3.1099067, -3.0706458]),
];

#[test]
fn prefixes_give_the_logits_that_were_noted() {
    for (family, expected) in LOGITS {
        let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        base(family, own.path());
        let network = tuned(own.path());
        let last = |logits: Vec<f32>| logits[(LENGTH - 1) * VOCABULARY..][..6].to_vec();
        check(family, &last(logits(&network)), &expected);
        network.save_beside(own.path(), stored.path()).unwrap();
        check(family, &last(logits(&Network::load(stored.path(), &Device::flex()).unwrap())), &expected);
    }
}

#[test]
fn others_give_the_logits_of_prefixes_of_ours() {
    for (family, _) in LOGITS {
        let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        base(family, own.path());
        let network = tuned(own.path());
        network.save_beside(own.path(), stored.path()).unwrap();
        let way = if family.starts_with("chatglm") { "chatglm" } else { "peft" };
        let (model, adapter) = (stored.path().display().to_string(), stored.path().join("adapter"));
        let found = need!(asked(family, &[way, &model, &adapter.display().to_string()]));
        eprintln!("{family}: {:?}", &found[(LENGTH - 1) * VOCABULARY..][..6]);
        check(family, &found, &logits(&network));
    }
}

#[test]
fn prefixes_of_peft_give_its_logits() {
    for family in ["gpt2", "glm4", "bert"] {
        let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        base(family, own.path());
        let [model, adapter] = [&own, &stored].map(|folder| folder.path().display().to_string());
        let expected = need!(asked(family, &["make", &model, &adapter, "5"]));
        // It says where its model lies.
        let network = Network::load(stored.path(), &Device::flex()).unwrap();
        assert!(network.is_adapted());
        check(family, &logits(&network), &expected);
    }
}

#[test]
fn a_prefix_that_takes_positions_leaves_fewer_to_the_tokens() {
    let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    base("gpt2", own.path());
    let network = tuned(own.path());
    assert_eq!(network.max_length(), 32 - TOKENS);
    let long = |last: usize| {
        let mut batch = batch("gpt2");
        batch.positions = (0..LENGTH).map(|at| (last + 1 + at - LENGTH) as u32).collect();
        network.logits_at(&batch, &[0]).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(long(26), Ok(()));
    assert_eq!(
        long(27),
        Err("position 27 is past the 27 that the prefix leaves of the model's max_length of 32".to_owned())
    );
    network.save_beside(own.path(), stored.path()).unwrap();
    assert_eq!(Network::inspect(stored.path()).unwrap().max_length, 32 - TOKENS);
    for (family, expected) in [("glm4", 32), ("chatglm", 32)] {
        let own = tempfile::tempdir().unwrap();
        base(family, own.path());
        assert_eq!(tuned(own.path()).max_length(), expected, "{family}");
    }
}

#[test]
fn new_prefixes_begin_as_large_as_those_of_others() {
    // `torch.nn.Embedding`, of which PEFT's and ChatGLM's `PrefixEncoder` are made, begins with N(0, 1).
    let own = tempfile::tempdir().unwrap();
    base("gpt2", own.path());
    let mut network = Network::load_frozen(own.path(), WeightForm::F32, &Device::flex()).unwrap();
    let adapter = serde_json::from_value(json!({ "p_tuning": { "tokens": 64 } })).unwrap();
    network.adapt(&adapter, 3).unwrap();
    let table = network.parameters().named(TABLE).unwrap().data().unwrap();
    let values: Vec<f32> = table.try_to_vec().unwrap();
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
    assert!(mean.abs() < 0.03 && (deviation - 1.0).abs() < 0.03, "{mean} {deviation}");
}

/// The `adapter_config.json` beside a model of this family with a prefix.
fn config(family: &str) -> Value {
    let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    base(family, own.path());
    tuned(own.path()).save_beside(own.path(), stored.path()).unwrap();
    serde_json::from_slice(&std::fs::read(stored.path().join("adapter/adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn what_is_no_prefix_of_pefts_says_so() {
    for (family, kind, task) in [
        ("gpt2", "PREFIX_TUNING", "CAUSAL_LM"),
        ("glm4", "PREFIX_TUNING", "CAUSAL_LM"),
        ("bert", "PREFIX_TUNING", "FEATURE_EXTRACTION"),
        ("chatglm", "PREFIX_TUNING", "CAUSAL_LM"),
        ("chatglm2", "PREFIX_TUNING", "CAUSAL_LM"),
        // PEFT refuses the name: of an encoder-decoder it gives keys to the decoder alone.
        ("transformer", "PIPE_PREFIX_TUNING", "SEQ_2_SEQ_LM"),
        ("glm", "PIPE_PREFIX_TUNING", "FEATURE_EXTRACTION"),
    ] {
        let config = config(family);
        assert_eq!((config["peft_type"].as_str(), config["task_type"].as_str()), (Some(kind), Some(task)), "{family}");
    }
}

#[test]
fn a_prefix_of_an_earlier_version_keeps_its_numbers() {
    let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    base("gpt2", own.path());
    tuned(own.path()).save_beside(own.path(), stored.path()).unwrap();
    let path = stored.path().join("adapter/adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // As it was written before: the tokens' positions began at 0.
    config.as_object_mut().unwrap().remove("auto_mapping");
    config["task_type"] = Value::Null;
    std::fs::write(&path, config.to_string()).unwrap();
    let former = Network::load(stored.path(), &Device::flex()).unwrap();
    assert_eq!(former.max_length(), 32);
    let again = tempfile::tempdir().unwrap();
    former.save(again.path()).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(again.path().join("adapter/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["peft_type"], "PIPE_PREFIX_TUNING");
    assert_eq!(logits(&Network::load(again.path(), &Device::flex()).unwrap()), logits(&former));
    assert!(furthest(&logits(&former), &logits(&tuned(own.path()))) > 1e-2);
}

#[test]
fn a_prefix_for_another_model_is_told() {
    let (own, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    base("gpt2", own.path());
    tuned(own.path()).save_beside(own.path(), stored.path()).unwrap();
    let path = stored.path().join("adapter/adapter_config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value, expected) in [
        ("num_layers", 2, "the prefix is for 2 layers, and the model has 3"),
        ("token_dim", 48, "the prefix has keys of 48 dimensions (token_dim), and the model of 32"),
    ] {
        let mut config = config.clone();
        config[key] = value.into();
        std::fs::write(&path, config.to_string()).unwrap();
        let error = Network::load(stored.path(), &Device::flex()).err().unwrap();
        assert!(format!("{error:#}").ends_with(expected), "{error:#}");
        assert!(Network::inspect(stored.path()).is_err(), "before anything is read");
    }
}

#[test]
fn a_prefix_among_the_weights_is_read_as_chatglm_stores_it() {
    for family in ["chatglm", "chatglm2"] {
        let own = tempfile::tempdir().unwrap();
        base(family, own.path());
        let network = tuned(own.path());
        let table = network.parameters().named(TABLE).unwrap().data().unwrap();
        let path = own.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let shape = vec![TOKENS, table.shape()[1]];
        let view = TensorView::new(Dtype::F32, shape, table.as_bytes()).unwrap();
        let all = stored.iter().chain([(TABLE, view)]);
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        let path = own.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["pre_seq_len"] = TOKENS.into();
        std::fs::write(&path, config.to_string()).unwrap();

        let read = Network::load(own.path(), &Device::flex()).unwrap();
        assert_eq!(logits(&read), logits(&network), "{family}");
        assert!(Network::load_merged(own.path(), &Device::flex()).is_err(), "a prefix can't be merged");
        let (copied, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = CopyOptions { dtype: pipe::spec::Dtype::Stored, most: u64::MAX, without: &[] };
        copy(own.path(), copied.path(), &options).unwrap();
        assert_eq!(logits(&Network::load(copied.path(), &Device::flex()).unwrap()), logits(&network), "{family}");
        read.save(saved.path()).unwrap();
        assert_eq!(logits(&Network::load(saved.path(), &Device::flex()).unwrap()), logits(&network), "{family}");
        let config: Value = serde_json::from_slice(&std::fs::read(saved.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["pre_seq_len"], Value::Null, "the table lies in the folder `adapter` now");
    }
}
