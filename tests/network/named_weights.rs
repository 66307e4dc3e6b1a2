//! Checkpoints whose weights are numbers out of their names, so that others can make the same.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Device;
use pipe::network::{
    batch::{Batch, Example, Layout, lay_out},
    model::Network,
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use pipe::support::random::Key;

pub(super) type Shapes = Vec<(String, Vec<usize>)>;

/// The values of a tensor: of norms' weights about 1, of others between -0.5 and 0.5.
pub(super) fn values(name: &str, count: usize) -> Vec<f32> {
    const NORMS: [&str; 7] = [
        "LayerNorm.weight",
        "ln_1.weight",
        "ln_2.weight",
        "ln_f.weight",
        "layernorm.weight",
        "norm.weight",
        "layer_norm.weight",
    ];
    let hash: u64 = (1..).zip(name.bytes()).map(|(at, byte)| at * u64::from(byte)).sum::<u64>() * 40503;
    let is_norm = NORMS.iter().any(|norm| name.ends_with(norm));
    let value = |at: u64| {
        let value = ((hash + at * 2_654_435_761) % (1 << 32)) as f64 / 4_294_967_296.0 - 0.5;
        (if is_norm { 1.0 + 0.2 * value } else { value }) as f32
    };
    (0..count as u64).map(value).collect()
}

pub(super) fn write(directory: &Path, config: &Value, shapes: &Shapes) {
    let data: BTreeMap<&String, (&Vec<usize>, Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let values = values(name, shape.iter().product());
            (name, (shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, (shape, bytes))| (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap()));
    std::fs::write(directory.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

pub(super) fn load(config: &Value, shapes: &Shapes) -> Network {
    try_load(config, shapes).unwrap_or_else(|error| panic!("{error:#}"))
}

pub(super) fn try_load(config: &Value, shapes: &Shapes) -> anyhow::Result<Network> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config, shapes);
    let network = Network::load(directory.path(), &Device::flex())?;
    // What is written again is the same model.
    let again = tempfile::tempdir().unwrap();
    network.save(again.path()).unwrap();
    let again = Network::load(again.path(), &Device::flex())?;
    assert_eq!(again.parameters().count(), network.parameters().count());
    Ok(again)
}

pub(super) fn shapes(all: &[(&str, &[usize])]) -> Shapes {
    all.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

pub(super) fn without(shapes: &Shapes, left_out: &[&str]) -> Shapes {
    shapes.iter().filter(|(name, _)| !left_out.contains(&name.as_str())).cloned().collect()
}

/// A layer's weight and bias.
pub(super) fn layer(name: &str, shape: [usize; 2], bias: usize) -> Shapes {
    vec![(format!("{name}.weight"), shape.to_vec()), (format!("{name}.bias"), vec![bias])]
}

pub(super) fn norm(name: &str) -> Shapes {
    vec![(format!("{name}.weight"), vec![8]), (format!("{name}.bias"), vec![8])]
}

pub(super) fn batch(tokens: &[u32], prefix: usize) -> Batch {
    lay_out(&[Example::sequence(0, tokens.to_vec(), prefix)], Layout::Ragged, Key::new(0))
}

pub(super) const IDS: [u32; 6] = [2, 5, 7, 9, 3, 6];

pub(super) fn last_logits(network: &Network, prefix: usize) -> Vec<f32> {
    network.logits_at(&batch(&IDS, prefix), &[5]).unwrap().concat()
}

pub(super) fn gpt2() -> (Value, Shapes) {
    let config = json!({
        "model_type": "gpt2", "vocab_size": 12, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2,
    });
    let in_layer = [
        norm("ln_1"),
        layer("attn.c_attn", [8, 24], 24),
        layer("attn.c_proj", [8, 8], 8),
        norm("ln_2"),
        layer("mlp.c_fc", [8, 32], 32),
        layer("mlp.c_proj", [32, 8], 8),
    ];
    let mut all: Shapes =
        in_layer.concat().into_iter().map(|(name, shape)| (format!("transformer.h.0.{name}"), shape)).collect();
    all.extend(norm("transformer.ln_f"));
    all.extend(shapes(&[("transformer.wpe.weight", &[16, 8]), ("transformer.wte.weight", &[12, 8])]));
    (config, all)
}

pub(super) fn bert() -> (Value, Shapes) {
    let config = json!({
        "model_type": "bert", "vocab_size": 12, "max_position_embeddings": 16, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "type_vocab_size": 2,
    });
    let in_layer = [
        layer("attention.self.query", [8, 8], 8),
        layer("attention.self.key", [8, 8], 8),
        layer("attention.self.value", [8, 8], 8),
        layer("attention.output.dense", [8, 8], 8),
        norm("attention.output.LayerNorm"),
        layer("intermediate.dense", [16, 8], 16),
        layer("output.dense", [8, 16], 8),
        norm("output.LayerNorm"),
    ];
    let mut all: Shapes =
        in_layer.concat().into_iter().map(|(name, shape)| (format!("bert.encoder.layer.0.{name}"), shape)).collect();
    all.extend(norm("bert.embeddings.LayerNorm"));
    all.extend(shapes(&[
        ("bert.embeddings.position_embeddings.weight", &[16, 8]),
        ("bert.embeddings.token_type_embeddings.weight", &[2, 8]),
        ("bert.embeddings.word_embeddings.weight", &[12, 8]),
    ]));
    (config, all)
}

pub(super) fn masked_head() -> Shapes {
    let mut all =
        [layer("cls.predictions.transform.dense", [8, 8], 8), norm("cls.predictions.transform.LayerNorm")].concat();
    all.extend(layer("cls.predictions.decoder", [12, 8], 12));
    all.extend(shapes(&[("cls.predictions.bias", &[12])]));
    all
}

/// GLM-4, or with `plain` the edition without norms behind the branches.
pub(super) fn glm4(plain: bool) -> (Value, Shapes) {
    let config = json!({
        "model_type": if plain { "glm" } else { "glm4" }, "vocab_size": 12, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "max_position_embeddings": 16, "tie_word_embeddings": !plain,
    });
    let mut names = vec!["input_layernorm.weight", "post_attention_layernorm.weight"];
    if !plain {
        names.extend(["post_mlp_layernorm.weight", "post_self_attn_layernorm.weight"]);
    }
    let mut in_layer: Shapes = names.into_iter().map(|name| (name.to_owned(), vec![8])).collect();
    in_layer.extend(layer("self_attn.q_proj", [8, 8], 8));
    in_layer.extend(layer("self_attn.k_proj", [4, 8], 4));
    in_layer.extend(layer("self_attn.v_proj", [4, 8], 4));
    in_layer.extend(shapes(&[
        ("self_attn.o_proj.weight", &[8, 8]),
        ("mlp.gate_up_proj.weight", &[32, 8]),
        ("mlp.down_proj.weight", &[8, 16]),
    ]));
    let mut all: Shapes = in_layer.into_iter().map(|(name, shape)| (format!("model.layers.0.{name}"), shape)).collect();
    all.extend(shapes(&[("model.norm.weight", &[8]), ("model.embed_tokens.weight", &[12, 8])]));
    (config, all)
}

pub(super) fn marian() -> (Value, Shapes) {
    let config = json!({
        "model_type": "marian", "vocab_size": 12, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
        "max_position_embeddings": 16, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
        "scale_embedding": true, "activation_function": "swish",
    });
    let attention = |name: &str| {
        let parts = ["k_proj", "out_proj", "q_proj", "v_proj"];
        let mut all = parts.map(|part| layer(&format!("{name}.{part}"), [8, 8], 8)).concat();
        all.extend(norm(&format!("{name}_layer_norm")));
        all
    };
    let rest = || [layer("fc1", [16, 8], 16), layer("fc2", [8, 16], 8), norm("final_layer_norm")].concat();
    let decoder = [attention("encoder_attn"), attention("self_attn"), rest()].concat();
    let encoder = [attention("self_attn"), rest()].concat();
    let mut all = Shapes::new();
    for (side, in_layer) in [("decoder", decoder), ("encoder", encoder)] {
        all.extend(in_layer.into_iter().map(|(name, shape)| (format!("model.{side}.layers.0.{name}"), shape)));
    }
    all.extend(shapes(&[("final_logits_bias", &[1, 12]), ("model.shared.weight", &[12, 8])]));
    (config, all)
}
