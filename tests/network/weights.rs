//! Checkpoints: what's written is read again, to the byte, and what's wrong with one is said all at once.

use std::{collections::HashMap, path::Path};

use burn::tensor::Device;
use pipe::{
    data::text::Specials,
    network::{
        batch::{Example, Layout, lay_out},
        model::{Network, Pooling},
    },
    spec,
    support::random::Key,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

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
    assert_eq!(error, "the model already has a linear head, for 5 classes on the first token");
}

#[test]
fn every_family_comes_back_to_the_byte_and_gives_the_same_logits() {
    for (family, architecture) in [
        ("bert", "BertForPreTraining"),
        ("gpt2", "GPT2LMHeadModel"),
        ("chatglm", "ChatGLMModel"),
        ("chatglm2", "ChatGLMModel"),
        ("glm4", "Glm4ForCausalLM"),
        ("transformer", "MarianMTModel"),
    ] {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut network = network_of(family, 1);
        if family == "bert" {
            network.add_pair_head(2);
        }
        network.add_classifier(3, Pooling::Mean, 3).unwrap();
        network.save(first.path()).unwrap();
        let loaded = Network::load(first.path(), &Device::flex()).unwrap();
        loaded.save(second.path()).unwrap();
        assert_eq!(bytes(first.path()), bytes(second.path()));
        assert!(bytes(first.path()).1.contains(architecture));

        let example = Example::sequence(0, vec![3, 1, 4, 1, 5], 2);
        let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
        assert_eq!(network.logits_at(&batch, &[4]).unwrap(), loaded.logits_at(&batch, &[4]).unwrap(), "{family}");
        assert_eq!(loaded.family().name, family);
    }
}

#[test]
fn new_models_name_their_special_tokens_as_the_original_code_does() {
    let specials =
        Specials { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4, gmask: 5, smask: 6, sop: 7, eop: 8, vocab_size: 24 };
    let config = |family: &str| -> Value {
        let directory = tempfile::tempdir().unwrap();
        let mut network = network_of(family, 1);
        network.name_tokens(specials);
        network.save(directory.path()).unwrap();
        // One that is read keeps what it had.
        Network::load(directory.path(), &Device::flex()).unwrap().save(directory.path()).unwrap();
        serde_json::from_str(&bytes(directory.path()).1).unwrap()
    };
    let chatglm = config("chatglm");
    for (key, id) in [("bos", 7), ("eos", 8), ("mask", 4), ("gmask", 5), ("pad", 0)] {
        assert_eq!(chatglm[format!("{key}_token_id")], id, "{key}");
    }
    assert_eq!(config("chatglm2")["eos_token_id"], 3);
    assert_eq!(config("glm4")["eos_token_id"], 3);
}

/// GLM-4 has two layouts, that of its own code and Hugging Face's: the same weights under other names give the same.
#[test]
fn both_layouts_of_glm4_give_the_same_logits() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = serde_json::json!({ "chatglm2": {
        "hidden": 24, "layers": 2, "heads": 4, "groups": 2, "head_size": 8, "feed_forward": 20, "max_length": 32,
        "rope_base": 5e6, "initializer_range": 0.4,
    } });
    let model: spec::Model = serde_json::from_value(model).unwrap();
    let network = Network::new(&model, 24, 1, &Device::flex()).unwrap();
    network.save(own.path()).unwrap();
    assert!(bytes(own.path()).1.contains("\"rope_ratio\": 500.0"));

    let (weights, _) = bytes(own.path());
    let stored = SafeTensors::deserialize(&weights).unwrap();
    let mut renamed: Vec<(String, TensorView)> = Vec::new();
    for (name, view) in stored.iter() {
        let name = name
            .replace("transformer.embedding.word_embeddings", "model.embed_tokens")
            .replace("transformer.output_layer", "lm_head")
            .replace("transformer.encoder.final_layernorm", "model.norm")
            .replace("transformer.encoder", "model")
            .replace("self_attention.dense", "self_attn.o_proj")
            .replace("dense_h_to_4h", "gate_up_proj")
            .replace("dense_4h_to_h", "down_proj");
        let Some((layer, part)) = name.split_once("self_attention.query_key_value") else {
            renamed.push((name, view));
            continue;
        };
        let row = view.data().len() / view.shape()[0];
        for (projection, rows) in [("q", 0..32), ("k", 32..48), ("v", 48..64)] {
            let shape = [&[rows.len()], &view.shape()[1..]].concat();
            let data = &view.data()[rows.start * row..rows.end * row];
            let view = TensorView::new(Dtype::F32, shape, data).unwrap();
            renamed.push((format!("{layer}self_attn.{projection}_proj{part}"), view));
        }
    }
    std::fs::write(other.path().join("model.safetensors"), safetensors::serialize(renamed, None).unwrap()).unwrap();
    let config = serde_json::json!({
        "model_type": "glm", "vocab_size": 24, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 20, "max_position_embeddings": 32,
        "attention_bias": true, "rms_norm_eps": 1e-5, "rope_theta": 5e6, "partial_rotary_factor": 0.5,
    });
    std::fs::write(other.path().join("config.json"), config.to_string()).unwrap();

    let loaded = Network::load(other.path(), &Device::flex()).unwrap();
    let example = Example::sequence(0, vec![3, 1, 4, 1, 5, 9, 2, 6], 0);
    let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
    let (own, other) = (network.logits_at(&batch, &[7]).unwrap(), loaded.logits_at(&batch, &[7]).unwrap());
    let worst = own[0].iter().zip(&other[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn settings_that_would_change_the_numbers_are_refused() {
    for (family, setting, told) in [
        ("bert", r#""is_decoder": true"#, "is_decoder true isn't supported"),
        ("bert", r#""tie_word_embeddings": false"#, "cls.predictions.decoder.weight is missing"),
        ("gpt2", r#""scale_attn_weights": false"#, "scale_attn_weights false isn't supported"),
        ("chatglm", r#""position_encoding_2d": false"#, "position_encoding_2d false isn't supported"),
        ("chatglm", r#""quantization_bit": 3"#, "quantization_bit 3 isn't supported"),
        ("chatglm2", r#""prefix_projection": true"#, "prefix_projection true isn't supported"),
        (
            "chatglm2",
            r#""pre_seq_len": 128"#,
            "says pre_seq_len 128, but there is no transformer.prefix_encoder.embedding.weight",
        ),
        ("glm4", r#""rope_scaling": {"factor": 2.0}"#, r#"rope_scaling {"factor":2.0} isn't supported"#),
        ("glm4", r#""hidden_act": "relu""#, r#"hidden_act "relu" isn't supported"#),
    ] {
        let directory = tempfile::tempdir().unwrap();
        network_of(family, 1).save(directory.path()).unwrap();
        let mut config: Value = serde_json::from_str(&bytes(directory.path()).1).unwrap();
        let setting: Value = serde_json::from_str(&format!("{{ {setting} }}")).unwrap();
        config.as_object_mut().unwrap().extend(setting.as_object().unwrap().clone());
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
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
    for (stored, own) in loaded.parameters().iter().zip(network.parameters().iter()) {
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
        error.ends_with("model_type llama isn't supported; bert, chatglm, glm, glm4, gpt2 and marian are"),
        "{error}"
    );
}

#[test]
fn linear_heads_lie_as_in_the_classes_that_open_them() {
    let names = |family: &str, pooling: Pooling| {
        let directory = tempfile::tempdir().unwrap();
        let mut network = network_of(family, 1);
        network.add_classifier(3, pooling, 3).unwrap();
        network.save(directory.path()).unwrap();
        let (weights, config) = bytes(directory.path());
        let stored = SafeTensors::deserialize(&weights).unwrap();
        let head = |name: &&str| ["classifier", "score", "pooler"].iter().any(|head| name.contains(head));
        let mut names: Vec<String> = stored.names().into_iter().filter(head).map(str::to_owned).collect();
        names.sort();
        let config: Value = serde_json::from_str(&config).unwrap();
        (names.join(" "), config["pipe"]["classifier"]["pooling"].as_str().unwrap().to_owned())
    };
    let bert = "bert.pooler.dense.bias bert.pooler.dense.weight classifier.bias classifier.weight";
    assert_eq!(names("bert", Pooling::First), (bert.to_owned(), "pooler".to_owned()));
    assert_eq!(names("gpt2", Pooling::Last), ("score.weight".to_owned(), "last".to_owned()));
    assert_eq!(names("gpt2", Pooling::Mean), ("classifier.bias classifier.weight".to_owned(), "mean".to_owned()));
}

/// Models from before there was a pooler between the first token and the head.
#[test]
fn a_head_that_read_the_first_token_itself_still_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut network = network_of("bert", 1);
    network.add_classifier(3, Pooling::Mean, 3).unwrap();
    network.save(directory.path()).unwrap();
    let config = std::fs::read_to_string(directory.path().join("config.json")).unwrap();
    std::fs::write(directory.path().join("config.json"), config.replace("\"mean\"", "\"first\"")).unwrap();
    let old = Network::load(directory.path(), &Device::flex()).unwrap();
    // Of one token the mean is that token.
    let one = lay_out(&[Example::sequence(0, vec![3], 1)], Layout::Ragged, Key::new(0));
    let two = lay_out(&[Example::sequence(0, vec![3, 4], 2)], Layout::Ragged, Key::new(0));
    let scores = |network: &Network, batch| network.class_log_probabilities(batch).unwrap();
    assert_eq!(scores(&old, &one), scores(&network, &one));
    assert_ne!(scores(&old, &two), scores(&network, &two));
}
