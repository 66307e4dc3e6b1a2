//! What training will take is told before it begins, and comes out about as told.

use crate::common;
use common::{Space, TINY, tiny};
use serde_json::Value;

/// A model of some size, without special effort on either side of the training.
fn recipe(hidden: usize, layers: usize, settings: &str) -> String {
    format!(
        r#"
device: cpu
stages:
  tokens:
    tokenize:
      tokenizer: {{ unigram: {{ vocab_size: 2000 }} }}
      corpus: [{{ path: corpus.txt, document: paragraph }}]
  base:
    pretrain:
      tokens: tokens
      model: {{ glm: {{ hidden: {hidden}, layers: {layers}, heads: 4 }} }}
      objectives: [{{ masked_lm: {{}} }}]
      train: {{ steps: 4, batch: {{ tokens: 2048 }}, lr: 1.0e-3{settings} }}
"#
    )
}

fn estimate(space: &Space, stage: &str) -> Value {
    space.json(&["plan", "recipe.yaml"])["stages"][stage]["estimate"].clone()
}

#[test]
#[cfg(target_os = "linux")]
fn peak_memory_is_within_a_fifth_of_what_was_told() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/data/corpus.txt");
    let again = ", gradient_checkpointing: true";
    for (hidden, layers, settings) in [(128, 2, ""), (256, 4, ""), (256, 6, again)] {
        let space = Space::new();
        std::fs::copy(corpus, space.path().join("corpus.txt")).expect("a copied corpus");
        space.write("recipe.yaml", recipe(hidden, layers, settings));
        // In a process of its own, as what it takes would count too.
        assert_eq!(space.statuses(&["recipe.yaml", "--stage", "tokens"]), "tokens=ran");
        let told = estimate(&space, "base");
        let metrics = space.json(&["run", "recipe.yaml"])["stages"]["base"]["metrics"].clone();
        assert_eq!(told["parameters"], metrics["parameters"]);
        assert_eq!(told["approximate"], false);
        let [told, measured] =
            [&told["memory_bytes"], &metrics["peak_memory_bytes"]].map(|bytes| bytes.as_f64().expect("a number"));
        assert!((told / measured - 1.0).abs() < 0.2, "{hidden}, {layers}: {told} was told, {measured} measured");
    }
}

#[test]
fn layers_that_are_computed_again_are_told_to_take_less() {
    let space = tiny();
    let memory = |settings: &str| {
        space.write("recipe.yaml", recipe(256, 8, settings));
        let told = estimate(&space, "base");
        [&told["memory"]["activations"], &told["memory_bytes"]].map(|bytes| bytes.as_u64().expect("a number"))
    };
    let [kept, all] = memory("");
    let [again, less] = memory(", gradient_checkpointing: true");
    assert!(4 * again < kept, "{again} bytes in place of {kept}");
    assert_eq!(all - less, kept - again);
}

#[test]
fn each_role_of_the_cpu_takes_memory_of_its_own() {
    let space = tiny();
    let told = |devices: &str| {
        let plan = space.json(&["plan", "recipe.yaml", "--devices", devices]);
        let estimate = &plan["stages"]["base"]["estimate"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let memory = &estimate["memory"];
        let parts = ["weights", "gradients", "optimizer"].map(|part| number(&memory[part]));
        (number(&estimate["devices"]), parts, number(&memory["activations"]))
    };
    let (one, [weights, gradients, optimizer], activations) = told("cpu");
    let (two, replicated, halves) = told("cpu:0-1");
    assert_eq!((one, two), (1, 2));
    assert_eq!(replicated, [2 * weights, 2 * gradients, 2 * optimizer]);
    assert!(halves < activations, "{halves} of {activations}");
}

#[test]
fn plans_tell_parameters_memory_and_arithmetic_of_training_stages() {
    let space = tiny();
    let base = estimate(&space, "base");
    // 300 entries are asked for, and how many it will be isn't known yet. Two tables of 65 positions, a layer, a norm.
    let layer = (3 * 16 * 16 + 3 * 16) + (16 * 16 + 16) + (64 * 16 + 64) + (16 * 64 + 16) + 4 * 16;
    assert_eq!(base["parameters"], 300 * 16 + 2 * 65 * 16 + layer + 2 * 16);
    assert_eq!(base["approximate"], true);
    assert_eq!((&base["trains"], &base["trained_parameters"]), (&"all weights".into(), &base["parameters"]));
    // Blank infilling predicts up to all tokens.
    let multiplied = 12 * 16 * 16 + 300 * 16;
    assert_eq!(base["flops_per_token"], 6 * multiplied + 12 * 16 * 48);
    assert_eq!(base["memory"]["weights"], 4 * base["parameters"].as_u64().expect("a number"));
    let parts: u64 = base["memory"].as_object().expect("parts").values().filter_map(Value::as_u64).sum();
    assert_eq!(base["memory_bytes"], parts);
    assert_eq!(base["fits"], if cfg!(target_os = "linux") { true.into() } else { Value::Null });
    assert!(estimate(&space, "tokens").is_null());
    assert!(estimate(&space, "test").is_null());

    let text = space.pipe(&["plan", "recipe.yaml"]).stdout;
    assert!(text.contains("base: about 10,192 parameters; weights "), "{text}");
    let _ = space.statuses(&["recipe.yaml", "--stage", "tokens"]);
    assert_eq!(estimate(&space, "base")["approximate"], false);
}

#[test]
fn a_linear_head_and_what_was_pretrained_before_count() {
    let space = tiny();
    let recipe = TINY.replace("template:", "head: linear\n          template:");
    space.write("recipe.yaml", &recipe);
    let [base, topics] =
        ["base", "topics"].map(|stage| estimate(&space, stage)["parameters"].as_u64().expect("a number"));
    assert_eq!(topics, base + 2 * 16 + 2);
}

/// What ChatGLM-6B's config.json says of its size; nothing else of it is here.
const CHATGLM_6B: &str = r#"{
  "model_type": "chatglm", "vocab_size": 130528, "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32,
  "inner_hidden_size": 16384, "position_encoding_2d": true, "max_sequence_length": 2048, "layernorm_epsilon": 1e-5,
  "bos_token_id": 130004, "eos_token_id": 130005, "gmask_token_id": 130001, "mask_token_id": 130000, "pad_token_id": 3
}"#;

#[test]
fn a_config_alone_tells_what_a_checkpoint_will_take_in_each_form() {
    const PARAMETERS: u64 = 6_173_286_400;
    let space = tiny();
    space.write("chatglm/config.json", CHATGLM_6B);
    let (_, topics) = TINY.split_once("  topics:\n").expect("a finetune stage");
    let topics =
        topics.replace("from: base", "from: { checkpoint: chatglm }").replace("max_length: 48", "max_length: 1024");
    space.write("recipe.yaml", format!("stages:\n  topics:\n{topics}"));
    let told = estimate(&space, "topics");
    assert_eq!((&told["parameters"], &told["approximate"]), (&PARAMETERS.into(), &false.into()));
    // Weights, gradients and two means in f32.
    let [weights, gradients, optimizer] =
        ["weights", "gradients", "optimizer"].map(|part| told["memory"][part].as_u64().expect("a number"));
    assert_eq!([weights, gradients, optimizer], [1, 1, 2].map(|times| 4 * times * PARAMETERS));
    let others = told["others"].as_array().expect("other forms");
    let other = |name: &str| others.iter().find(|other| other["trains"] == name).expect(name);
    let memory = |name: &str| other(name)["memory_bytes"].as_u64().expect("a number");
    // A and B of rank 8 for each query_key_value [12288, 4096]; keys and values of 128 tokens in each of 28 layers.
    assert_eq!(other("LoRA, r 8")["trained_parameters"], 8 * (12_288 + 4_096) * 28);
    assert_eq!(other("P-tuning, 128 tokens")["trained_parameters"], 128 * 2 * 4_096 * 28);
    for form in ["LoRA, r 8", "P-tuning, 128 tokens"] {
        assert!(memory(form) > 4 * PARAMETERS);
        assert!(memory(form) < told["memory_bytes"].as_u64().expect("a number") / 3);
        assert!(memory(&format!("{form}, on bf16")) < memory(form));
        assert!(memory(&format!("{form}, on int8")) < memory(&format!("{form}, on bf16")));
    }

    let text = space.pipe(&["plan", "recipe.yaml"]).stdout;
    for part in ["6,173,286,400", "3,670,016", "29,360,128", "of memory"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // As the recipe has it.
    let adapter = "\n      adapter: { lora: { targets: [query_key_value], base_dtype: bf16 } }\n";
    let lora = topics.replace("from: { checkpoint: chatglm }\n", &format!("from: {{ checkpoint: chatglm }}{adapter}"));
    space.write("recipe.yaml", format!("stages:\n  topics:\n{lora}"));
    let lora = estimate(&space, "topics");
    for field in ["trains", "trained_parameters", "memory_bytes"] {
        assert_eq!(lora[field], other("LoRA, r 8, on bf16")[field]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_cannot_fit_is_refused_before_anything_runs() {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("hidden: 16, layers: 1", "hidden: 65536, layers: 400"));
    let plan = estimate(&space, "base");
    assert_eq!(plan["fits"], false);
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    for part in [
        "`base` needs about ",
        " to train, and this machine has ",
        "weights ",
        "try a smaller `batch`",
        "--> recipe.yaml:",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(output.stderr.contains("`topics` needs about "), "{}", output.stderr);
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--dry-run"]).stderr, output.stderr);
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--dry-run", "--ignore-memory"]).status, 0);
    assert!(!space.path().join(".pipe").exists());
}
