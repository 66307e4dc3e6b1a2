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
    ("wordpiece", 2, "49f13c735e43861014a95eb01cb87f55ffb6541dcfca640fa86d1c5953962fbc"),
    ("bpe", 2, "f55e5dd1f716a58ac9be4a7b38642ba480df8ce674ec27abeec270a75314570d"),
    ("unigram", 2, "c7fe7d4e5c9905bb87f1789fa4bfaf3de485d6411643d74581440d2c4782c021"),
];

/// Everything that is trained or computed by a model, with portable arithmetic.
const PORTABLE: [Golden; 24] = [
    ("bert", 4, "1b48710b63453ab6ed69fa2ab23d176a22450868d87b0fd0f316149e9b3e33df"),
    ("bert_test", 3, "1ed9b86a38fb2d885453caab5ae84137743479c983b991a7b8f203c50e2d94fd"),
    ("bytes", 2, "f55e5dd1f716a58ac9be4a7b38642ba480df8ce674ec27abeec270a75314570d"),
    ("chatglm", 1, "ca259ee3e729caeaed816b96f823059583358b42d50e6334b238e57ddc91eb68"),
    ("chatglm2", 1, "e3c9377752c01eae363f53f80f46b21565bce6fc0c534e7e64a2f023604fcdf8"),
    ("glm", 1, "0aa0b3735ed3414ff60649b5609ec68db4d90784fe0357478b6c47cdcf5a8f96"),
    ("glm4", 1, "740fdf0921f3a8fb76cfa85579c20f1929152dc947c6cc985f818903a444836d"),
    ("gpt2", 1, "de37b061fba12ec415e4bac6d7c2e529c1cfb66778e7ce6502e9e747a626c1d9"),
    ("linear", 1, "14c00148cc548efa7fba7ffb56b7cc21ef435e9e49e94661ba870a53ebe6c5d6"),
    ("linear.linear", 4, "efaf35b3cc90810b89713793d53c3797ecc955c54c5ce920cad117eb41d27298"),
    ("linear_test", 4, "b878dc8d4f4f271872de46f62b777e2383992b4d5ab92be87018a22fb21384e1"),
    ("lora", 3, "f1689f8d90a9ca0adca41a187ecebbc93a175f28decab97cf65adc89285c8e07"),
    ("lora_test", 4, "9ee69d76c58f0c86e6cc4606171d891bef228e0399c3ff4f96923f99a538a38c"),
    ("pieces", 2, "c7fe7d4e5c9905bb87f1789fa4bfaf3de485d6411643d74581440d2c4782c021"),
    ("prompt", 1, "91cde705eb6e6dcf31caffc1adc5507f17826c817958bb9de332445736f2e022"),
    ("prompt_test", 4, "366701eb90cc93e870c65de0cd0a498d6c2128eb2ae7878d1f721123f7f1a4c0"),
    ("taken", 3, "170ae4495d7a75200731dc7f290bfb7408948d41b5077c6568ce1a6824a51db8"),
    ("tokens", 2, "49f13c735e43861014a95eb01cb87f55ffb6541dcfca640fa86d1c5953962fbc"),
    ("transformer", 2, "867bd999577bf36eb094c52b80dd89a8beb7013db5ec57155d83f5ae4eb72c84"),
    ("virtual", 5, "84ed1fc1fe838cf8cd3e5c9beaa9be41b6b8e962e0bd97f9101e93edba6647b3"),
    ("virtual_test", 3, "3b2b09ca57e8527273e0c3df729b4af977cb87d4578a51ef5d1169718c5d5eb1"),
    ("virtual_last", 5, "398140cd86b042c162a370061436b515b7181ef5050dd3f2f3cdbffc976fa615"),
    ("taken_apart", 2, "170ae4495d7a75200731dc7f290bfb7408948d41b5077c6568ce1a6824a51db8"),
    ("gpt2_test", 3, "0267410364a13a596bba9e94bc5d4323000a175cdd6ad50188533ea3339d4505"),
];

/// The text of a model that was trained so.
const WRITTEN: &str = "下汤碗下体为算浆浆晚。菜在锅火了";

/// What [`TINY`] gives with the fast kernels on x86-64 with AVX-512. Where no such processor is at hand, `.ci/emulated` runs the
/// test on one that is computed.
const AVX512: [Golden; 5] = [
    ("base", 1, "4f2ee3fb9e876b214e3e0c21cf5dd83292861f1ecc085e3f7cd5295646c24d3f"),
    ("topics", 1, "77466650e7804303fb8b7a63e3d46dd806968297800d94af0603ac50dc1bc66e"),
    ("test", 4, "3e953f3daf913390a998b8b86dd2b0f2c24e0889e73ebc0b189bc0cab4361903"),
    ("taken", 1, "d0115281e8715fff5779cf308c9c7ea6694a2fa08c1a9a7bf9d82e29a7574710"),
    ("made", 2, "d752c6ae881fd84b0d6858aa8cc83d2f5a41c891a7370afe797d12cc351b295a"),
];

/// The same with AVX2 and FMA, and no AVX-512.
const AVX2: [Golden; 5] = [
    ("base", 1, "4f2ee3fb9e876b214e3e0c21cf5dd83292861f1ecc085e3f7cd5295646c24d3f"),
    ("topics", 1, "5b94badbd50266eaa69432443e8853fc20ba6cae8ad073f73ce6071cbe627739"),
    ("test", 4, "39475d53b2c04b7ceae3c20406ca9dbe39cf2f2bdf8d54151ba05f361ecb6091"),
    ("taken", 1, "d0115281e8715fff5779cf308c9c7ea6694a2fa08c1a9a7bf9d82e29a7574710"),
    ("made", 2, "d752c6ae881fd84b0d6858aa8cc83d2f5a41c891a7370afe797d12cc351b295a"),
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
  virtual_last:
    finetune:
      from: chatglm2
      adapter: { p_tuning: { tokens: 3, dropout: 0.1, base_dtype: bf16 } }
      data: { train: { path: chat.jsonl } }
      task: { instruction: { prompt: question, response: answer, turns: last } }
      train: { epochs: 1, batch: { examples: 2 }, max_length: 96, lr: 1.0e-3 }
  prompt_test: { eval: { model: prompt, data: { path: test.tsv } } }
  linear_test: { eval: { model: linear, data: { path: test.tsv } } }
  lora_test: { eval: { model: lora, data: { path: test.tsv } } }
  virtual_test: { eval: { model: virtual, data: { path: chat.jsonl } } }
  bert_test: { eval: { model: bert, tokens: tokens } }
  taken: { eval: { model: transformer, tokens: tokens } }
  taken_apart: { eval: { model: transformer, tokens: tokens, stride: 0 } }
  gpt2_test: { eval: { model: gpt2, tokens: tokens } }
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
