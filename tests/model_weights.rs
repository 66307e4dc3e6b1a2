//! Checkpoints: what's written is read again, to the byte, and what's wrong with one is said all at once.

use std::{collections::HashMap, path::Path};

use burn::tensor::Device;
use pipe::{
    model::{Network, Pooling},
    recipe::spec,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn network(seed: u64) -> Network {
    network_of("glm", seed)
}

fn network_of(family: &str, seed: u64) -> Network {
    let model = serde_json::json!({ family: { "hidden": 16, "layers": 2, "heads": 2, "max_length": 32 } });
    let model: spec::Model = serde_json::from_value(model).unwrap();
    Network::new(&model, 24, seed, &Device::flex()).unwrap()
}

fn bytes(directory: &Path) -> (Vec<u8>, String) {
    let weights = std::fs::read(directory.join("model.safetensors")).unwrap();
    (weights, std::fs::read_to_string(directory.join("config.json")).unwrap())
}

#[test]
fn stored_networks_come_back_to_the_byte_with_their_heads() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut network = network(1);
    network.add_pair_head(2);
    network.add_classifier(5, Pooling::First, 3).unwrap();
    network.save(first.path()).unwrap();
    let mut loaded = Network::load(first.path(), &Device::flex()).unwrap();
    loaded.save(second.path()).unwrap();
    assert_eq!(bytes(first.path()), bytes(second.path()));
    assert_eq!(loaded.parameters().count(), network.parameters().count());
    loaded.add_classifier(5, Pooling::First, 9).unwrap();
    let error = loaded.add_classifier(4, Pooling::First, 9).unwrap_err().to_string();
    assert_eq!(error, "the model already has a linear head, for 5 classes and First pooling");
}

#[test]
fn other_families_come_back_to_the_byte() {
    for (family, architecture) in
        [("bert", "BertForPreTraining"), ("gpt2", "GPT2LMHeadModel"), ("transformer", "MarianMTModel")]
    {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut network = network_of(family, 1);
        if family == "bert" {
            network.add_pair_head(2);
        }
        network.add_classifier(3, Pooling::Mean, 3).unwrap();
        network.save(first.path()).unwrap();
        Network::load(first.path(), &Device::flex()).unwrap().save(second.path()).unwrap();
        assert_eq!(bytes(first.path()), bytes(second.path()));
        assert!(bytes(first.path()).1.contains(architecture));
    }
}

#[test]
fn settings_that_would_change_the_numbers_are_refused() {
    for (family, setting, told) in [
        ("bert", r#""is_decoder": true"#, "is_decoder true isn't supported"),
        ("bert", r#""tie_word_embeddings": false"#, "tie_word_embeddings false isn't supported"),
        ("gpt2", r#""scale_attn_weights": false"#, "scale_attn_weights false isn't supported"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        network_of(family, 1).save(directory.path()).unwrap();
        let config = bytes(directory.path()).1.replacen('{', &format!("{{ {setting},"), 1);
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let error = format!("{:#}", Network::load(directory.path(), &Device::flex()).err().unwrap());
        assert!(error.ends_with(told), "{error}");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_and_heads_change_none() {
    let (plain, again, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    network(1).save(plain.path()).unwrap();
    network(1).save(again.path()).unwrap();
    let mut with_head = network(1);
    with_head.add_pair_head(1);
    with_head.save(other.path()).unwrap();
    assert_eq!(bytes(plain.path()), bytes(again.path()));

    let (plain, other) = (bytes(plain.path()).0, bytes(other.path()).0);
    let (plain, other) = (SafeTensors::deserialize(&plain).unwrap(), SafeTensors::deserialize(&other).unwrap());
    assert_eq!(other.len(), plain.len() + 4);
    for (name, tensor) in plain.iter() {
        assert_eq!(tensor.data(), other.tensor(name).unwrap().data(), "{name}");
    }
}

#[test]
fn everything_wrong_with_a_checkpoint_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    network(1).save(directory.path()).unwrap();
    let (weights, _) = bytes(directory.path());
    let stored = SafeTensors::deserialize(&weights).unwrap();
    let mut tensors: HashMap<String, TensorView> = stored.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    tensors.remove("transformer.final_layernorm.bias").unwrap();
    let zeros = [0; 60];
    tensors.insert("word_embeddings.weight".into(), TensorView::new(Dtype::F32, vec![3, 5], &zeros).unwrap());
    tensors.insert("lm_head.weight".into(), TensorView::new(Dtype::F32, vec![15], &zeros).unwrap());
    tensors.insert("transformer.final_layernorm.weight".into(), TensorView::new(Dtype::I32, vec![15], &zeros).unwrap());
    std::fs::write(directory.path().join("model.safetensors"), safetensors::serialize(&tensors, None).unwrap())
        .unwrap();

    let error = Network::load(directory.path(), &Device::flex()).err().unwrap();
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    assert!(causes[0].ends_with("don't fit its config.json"), "{}", causes[0]);
    assert_eq!(
        causes[1],
        "word_embeddings.weight has the shape [3, 5] instead of [24, 16]\n\
         transformer.final_layernorm.weight has the shape [15] instead of [16]\n\
         transformer.final_layernorm.bias is missing\n\
         lm_head.weight is not part of this model"
    );
}

#[test]
fn files_that_are_cut_off_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    network(1).save(directory.path()).unwrap();
    let (weights, _) = bytes(directory.path());
    for length in [0, 4, 100, weights.len() - 1] {
        std::fs::write(directory.path().join("model.safetensors"), &weights[..length]).unwrap();
        let error = Network::load(directory.path(), &Device::flex()).err().unwrap();
        assert!(error.to_string().contains("is not a sound safetensors file"), "{error}");
    }
}

#[test]
fn half_precision_and_a_wrapping_class_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let network = network(1);
    network.save(directory.path()).unwrap();
    let (weights, _) = bytes(directory.path());
    let stored = SafeTensors::deserialize(&weights).unwrap();
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = stored
        .iter()
        .map(|(name, view)| {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
            let halves: Vec<u16> = values.iter().map(|&value| half::bf16::from_f32(value).to_bits()).collect();
            (format!("glm.{name}"), view.shape().to_vec(), bytemuck::cast_slice(&halves).to_vec())
        })
        .collect();
    let views =
        halves.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::BF16, shape.clone(), data).unwrap()));
    std::fs::write(directory.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();

    let loaded = Network::load(directory.path(), &Device::flex()).unwrap();
    for (stored, own) in loaded.parameters().matrices.iter().zip(&network.parameters().matrices) {
        let (stored, own) = (stored.data().unwrap(), own.data().unwrap());
        for (stored, own) in stored.iter::<f32>().zip(own.iter::<f32>()) {
            assert_eq!(stored, half::bf16::from_f32(own).to_f32());
        }
    }
}

#[test]
fn other_families_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    network(1).save(directory.path()).unwrap();
    std::fs::write(directory.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let error = format!("{:#}", Network::load(directory.path(), &Device::flex()).err().unwrap());
    assert!(
        error
            .ends_with("model_type llama isn't supported; bert, gpt2, marian and glm with block_position_encoding are"),
        "{error}"
    );
}
