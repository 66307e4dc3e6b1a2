//! Models whose weights are held in fewer bits: what they lose, and that ChatGLM's quantized editions give their numbers.

use crate::common::{need, parity};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use parity::{Tensors, decoder, fixture, furthest};
use pipe::{
    network::{
        batch::Batch,
        kernels::Compact,
        model::{Network, copy_held},
    },
    spec::WeightForm,
};
use serde_json::{Value, json};

/// Decoders among the fixtures.
const DECODERS: [&str; 3] = ["gpt2", "glm4", "chatglm2"];

fn held(directory: &Path, form: WeightForm) -> Network {
    Network::load_held(directory, Some(form), &Device::flex()).unwrap()
}

/// The fixture's batch of whole rows.
fn batch(directory: &Path) -> Batch {
    let expected = Tensors::expected(directory);
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    decoder::batch(expected.integers("input_ids"), width, &vec![0; rows])
}

fn logits(network: &Network, batch: &Batch) -> Vec<f32> {
    network.logits_at(batch, &(0..batch.tokens.len() as u32).collect::<Vec<_>>()).unwrap().concat()
}

fn fixtures() -> Vec<PathBuf> {
    let found = DECODERS.map(|name| fixture(name).ok());
    found.into_iter().flatten().filter(|directory| directory.join("config.json").is_file()).collect()
}

/// By how much a number may be off in a form: half of the last bit, of the 254th of its row's largest, or of an eighth of its
/// group's and a half more for the codes that aren't symmetric.
fn rounding(form: WeightForm, value: f32, largest_of_row: f32, largest_of_group: f32) -> f32 {
    match form {
        WeightForm::F32 => 0.0,
        WeightForm::F16 => value.abs() / 2048.0 + 3e-8,
        WeightForm::Bf16 => value.abs() / 256.0,
        WeightForm::Int8 => largest_of_row / 254.0,
        WeightForm::Int4 => largest_of_group / 8.0,
    }
}

#[test]
fn what_fewer_bits_lose_is_their_rounding() {
    need!(fixture("gpt2"));
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    for (directory, form) in fixtures().iter().flat_map(|directory| WeightForm::ALL.map(|form| (directory, form))) {
        let what = format!("{}, {}", directory.display(), form.name());
        let batch = batch(directory);
        let network = held(directory, form);
        let found = logits(&network, &batch);
        // The rounded weights once more in f32, by way of files.
        let stored = tempfile::tempdir().unwrap();
        network.save(stored.path()).unwrap();
        let expanded = Network::load(stored.path(), &Device::flex()).unwrap();
        assert!(furthest(&found, &logits(&expanded, &batch)) < 1e-4, "{what}");
        let mapped = Network::load_held(stored.path(), None, &Device::flex()).unwrap();
        assert!(furthest(&logits(&mapped, &batch), &found) < 1e-5, "{what}");
        let whole = Network::load(directory, &Device::flex()).unwrap();
        let mut changed = 0;
        for parameter in whole.parameters().iter().filter(|parameter| parameter.shape().len() == 2) {
            let data = |network: &Network| -> Vec<f32> {
                network.parameters().named(&parameter.name).unwrap().data().unwrap().try_to_vec().unwrap()
            };
            let columns = parameter.shape()[1];
            for (row, rounded_row) in data(&whole).chunks(columns).zip(data(&expanded).chunks(columns)) {
                for (group, rounded) in row.chunks(32).zip(rounded_row.chunks(32)) {
                    for (value, rounded) in group.iter().zip(rounded) {
                        let most = rounding(form, *value, largest(row), largest(group)) * 1.001;
                        assert!((value - rounded).abs() <= most, "{what}, {}: {value}, {rounded}", parameter.name);
                        changed += usize::from(value != rounded);
                    }
                }
            }
        }
        assert!(changed > 0 || [WeightForm::F32, WeightForm::F16].contains(&form), "{what} changes nothing");
    }
}

#[test]
fn greedy_text_of_sixteen_bits_is_that_of_f32_where_the_next_token_is_clear() {
    need!(fixture("gpt2"));
    // Rounding to 8 bits moves logits of these fixtures by up to 0.18, to 11 bits by 0.01.
    let forms = [(WeightForm::F16, 0.02), (WeightForm::Bf16, 0.1)];
    let mut compared = 0;
    for directory in fixtures() {
        let Ok(cases) = std::fs::read(directory.join("generation.json")) else { continue };
        let cases: Value = serde_json::from_slice(&cases).unwrap();
        let numbers = |value: &Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
        };
        for (form, clear) in forms {
            let network = held(&directory, form);
            for case in cases.as_array().unwrap().iter().filter(|case| case["min_top2_margin"].as_f64() > Some(clear)) {
                let mut tokens = numbers(&case["prompt_ids"]);
                for next in numbers(&case["new_ids"]) {
                    let logits = decoder::batch(tokens.clone(), tokens.len(), &[0]);
                    let logits = &network.logits_at(&logits, &[tokens.len() as u32 - 1]).unwrap()[0];
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                    assert_eq!(best as u32, next, "{}, {}", directory.display(), form.name());
                    tokens.push(next);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100, "{compared} tokens were compared");
}

#[test]
fn quantized_editions_of_chatglm_give_their_reference() {
    need!(fixture("chatglm_quantized"));
    for edition in ["int8", "int4", "int4_qe", "chatglm2_int4"] {
        let directory = need!(fixture(&format!("chatglm_quantized/{edition}")));
        let expected = Tensors::expected(&directory);
        let whole = Network::load(&directory, &Device::flex()).unwrap();
        let stored = Network::load_held(&directory, None, &Device::flex()).unwrap();
        let bytes: usize = stored.parameters().compact.iter().map(|frozen| frozen.value.bytes()).sum();
        assert!(bytes > 0 && bytes < 4 * whole.parameters().count() / 2, "{edition}: {bytes}");
        // What codes stand for, to the bit.
        let names: Vec<String> = expected.all().names().into_iter().map(str::to_owned).collect();
        let mut compared = 0;
        for name in names.iter().filter_map(|name| name.strip_prefix("dequantized.transformer.")) {
            let values = expected.floats(&format!("dequantized.transformer.{name}"));
            let frozen = stored.parameters().compact.iter().find(|frozen| frozen.name == name).expect(name);
            let found: Vec<f32> = frozen.value.expand().try_into_vec_as().unwrap();
            assert_eq!(&found, &values, "{edition}: {name}");
            let found: Vec<f32> = whole.parameters().named(name).expect(name).data().unwrap().try_to_vec().unwrap();
            assert_eq!(&found, &values, "{edition}: {name}");
            compared += 1;
        }
        assert!(compared >= 4, "{edition}: {compared} matrices were compared");
        let batch = match edition {
            "chatglm2_int4" => batch(&directory),
            _ => super::chatglm_parity::chatglm_batch(&expected, ""),
        };
        for network in [&whole, &stored] {
            decoder::check_logits(network, &batch, &expected.floats("logits"));
            decoder::check_loss(network, &batch, &expected);
        }
    }
}

#[test]
fn a_model_that_is_written_in_a_form_is_read_back_to_the_bit() {
    need!(fixture("gpt2"));
    for (directory, form) in fixtures().iter().flat_map(|directory| WeightForm::ALL.map(|form| (directory, form))) {
        let what = format!("{}, {}", directory.display(), form.name());
        let written = tempfile::tempdir().unwrap();
        copy_held(directory, written.path(), form, 20_000).unwrap();
        let expected = held(directory, form);
        let found = Network::load_held(written.path(), None, &Device::flex()).unwrap();
        let batch = batch(directory);
        assert_eq!(logits(&found, &batch), logits(&expected, &batch), "{what}");
        assert_eq!(found.parameters().compact.len(), expected.parameters().compact.len(), "{what}");
        for (found, expected) in found.parameters().compact.iter().zip(&expected.parameters().compact) {
            let rows = 0..expected.value.dims()[0];
            let bytes = |compact: &Compact| compact.data(rows.clone(), false).unwrap().into_bytes().to_vec();
            assert_eq!(bytes(&found.value), bytes(&expected.value), "{what}, {}", expected.name);
            let scales = |compact: &Compact| compact.scales().map(|scales| scales.clone().try_into_data().unwrap());
            assert_eq!(scales(&found.value), scales(&expected.value), "{what}, {}", expected.name);
        }
        assert!(written.path().join("model.safetensors.index.json").is_file(), "{what}: more than one file");
    }
}

#[test]
fn an_adapter_on_a_model_that_is_stored_in_few_bits_keeps_its_file() {
    let directory = need!(fixture("chatglm2"));
    for form in [WeightForm::Int8, WeightForm::Int4] {
        let (base, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        copy_held(&directory, base.path(), form, u64::MAX).unwrap();
        let mut network = Network::load_frozen(base.path(), form, &Device::flex()).unwrap();
        let lora = json!({ "lora": { "targets": ["query_key_value"], "weights": form.name() } });
        network.adapt(&serde_json::from_value(lora).unwrap(), 3).unwrap();
        assert!(network.is_stored_in(base.path()).unwrap());
        network.save_beside(base.path(), stored.path()).unwrap();
        let file = |directory: &Path| std::fs::read(directory.join("model.safetensors")).unwrap();
        assert!(file(stored.path()) == file(base.path()), "{}: another file", form.name());
        let (found, batch) = (Network::load(stored.path(), &Device::flex()).unwrap(), batch(&directory));
        assert_eq!(logits(&found, &batch), logits(&network, &batch), "{}", form.name());
        // What was rounded on reading is in no file.
        let rounded = Network::load_frozen(&directory, form, &Device::flex()).unwrap();
        assert!(!rounded.is_stored_in(&directory).unwrap());
        let other = Network::load_frozen(base.path(), WeightForm::Bf16, &Device::flex()).unwrap();
        assert!(!other.is_stored_in(base.path()).unwrap());
    }
}
