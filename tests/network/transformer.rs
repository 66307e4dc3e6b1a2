//! The encoder–decoder computes what the paper says, under Marian's names, however its examples are laid out.

use crate::common::parity;
use std::{collections::HashMap, path::Path};

use burn::tensor::Device;
use parity::{Tensors, furthest};
use pipe::{
    network::{
        batch::{Example, Layout, Target, lay_out},
        model::{Counts, KvCache, LossSettings, Network, WeightRole},
    },
    spec,
    support::random::Key,
};
use serde_json::json;

const VOCABULARY: usize = 40;
const HEADS: usize = 2;

fn network() -> Network {
    let sizes = json!({ "hidden": 16, "layers": 2, "heads": HEADS, "max_length": 32, "initializer_range": 0.3 });
    let model: spec::Model = serde_json::from_value(json!({ "transformer": sizes })).unwrap();
    Network::new(&model, VOCABULARY, 7, &Device::flex()).unwrap()
}

fn tokens(seed: u64, length: usize) -> Vec<u32> {
    (0..length as u64).map(|at| 1 + Key::new(seed).at(at).below(VOCABULARY - 1) as u32).collect()
}

/// Logits that predict what comes after the source, and after each token of the target.
fn logits(network: &Network, examples: &[(Vec<u32>, Vec<u32>)], layout: Layout) -> Vec<Vec<Vec<f32>>> {
    let sequences: Vec<Example> = examples
        .iter()
        .zip(0..)
        .map(|((source, target), id)| Example::sequence(id, [&source[..], target].concat(), source.len()))
        .collect();
    let batch = lay_out(&sequences, layout, Key::new(0));
    let places = batch.examples.iter().zip(examples).map(|(span, (source, target))| {
        let first = span.start + source.len() as u32 - 1;
        (first..=first + target.len() as u32).collect::<Vec<_>>()
    });
    places.map(|places| network.logits_at(&batch, &places).unwrap()).collect()
}

/// A saved model, computed naively.
struct Reference(HashMap<String, (Vec<usize>, Vec<f64>)>);

type Rows = Vec<Vec<f64>>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Reference {
    fn read(directory: &Path) -> Self {
        let file = Tensors::weights(directory);
        let names: Vec<String> = file.all().names().into_iter().map(str::to_owned).collect();
        let tensor = |name: String| {
            let values = file.floats(&name).into_iter().map(f64::from).collect();
            let shape = file.shape(&name);
            (name, (shape, values))
        };
        Self(names.into_iter().map(tensor).collect())
    }

    fn values(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let row = |x: &Vec<f64>| weight.chunks(x.len()).zip(bias).map(|(w, b)| dot(w, x) + b).collect();
        x.iter().map(row).collect()
    }

    /// `norm(x + y)`.
    fn joined(&self, name: &str, x: &Rows, y: &Rows) -> Rows {
        let (weight, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let row = |(x, y): (&Vec<f64>, &Vec<f64>)| {
            let sum: Vec<f64> = x.iter().zip(y).map(|(x, y)| x + y).collect();
            let mean = sum.iter().sum::<f64>() / sum.len() as f64;
            let variance = sum.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / sum.len() as f64;
            let scaled = sum.iter().zip(weight).zip(bias);
            scaled.map(|((x, w), b)| (x - mean) / (variance + 1e-5).sqrt() * w + b).collect()
        };
        x.iter().zip(y).map(row).collect()
    }

    fn attention(&self, name: &str, x: &Rows, memory: &Rows, causal: bool) -> Rows {
        let [query, key, value] =
            [("q", x), ("k", memory), ("v", memory)].map(|(part, x)| self.linear(&format!("{name}.{part}_proj"), x));
        let size = query[0].len() / HEADS;
        let mut context = vec![vec![0.0; query[0].len()]; query.len()];
        for (at, head) in (0..query.len()).flat_map(|at| (0..HEADS).map(move |head| (at, head))) {
            let part = head * size..(head + 1) * size;
            let seen = if causal { at + 1 } else { key.len() };
            let score = |key: &Vec<f64>| dot(&query[at][part.clone()], &key[part.clone()]) / (size as f64).sqrt();
            let scores: Vec<f64> = key[..seen].iter().map(|key| score(key).exp()).collect();
            for (p, value) in scores.iter().zip(&value) {
                part.clone().for_each(|i| context[at][i] += p / scores.iter().sum::<f64>() * value[i]);
            }
        }
        self.linear(&format!("{name}.out_proj"), &context)
    }

    fn feed_forward(&self, layer: &str, x: &Rows) -> Rows {
        let mut inner = self.linear(&format!("{layer}.fc1"), x);
        inner.iter_mut().flatten().for_each(|x| *x = x.max(0.0));
        self.joined(&format!("{layer}.final_layer_norm"), x, &self.linear(&format!("{layer}.fc2"), &inner))
    }

    fn embedded(&self, tokens: &[u32]) -> Rows {
        let table = self.values("model.shared.weight");
        let width = table.len() / VOCABULARY;
        let wave = |position: usize, i: usize| {
            let angle = position as f64 / 10000_f64.powf((2 * (i % (width / 2))) as f64 / width as f64);
            if i < width / 2 { angle.sin() } else { angle.cos() }
        };
        let row = |(position, &token): (usize, &u32)| {
            let words = table[token as usize * width..][..width].iter().enumerate();
            words.map(|(i, word)| word * (width as f64).sqrt() + wave(position, i)).collect()
        };
        tokens.iter().enumerate().map(row).collect()
    }

    /// Logits for what comes after the source, and after each token of the target.
    fn logits(&self, source: &[u32], target: &[u32]) -> Rows {
        let mut memory = self.embedded(source);
        for layer in (0..2).map(|index| format!("model.encoder.layers.{index}")) {
            let attended = self.attention(&format!("{layer}.self_attn"), &memory, &memory, false);
            memory = self.joined(&format!("{layer}.self_attn_layer_norm"), &memory, &attended);
            memory = self.feed_forward(&layer, &memory);
        }
        let mut x = self.embedded(&[&[0], target].concat());
        for layer in (0..2).map(|index| format!("model.decoder.layers.{index}")) {
            let attended = self.attention(&format!("{layer}.self_attn"), &x, &x, true);
            x = self.joined(&format!("{layer}.self_attn_layer_norm"), &x, &attended);
            let read = self.attention(&format!("{layer}.encoder_attn"), &x, &memory, false);
            x = self.joined(&format!("{layer}.encoder_attn_layer_norm"), &x, &read);
            x = self.feed_forward(&layer, &x);
        }
        let bias = self.values("final_logits_bias");
        let table = self.values("model.shared.weight");
        let row = |x: &Vec<f64>| table.chunks(x.len()).zip(bias).map(|(w, b)| dot(w, x) + b).collect();
        x.iter().map(row).collect()
    }
}

#[test]
fn logits_are_those_of_the_saved_weights_under_marian_s_names() {
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    network.save(directory.path()).unwrap();
    let reference = Reference::read(directory.path());
    assert_eq!(reference.0["final_logits_bias"].0, [1, VOCABULARY]);
    // Shared embeddings and bias; 16 tensors in a layer of the encoder, 26 in one of the decoder.
    assert_eq!(reference.0.len(), 2 + 2 * 16 + 2 * 26);

    let examples = [(1, 9, 5), (2, 1, 12), (3, 20, 0)].map(|(seed, p, n)| (tokens(seed, p), tokens(seed + 9, n)));
    for (found, (source, target)) in logits(&network, &examples, Layout::Ragged).iter().zip(&examples) {
        for (found, expected) in found.iter().zip(reference.logits(source, target)) {
            let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
            assert!(furthest(found, &expected) < 1e-5, "{}", furthest(found, &expected));
        }
    }
}

#[test]
fn layout_changes_nothing() {
    let network = network();
    let examples = [(1, 9, 5), (2, 1, 12), (3, 20, 0), (4, 3, 2)].map(|(seed, p, n)| (tokens(seed, p), tokens(9, n)));
    let ragged = logits(&network, &examples, Layout::Ragged);
    for packing in [false, true] {
        let rows = logits(&network, &examples, Layout::Rows { width: 24, packing });
        for (rows, ragged) in rows.iter().flatten().zip(ragged.iter().flatten()) {
            assert!(furthest(rows, ragged) < 1e-5, "{}", furthest(rows, ragged));
        }
    }
}

#[test]
fn text_is_written_one_token_after_the_other() {
    let network = network();
    let (source, target) = (tokens(1, 6), tokens(2, 5));
    let whole = logits(&network, &[(source.clone(), target.clone())], Layout::Ragged).remove(0);
    let mut cache = KvCache::default();
    for (length, expected) in whole.iter().enumerate() {
        let example = Example::sequence(0, [&source[..], &target[..length]].concat(), source.len());
        let found = network.next_logits(&example, &mut cache).unwrap();
        assert!(furthest(&found, expected) < 1e-5, "{length}: {}", furthest(&found, expected));
    }
}

#[test]
fn every_parameter_learns() {
    let network = network();
    let mut example = Example::sequence(0, tokens(3, 12), 5);
    example.targets = (4..11).map(|at| Target { at, token: example.tokens[at as usize + 1] }).collect();
    let batch = lay_out(&[example], Layout::Ragged, Key::new(1));
    let settings = LossSettings { dropout: 0.1, ..LossSettings::default() };
    let gradients = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().backward();
    for parameter in network.parameters().iter() {
        let gradient = parameter.value.grad(&gradients).unwrap_or_else(|| panic!("none for {}", parameter.name));
        let is_vector = parameter.role == WeightRole::Vector;
        assert!(is_vector || gradient.magnitude().into_scalar::<f32>() > 0.0, "{}", parameter.name);
    }
}
