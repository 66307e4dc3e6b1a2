//! What each kind of stage gives for a fixed tiny input, by the version of its code: when the output changes, the version has
//! to, so that an old artifact is never served for new code.
//!
//! With portable arithmetic the digests hold everywhere. The fast kernels take sums in another order on processors with
//! other vectors, so their digests hold for one class of processors each.
//! `PIPE_GOLDEN=1 cargo test --release --test engine golden -- --nocapture` prints new ones.

use crate::common;
use common::{Space, TINY, finish, needs::Need, tiny};
use serde_json::Value;

/// Stage, version of its kind, digest of its output.
type Golden = (&'static str, u64, &'static str);

/// Tokenizers, which are the same on every machine.
const EVERYWHERE: [Golden; 3] = [
    ("wordpiece", 1, "138f9ad42ffe705b0a737347dc1fb703fa87b58d744534e27ddd2dfad78691da"),
    ("bpe", 1, "7e396281c644fd77c553311668a4389cb1c248e38b3745082f77b19351dbf81e"),
    ("unigram", 1, "a5d85de2545948f2ae073cd2a2118b358144b44f74e0568c2791040fe5aa8f7c"),
];

/// Everything that is trained or computed by a model, with portable arithmetic.
const PORTABLE: [Golden; 20] = [
    ("bert", 3, "cce0b38ad3b505560f32fb737eea1f0885529ba385c98493f4fa205a7e5b891c"),
    ("bert_test", 2, "7afc72b1d68ce5ef8b8b8f021aadbc1e2892e920c4fb0d504264897eb2767670"),
    ("bytes", 1, "7e396281c644fd77c553311668a4389cb1c248e38b3745082f77b19351dbf81e"),
    ("chatglm", 1, "d419624412aa16b2b60778045667e5c079ab9060373ab40c55a0bb78960f5014"),
    ("chatglm2", 1, "7ad87bc8ef88fdb4468f41871c05b87fc3acacf9832183caf31725ca0b58172b"),
    ("glm", 1, "104c7a1c2cb92c77daa5510b51178c8b4d61888cb435a63a5ab27d4289b64e95"),
    ("glm4", 1, "104e9edd8b2621b8a7b190cfed670f316cc49c3b0f110d61961c5e295c85f775"),
    ("gpt2", 1, "3a203060e7097fa8a3170b599f3d4e5ac123f32c54554713ebe78f7b4b4ac50c"),
    ("linear", 1, "22cd5f80ec0bc4c213889f45d2b2d9f6eed088794cbfd14991c07ef2a4ff4c85"),
    ("linear_test", 2, "a001c4f1a0a6897f7e8216879c50e06bd55ad107d9b651c0b1a48c8485ddb443"),
    ("lora", 1, "98232c4be1a133c93b78e424f97ed465574ca0b19f54df67bad54c50b88e2cd5"),
    ("lora_test", 2, "d999e36d82ba42919645af86b9f9bdb81929d5b4e8cc65ef372e8c79fd3272ce"),
    ("pieces", 1, "a5d85de2545948f2ae073cd2a2118b358144b44f74e0568c2791040fe5aa8f7c"),
    ("prompt", 1, "4761271106940458e8423c9a11a976d500abfa2b012bfefe8e469944b6ee5663"),
    ("prompt_test", 2, "9ff534d8ec3d9f82f7613e01ad28d6897497f4cb991c0d7d068dc997b34937de"),
    ("taken", 2, "170ae4495d7a75200731dc7f290bfb7408948d41b5077c6568ce1a6824a51db8"),
    ("tokens", 1, "138f9ad42ffe705b0a737347dc1fb703fa87b58d744534e27ddd2dfad78691da"),
    ("transformer", 2, "2984fcf7da52ee6bfe3c4fc4c4eefd189f0b8c3968b8d0641410f91a29e05d6b"),
    ("virtual", 2, "ace03ce91756c4e40736d844705110d190fc0b9d0870a26436d034a6ff0ac1c0"),
    ("virtual_test", 2, "5fdc67f55dfb42b427386382841f4a3ebe22f82af9804dd6a47e87aa29172502"),
];

/// The text of a model that was trained so.
const WRITTEN: &str = "下汤碗下体为算浆浆晚。菜在锅火了";

/// What [`TINY`] gives with the fast kernels on x86-64 with AVX-512.
const AVX512: [Golden; 5] = [
    ("base", 1, "6eb231e85d63af0dac162a54b9844cd79d1cc5e0146447a9ca8fddab94cc4d82"),
    ("topics", 1, "e1e68e876c9322eb97e716a2268241251f05699bd8fbd814ad14c6eb3c2c5ca1"),
    ("test", 2, "1f36a4d07ab2164af44df03df8e48584ba286d4005d066da4a48a0dca4588208"),
    ("taken", 1, "d0115281e8715fff5779cf308c9c7ea6694a2fa08c1a9a7bf9d82e29a7574710"),
    ("made", 1, "3eefbe35f0f236acd5b28ce1dd2f39324ab3a6f69cdec6df86a75ddd4f208a18"),
];

/// The same with AVX2 and FMA, and no AVX-512.
const AVX2: [Golden; 5] = [
    ("base", 1, "6eb231e85d63af0dac162a54b9844cd79d1cc5e0146447a9ca8fddab94cc4d82"),
    ("topics", 1, "de18fe4d3c1732eff3ca458e54b78516e0c102b9f17559382c577404172ad2fe"),
    ("test", 2, "757d8abcc413bed180480710791de3520c84f0bbac019d0d59d3d10f69558f22"),
    ("taken", 1, "d0115281e8715fff5779cf308c9c7ea6694a2fa08c1a9a7bf9d82e29a7574710"),
    ("made", 1, "3eefbe35f0f236acd5b28ce1dd2f39324ab3a6f69cdec6df86a75ddd4f208a18"),
];

const TOKENIZERS: &str = "
stages:
  wordpiece: { tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] } }
  bpe: { tokenize: { tokenizer: { bpe: { vocab_size: 320 } }, corpus: [{ path: corpus.txt }] } }
  unigram: { tokenize: { tokenizer: { unigram: { vocab_size: 80 } }, corpus: [{ path: corpus.txt }] } }
";

/// All families, objectives, heads, adapters and schedules, and what else changes how something is computed.
const ALL: &str = r#"
seed: 5
stages:
  tokens: { tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] } }
  bytes: { tokenize: { tokenizer: { bpe: { vocab_size: 320 } }, corpus: [{ path: corpus.txt }] } }
  pieces: { tokenize: { tokenizer: { unigram: { vocab_size: 80 } }, corpus: [{ path: corpus.txt }] } }
  bert:
    pretrain:
      tokens: tokens
      model: { bert: { hidden: 24, layers: 2, heads: 2, max_length: 64 } }
      objectives: [{ masked_lm: { whole_word: true }, next_sentence: {} }, { masked_lm: {}, sentence_order: {} }]
      train: { steps: 6, batch: { tokens: 200 }, max_length: 48, lr: 1.0e-3, schedule: cosine, warmup_steps: 2, accumulate: 2, max_grad_norm: 0.1 }
  glm:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 16, layers: 2, heads: 2, max_length: 64 } }
      objectives: [{ masked_lm: {} }, { generative: { blank_infilling: {} } }, { generative: { prefix_lm: {} } }, { generative: { span_corruption: {} } }]
      train: { steps: 6, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3, gradient_checkpointing: true, label_smoothing: 0.1 }
  gpt2:
    pretrain:
      tokens: tokens
      model: { gpt2: { hidden: 16, layers: 2, heads: 4, max_length: 64 } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 5, batch: { tokens: 150 }, max_length: 48, lr: 1.0e-3, packing: true, precision: mixed }
  chatglm:
    pretrain:
      tokens: bytes
      model: { chatglm: { hidden: 16, layers: 2, heads: 2, max_length: 64 } }
      objectives: [{ generative: { blank_infilling: {} } }]
      train: { steps: 4, batch: { examples: 3 }, max_length: 48, lr: 1.0e-3, precision: f16 }
  chatglm2:
    pretrain:
      tokens: bytes
      model: { chatglm2: { hidden: 16, layers: 2, heads: 4, groups: 2, max_length: 96 } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 4, batch: { examples: 3 }, max_length: 48, lr: 1.0e-3, precision: bf16 }
  glm4:
    pretrain:
      tokens: bytes
      model: { glm4: { hidden: 16, layers: 1, heads: 4, groups: 1, max_length: 64 } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 4, batch: { examples: 3 }, max_length: 48, lr: 1.0e-3, schedule: constant, optimizer: { muon: {} } }
  transformer:
    pretrain:
      tokens: tokens
      model: { transformer: { hidden: 16, layers: 1, heads: 2, max_length: 64 } }
      objectives: [{ generative: { prefix_lm: {} } }]
      train: { steps: 4, batch: { examples: 3 }, max_length: 48, lr: 1.0e-3, optimizer: { sgd: {} } }
  prompt:
    finetune:
      from: glm
      data: { train: { path: train.tsv }, dev: { path: dev.tsv } }
      task: { classification: { template: "{{ text }}，这是[Classification]。", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3, evaluate_every: 1, keep_best: loss }
  linear:
    finetune:
      from: bert
      data: { train: { path: train.tsv }, dev: { path: dev.tsv } }
      task: { classification: { template: "{{ text }}", words: { 甲: 体育, 乙: 美食 }, head: linear, pooling: mean } }
      train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  lora:
    finetune:
      from: glm
      adapter: { lora: { r: 2, targets: [query_key_value, dense_h_to_4h], dropout: 0.1, base_dtype: int8 } }
      data: { train: { path: train.tsv } }
      task: { classification: { template: "{{ text }}，这是[Classification]。", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  virtual:
    finetune:
      from: chatglm2
      adapter: { p_tuning: { tokens: 3, dropout: 0.1, base_dtype: bf16 } }
      data: { train: { path: chat.jsonl } }
      task: { instruction: { prompt: question, response: answer } }
      train: { epochs: 1, batch: { examples: 2 }, max_length: 96, lr: 1.0e-3 }
  prompt_test: { eval: { model: prompt, data: { path: test.tsv } } }
  linear_test: { eval: { model: linear, data: { path: test.tsv } } }
  lora_test: { eval: { model: lora, data: { path: test.tsv } } }
  virtual_test: { eval: { model: virtual, data: { path: chat.jsonl } } }
  bert_test: { eval: { model: bert, tokens: tokens } }
  taken: { eval: { model: transformer, tokens: tokens } }
"#;

/// Compares digests with those noted, or prints them.
fn compare(class: &str, space: &Space, result: &Value, expected: &[Golden]) {
    println!("digests of {class}");
    if std::env::var_os("PIPE_GOLDEN").is_some() {
        for (stage, found) in result["stages"].as_object().expect("stages") {
            let known = &space.json(&["show", found["key"].as_str().expect("a key")])["manifest"];
            println!("    (\"{stage}\", {}, \"{}\"),", known["version"], found["digest"].as_str().expect("a digest"));
        }
        return;
    }
    assert!(!expected.is_empty(), "no digests are noted for {class}: PIPE_GOLDEN=1 prints them");
    for (stage, version, digest) in expected {
        let key = result["stages"][stage]["key"].as_str().expect("a key");
        let found = result["stages"][stage]["digest"].as_str().expect("a digest");
        let known = &space.json(&["show", key])["manifest"];
        let kind = &known["kind"];
        assert_eq!(known["version"], *version, "{kind} has a new version: note its digest for `{stage}`, {found}");
        assert_eq!(
            found, *digest,
            "`{stage}` gives another output ({class}), and {kind} still has version {version}: raise it"
        );
    }
}

/// Runs a recipe on the CPU with an environment of its own.
fn run(space: &Space, environment: &[(&str, &str)]) -> Value {
    let mut command = space.command(&["run", "recipe.yaml", "--device", "cpu", "--json"]);
    command.envs(environment.iter().copied());
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

#[test]
fn changed_output_of_tokenizers_has_a_new_version() {
    for kernels in ["fast", "portable"] {
        let space = tiny();
        space.write("recipe.yaml", TOKENIZERS);
        compare("tokenizers", &space, &run(&space, &[("PIPE_KERNELS", kernels)]), &EVERYWHERE);
    }
}

const AVX512_CLASS: &str = "x86-64 with AVX-512";

/// The class of this processor, and what is noted for it.
fn fast_class() -> (&'static str, &'static [Golden]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return (AVX512_CLASS, &AVX512);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return ("x86-64 with AVX2 and FMA", &AVX2);
        }
    }
    ("another processor", &[])
}

#[test]
fn changed_output_of_the_fast_kernels_has_a_new_version() {
    let (class, known) = fast_class();
    if class != AVX512_CLASS {
        Need::Avx512.unmet(format!("this is {class}")).tell();
    }
    if known.is_empty() {
        return;
    }
    let space = tiny();
    let base = space.json(&["run", "recipe.yaml", "--stage", "base", "--device", "cpu"]);
    let model = base["stages"]["base"]["path"].as_str().expect("a path");
    let more = format!(
        "{TINY}  taken: {{ import: {{ path: \"{model}\" }} }}\n  made: {{ export: {{ model: topics, dtype: f16 }} }}\n"
    );
    space.write("recipe.yaml", more);
    compare(class, &space, &run(&space, &[]), known);
}

/// A space with the recipe of all that is computed.
fn all() -> Space {
    let space = tiny();
    let chat = ["谁赢了比赛", "什么最香"]
        .map(|question| format!("{{\"question\": \"{question}？\", \"answer\": \"球队\"}}\n"));
    space.write("chat.jsonl", chat.concat()).write("recipe.yaml", ALL);
    space
}

/// What a model writes, by its seed alone.
fn written(space: &Space, environment: &[(&str, &str)]) -> String {
    let options = ["--prompt", "球队", "--max-tokens", "16", "--seed", "3", "--device", "cpu", "--json"];
    let mut command = space.command(&[&["generate", "recipe.yaml", "gpt2"], &options[..]].concat());
    command.envs(environment.iter().copied());
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout
}

#[test]
fn changed_output_of_portable_kernels_has_a_new_version() {
    let space = all();
    let portable = [("PIPE_KERNELS", "portable")];
    compare("portable arithmetic", &space, &run(&space, &portable), &PORTABLE);
    let found = written(&space, &portable);
    if std::env::var_os("PIPE_GOLDEN").is_some() {
        println!("written: {found}");
        return;
    }
    assert!(!WRITTEN.is_empty() && found.contains(WRITTEN), "another text is generated: {found}");
}

/// Digests of all stages.
fn digests(result: &Value) -> Vec<(String, String)> {
    let stages = result["stages"].as_object().expect("stages");
    stages.iter().map(|(name, stage)| (name.clone(), stage["digest"].as_str().expect("a digest").to_owned())).collect()
}

/// A mathematical library that's a little off, to be loaded in front of the platform's.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn skewed_library(space: &Space) -> Option<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/golden/skewed_libm.c");
    let library = space.path().join("skewed.so");
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-fno-builtin", "-w", source, "-ldl", "-o"]).arg(&library);
    let is_made = compiler.status().is_ok_and(|status| status.success());
    is_made.then(|| library.to_str().expect("a path in UTF-8").to_owned())
}

/// Neither the number of threads, nor which variants of its functions the platform's mathematical library chooses, nor what
/// these give changes a digest in portable mode.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn portable_arithmetic_depends_on_nothing_of_the_platform() {
    let space = all();
    let Some(library) = skewed_library(&space) else {
        eprintln!("skipped: no C compiler is here");
        return;
    };
    let plain = digests(&run(&space, &[("PIPE_KERNELS", "portable"), ("RAYON_NUM_THREADS", "1")]));
    let other = [
        ("PIPE_KERNELS", "portable"),
        ("PIPE_STORE", "other"),
        ("RAYON_NUM_THREADS", "3"),
        ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-AVX512F"),
        ("LD_PRELOAD", &library),
    ];
    assert_eq!(digests(&run(&space, &other)), plain);
    // The library is in effect: the fast kernels do call it.
    space.write("recipe.yaml", TINY);
    let fast = digests(&run(&space, &[("PIPE_STORE", "fast")]));
    assert_ne!(digests(&run(&space, &[("PIPE_STORE", "skewed"), ("LD_PRELOAD", &library)])), fast);
}
