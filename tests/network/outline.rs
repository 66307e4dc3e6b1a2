//! Sizes are known before anything is allocated: the constructors that make a network also tell its shapes.

use burn::tensor::Device;
use pipe::network::model::{Network, Outline};
use pipe::spec;
use serde_json::{Value, json};

fn spec(text: Value) -> spec::Model {
    serde_json::from_value(text).expect("a model")
}

#[test]
fn an_outline_has_the_names_and_shapes_of_the_network() {
    let sizes = json!({ "hidden": 32, "layers": 2, "heads": 4, "max_length": 16 });
    for family in ["glm", "bert", "gpt2", "chatglm", "chatglm2", "glm4", "transformer"] {
        let model = spec(json!({ family: sizes }));
        let outline = Outline::new(&model, 50).unwrap();
        let network = Network::new(&model, 50, 1, &Device::flex()).unwrap();
        let parameters = network.parameters();
        let found = outline.shapes.iter().map(|shape| (&shape.name, shape.role, shape.shape.clone()));
        let made: Vec<_> = parameters.iter().map(|made| (&made.name, made.role, made.shape())).collect();
        assert_eq!(found.collect::<Vec<_>>(), made);
        assert_eq!(outline.shapes.count(), parameters.count() as u64);
        assert_eq!(outline.output(), [50, 32]);
    }
}

/// The published numbers of parameters, out of each model's `config.json` alone.
#[test]
fn configs_of_published_models_give_their_numbers_of_parameters() {
    let bert_base_chinese = json!({
        "model_type": "bert", "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    });
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    });
    let mut bert = Outline::of_config(&bert_base_chinese).unwrap();
    // BertForMaskedLM, without a pooler, and BertForPreTraining.
    assert_eq!(bert.shapes.count(), 102_290_312);
    bert.add_pair_head();
    assert_eq!(bert.shapes.count(), 102_882_442);
    assert_eq!(Outline::of_config(&gpt2).unwrap().shapes.count(), 124_439_808);
    let chatglm = json!({
        "model_type": "chatglm", "vocab_size": 130_528, "hidden_size": 4096, "num_layers": 28,
        "num_attention_heads": 32, "inner_hidden_size": 16384, "position_encoding_2d": true,
    });
    let chatglm2 = json!({
        "model_type": "chatglm", "padded_vocab_size": 65024, "hidden_size": 4096, "num_layers": 28,
        "num_attention_heads": 32, "multi_query_attention": true, "multi_query_group_num": 2, "kv_channels": 128,
        "ffn_hidden_size": 13696, "seq_length": 32768, "add_qkv_bias": true,
    });
    let glm4 = json!({
        "model_type": "glm", "vocab_size": 151_552, "hidden_size": 4096, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 13696,
        "max_position_embeddings": 131_072, "attention_bias": true,
    });
    assert_eq!(Outline::of_config(&chatglm).unwrap().shapes.count(), 6_173_286_400);
    assert_eq!(Outline::of_config(&chatglm2).unwrap().shapes.count(), 6_243_584_000);
    assert_eq!(Outline::of_config(&glm4).unwrap().shapes.count(), 9_399_951_360);
}
