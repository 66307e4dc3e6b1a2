//! Embeddings of n-grams: a model begins as the one without them, no token learns of later ones or of other texts, and what
//! is stored computes the same.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use pipe::{
    network::{
        batch::{Batch, Example, Layout, Target, lay_out},
        model::{CopyOptions, Counts, KvCache, LossSettings, Network, Outline, RowGradients, copy},
    },
    spec::{self, WeightForm},
    support::random::Key,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const VOCABULARY: usize = 24;
const FAMILIES: [&str; 7] = ["glm", "bert", "gpt2", "chatglm", "chatglm2", "glm4", "transformer"];

fn spec(family: &str, ngrams: &Value) -> spec::Model {
    let mut settings = json!({ "hidden": 16, "layers": 2, "heads": 2, "max_length": 64, "initializer_range": 0.4 });
    if !ngrams.is_null() {
        settings["ngrams"] = ngrams.clone();
    }
    serde_json::from_value(json!({ family: settings })).unwrap()
}

fn few() -> Value {
    json!({ "orders": [2, 3], "buckets": 50, "width": 4 })
}

fn network(family: &str, ngrams: &Value) -> Network {
    Network::new(&spec(family, ngrams), VOCABULARY, 1, &Device::flex()).unwrap()
}

/// One whose table has learned something.
fn learned(family: &str) -> Network {
    let mut network = network(family, &few());
    let table = network.parameters_mut().iter_mut().find(|parameter| parameter.name == "ngrams.table").unwrap();
    let values: Vec<f32> = (0..200).map(|at| Key::new(3).at(at).f64() as f32 - 0.5).collect();
    let values: Tensor<2> = Tensor::from_data(TensorData::new(values, [50, 4]), &Device::flex());
    table.set(values);
    network
}

fn text(seed: u64, length: u64, prefix: usize) -> Example {
    let token = |at| Key::new(seed).at(at).below(VOCABULARY) as u32;
    Example::sequence(seed, (0..length).map(token).collect(), prefix)
}

fn batch(examples: &[Example]) -> Batch {
    lay_out(examples, Layout::Ragged, Key::new(0))
}

fn logits(network: &Network, example: &Example) -> Vec<Vec<f32>> {
    let all: Vec<u32> = (0..example.tokens.len() as u32).collect();
    network.logits_at(&batch(std::slice::from_ref(example)), &all).unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 2e-5, "{what}: {worst}");
}

#[test]
fn a_model_begins_as_the_one_without() {
    for family in FAMILIES {
        let (without, with) = (network(family, &Value::Null), network(family, &few()));
        assert_eq!(with.parameters().count(), without.parameters().count() + 50 * 4 + 16 * 4, "{family}");
        let example = text(1, 12, 4);
        assert_eq!(logits(&with, &example), logits(&without, &example), "{family}");
        assert_ne!(logits(&learned(family), &example), logits(&without, &example), "{family}");
    }
}

#[test]
fn an_outline_has_their_shapes() {
    for family in FAMILIES {
        let outline = Outline::new(&spec(family, &few()), VOCABULARY).unwrap();
        let network = network(family, &few());
        let found: Vec<_> = outline.shapes.iter().map(|shape| (&shape.name, shape.shape.clone())).collect();
        let made: Vec<_> = network.parameters().iter().map(|made| (&made.name, made.shape())).collect();
        assert_eq!(found, made, "{family}");
    }
}

#[test]
fn no_token_learns_of_those_that_it_does_not_see() {
    for (family, prefix) in [("gpt2", 0), ("glm", 0), ("glm", 5), ("chatglm2", 0), ("glm4", 0), ("transformer", 4)] {
        let network = learned(family);
        let example = text(1, 14, prefix);
        let before = logits(&network, &example);
        for at in prefix..14 {
            let mut other = example.clone();
            other.tokens[at] = (other.tokens[at] + 1) % VOCABULARY as u32;
            let after = logits(&network, &other);
            assert_eq!(after[..at], before[..at], "{family}: token {at}");
        }
    }
}

#[test]
fn texts_of_a_batch_know_nothing_of_each_other() {
    for family in FAMILIES {
        let network = learned(family);
        let texts = [text(1, 9, 3), text(2, 5, 2), text(3, 12, 4)];
        for layout in
            [Layout::Ragged, Layout::Rows { width: 16, packing: true }, Layout::Rows { width: 16, packing: false }]
        {
            let together = lay_out(&texts, layout, Key::new(0));
            for (text, slots) in texts.iter().zip(&together.examples) {
                let places: Vec<u32> = (slots.start..slots.start + slots.length).collect();
                let found = network.logits_at(&together, &places).unwrap();
                let alone = logits(&network, text);
                assert_near(&found.concat(), &alone.concat(), &format!("{family}, {layout:?}"));
            }
        }
    }
}

#[test]
fn a_cached_token_has_the_ngrams_of_those_before_it() {
    for family in ["gpt2", "glm", "chatglm", "chatglm2", "glm4", "transformer"] {
        let network = learned(family);
        // A text that goes on, and GLM's blank behind one.
        for in_blank in [false, true] {
            let mut example = text(5, 6, 6);
            let mut cache = KvCache::with_capacity(8);
            for step in 0..12 {
                let cached = network.next_logits(&example, &mut cache).unwrap();
                let all = logits(&network, &example);
                assert_near(&cached, all.last().unwrap(), &format!("{family}, step {step}"));
                let length = example.tokens.len() as u32;
                example.tokens.push(Key::new(step).below(VOCABULARY) as u32);
                example.positions.push(if in_blank { 4 } else { length });
                example.block_positions.push(if in_blank { step as u32 + 1 } else { 0 });
                example.span_ends.push(length + 1);
            }
        }
    }
}

fn stored(directory: &Path) -> (Vec<u8>, Value) {
    let config = std::fs::read_to_string(directory.join("config.json")).unwrap();
    let weights = std::fs::read(directory.join("model.safetensors")).unwrap();
    (weights, serde_json::from_str(&config).unwrap())
}

#[test]
fn what_is_stored_computes_the_same() {
    for family in FAMILIES {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let network = learned(family);
        network.save(first.path()).unwrap();
        let loaded = Network::load(first.path(), &Device::flex()).unwrap();
        loaded.save(second.path()).unwrap();
        assert_eq!(stored(first.path()), stored(second.path()));
        let (weights, config) = stored(first.path());
        assert_eq!(config["pipe"], json!({ "pair": false, "ngrams": few() }), "{family}");
        let tensors = SafeTensors::deserialize(&weights).unwrap();
        assert_eq!(tensors.tensor("ngrams.table").unwrap().shape(), [50, 4]);
        assert_eq!(tensors.tensor("ngrams.projection").unwrap().shape(), [16, 4]);
        let example = text(1, 12, 4);
        assert_eq!(logits(&loaded, &example), logits(&network, &example), "{family}");
        assert_eq!(Network::inspect(first.path()).unwrap().parameters, network.parameters().count() as u64);
        assert_eq!(Outline::of_config(&config).unwrap().shapes.count(), network.parameters().count() as u64);
    }
    let plain = tempfile::tempdir().unwrap();
    network("glm", &Value::Null).save(plain.path()).unwrap();
    assert!(stored(plain.path()).1.get("pipe").is_none());
}

#[test]
fn settings_of_which_no_table_can_be_made_are_refused() {
    for (settings, expected) in [
        (json!({ "orders": [] }), "`ngrams` without `orders`"),
        (json!({ "orders": [1, 2] }), "an n-gram has 2 to 8 tokens, and `orders` has 1"),
        (json!({ "orders": [2, 2] }), "`orders` has 2 twice"),
        (json!({ "buckets": 1 }), "`buckets` 1 leaves no row for n-grams"),
        (json!({ "width": 0 }), "`width` 0 leaves no column"),
    ] {
        let error = Network::new(&spec("glm", &settings), VOCABULARY, 1, &Device::flex()).err().unwrap();
        assert!(format!("{error:#}").ends_with(expected), "{error:#}");
    }
}

/// The gradients of the table's rows, and whether layers are computed again makes no difference.
#[test]
fn only_rows_that_were_looked_up_have_gradients() {
    let mut network = learned("gpt2");
    let mut example = text(4, 10, 0);
    example.targets = (1..10).map(|at| Target { at: at - 1, token: example.tokens[at as usize] }).collect();
    let batch = batch(&[example]);
    let settings = LossSettings { dropout: 0.1, ..LossSettings::default() };
    let mut gradients = |recompute: bool| -> (Vec<u32>, Vec<f32>) {
        network.recompute_layers(recompute);
        let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap();
        let found = loss.backward();
        let table = network.parameters().named("ngrams.table").unwrap();
        assert!(table.value.grad(&found).is_none());
        let RowGradients { rows, values } = table.row_sink.as_ref().unwrap().take().unwrap();
        assert!(table.row_sink.as_ref().unwrap().take().is_none());
        (rows.to_vec(), values.try_into_vec_as().unwrap())
    };
    let (rows, values) = gradients(false);
    // The first token has none, so that row 0 is looked up; nine pairs and eight triples have a few rows of 50 at most.
    assert!(rows[0] == 0 && rows.len() > 8 && rows.len() <= 18, "{rows:?}");
    assert!(rows.is_sorted_by(|a, b| a < b));
    assert_eq!(values.len(), rows.len() * 4);
    assert_eq!(gradients(true), (rows, values));
}

#[test]
fn an_adapter_leaves_the_table_and_merges_beside_it() {
    let [base, adapted, merged] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for dtype in [WeightForm::F32, WeightForm::Int8] {
        learned("gpt2").save(base.path()).unwrap();
        let mut network = Network::load_frozen(base.path(), dtype, &Device::flex()).unwrap();
        let lora = json!({ "lora": { "r": 2, "alpha": 4, "targets": ["c_attn"] } });
        network.adapt(&serde_json::from_value(lora).unwrap(), 3).unwrap();
        for parameter in network.parameters_mut().iter_mut().filter(|parameter| parameter.is_trainable()) {
            assert!(!parameter.name.starts_with("ngrams."), "{}", parameter.name);
            let value = parameter.take();
            let change = value.zeros().with_slice_mut(|values| values.fill(0.1)).unwrap();
            parameter.set(value + change);
        }
        network.save(adapted.path()).unwrap();
        let options = CopyOptions { dtype: spec::Dtype::Stored, most: u64::MAX, without: &[] };
        copy(adapted.path(), merged.path(), &options).unwrap();
        let example = text(1, 12, 0);
        let expected = logits(&network, &example);
        assert!(logits(&learned("gpt2"), &example)[3] != expected[3]);
        for (what, other) in [
            ("read", Network::load(adapted.path(), &Device::flex())),
            ("merged", Network::load_merged(adapted.path(), &Device::flex())),
            ("copied", Network::load(merged.path(), &Device::flex())),
        ] {
            assert_near(&logits(&other.unwrap(), &example).concat(), &expected.concat(), &format!("{what}, {dtype:?}"));
        }
    }
}
