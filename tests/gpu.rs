//! GPU backends compute what the CPU computes.
//!
//! With the features `vulkan`, `wgpu` and `cuda` this needs such devices; for all but `cuda` a software driver will do. Where
//! there is none, tests are left out and say so, as those do of what a device can't. `PIPE_TEST_DEVICES` names those to test,
//! with commas between them.

mod common;

use common::tiny;

#[cfg(not(feature = "vulkan"))]
#[test]
fn missing_backend_names_the_feature_to_build_with() {
    let output = tiny().pipe(&["run", "recipe.yaml", "--device", "vulkan"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("cargo build --release --features vulkan"), "{}", output.stderr);
}

/// What there is in this build: each is tested on its own.
#[cfg(feature = "gpu")]
mod backend {
    use std::sync::Arc;

    use burn::tensor::{DType, Device, Tensor, TensorData};
    use pipe::network::{
        device::{DeviceChoice, DeviceChoices, OpenDevice},
        kernels::{self, AttentionSpans, Dropout, Gelu, KeyValue, RotaryPairs, Rotation, RowIds},
    };
    use pipe::{
        engine::store::State,
        learning::train::{Observer, Progress, TrainSettings, Trainer},
        network::{
            batch::{Example, Feed, Layout, Step, Target, lay_out},
            model::Network,
        },
        spec,
        support::{program, random::Key},
    };
    use serde_json::{Value, json};

    #[cfg(feature = "vulkan")]
    use std::process::Stdio;

    #[cfg(feature = "vulkan")]
    use super::common::{await_that, ended, need, needs::Needed};
    use super::{
        common::Space,
        common::needs::Need,
        common::tensors::{assert_near, intervals, noise, values},
        tiny,
    };

    /// Every objective and both heads, each ten steps with dropout, with one family.
    const RECIPE: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 200 } }
      corpus: [{ path: corpus.txt }]
  judge:
    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {}, sentence_order: {} }] }
  writer:
    pretrain:
      tokens: tokens
      model: MODEL
      objectives:
        - { generative: { blank_infilling: {} } }
        - { generative: { prefix_lm: {} } }
        - { generative: { causal_lm: {} } }
      train: TRAIN
  follows:
    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {}, next_sentence: {} }] }
  prompt:
    finetune: { from: writer, data: DATA, task: { classification: { TASK } }, train: TRAIN }
  linear:
    finetune: { from: judge, data: DATA, task: { classification: { TASK, head: linear } }, train: TRAIN }
  test:
    eval: { model: prompt, data: { path: test.tsv } }
"#;

    const PARTS: [(&str, &str); 4] = [
        ("MODEL", "{ glm: { hidden: 16, layers: 1, heads: 2, max_length: 32 } }"),
        ("TRAIN", "{ steps: 10, batch: { examples: 4 }, max_length: 32, lr: 1.0e-3, dropout: 0.1 }"),
        ("DATA", "{ train: { path: train.tsv } }"),
        ("TASK", "template: '{{ text }}，这是[Classification]。', words: { 甲: 体育, 乙: 美食 }"),
    ];

    /// The other families, each with an objective of its own.
    const FAMILIES: [(&str, &str); 6] = [
        ("bert", "masked_lm: {}, next_sentence: {}"),
        ("gpt2", "generative: { causal_lm: {} }"),
        ("chatglm", "generative: { blank_infilling: {} }"),
        ("chatglm2", "generative: { causal_lm: {} }"),
        ("glm4", "generative: { causal_lm: {} }"),
        ("transformer", "generative: { prefix_lm: {} }"),
    ];

    /// What makes the main recipe tiny.
    const SMALLER: [(&str, &str); 8] = [
        ("--var", "hidden=16"),
        ("--var", "layers=1"),
        ("--set", "stages.encoder.train.epochs=1"),
        ("--set", "stages.encoder.train.batch.tokens=512"),
        ("--set", "stages.generator.train.epochs=1"),
        ("--set", "stages.generator.train.batch.tokens=512"),
        ("--set", "stages.topics.train.epochs=1"),
        ("--set", "stages.topics.train.batch.examples=16"),
    ];

    /// The header and so many lines of a file, from all over it.
    fn thinned(path: &str, lines: usize) -> String {
        let text = std::fs::read_to_string(path).expect("the embedded data");
        let all: Vec<&str> = text.lines().collect();
        // The corpus has no header, and loses nothing by a line twice.
        let kept = all[..1].iter().chain(all[1..].iter().step_by(all.len() / lines));
        kept.map(|line| format!("{line}\n")).collect()
    }

    /// The GPUs of this build, with what to write after `--device`; a note on each that isn't there.
    fn gpus() -> Vec<(&'static str, OpenDevice)> {
        program::name(env!("CARGO_BIN_EXE_pipe").into());
        let wanted = std::env::var("PIPE_TEST_DEVICES").ok();
        let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|other| other == name));
        let names: &[(&str, Need)] = &[
            #[cfg(feature = "vulkan")]
            ("vulkan", Need::Vulkan),
            #[cfg(feature = "wgpu")]
            ("wgpu", Need::Wgpu),
            #[cfg(feature = "cuda")]
            ("cuda", Need::Cuda),
        ];
        let open = |(name, need): &(&'static str, Need)| match name.parse::<DeviceChoice>().and_then(DeviceChoice::open)
        {
            Ok(open) => {
                // Or else only the compositions would be tested here.
                open.check_kernels(spec::Precision::F32).expect("kernels that can be used");
                if let Some(reason) = &open.by_wgsl {
                    Need::Spirv.unmet(format!("{} takes WGSL: {reason}", open.name)).tell();
                }
                Some((*name, open))
            }
            Err(error) => {
                need.unmet(format!("{error:#}")).tell();
                None
            }
        };
        names.iter().filter(|(name, _)| is_wanted(name)).filter_map(open).collect()
    }

    /// A recipe's text with its parts filled in.
    fn filled(recipe: &str) -> String {
        PARTS.iter().fold(recipe.to_owned(), |recipe, (name, text)| recipe.replace(name, text))
    }

    /// A recipe that pretrains models of these families.
    fn pretrained(families: &[(&str, &str)], layers: usize) -> String {
        let mut recipe = RECIPE[..RECIPE.find("  judge:").expect("the first model")].to_owned();
        for (family, objective) in families {
            let model = format!("{{ {family}: {{ hidden: 16, layers: {layers}, heads: 2, max_length: 48 }} }}");
            recipe += &format!(
                "  {family}:\n    pretrain: {{ tokens: tokens, model: {model}, train: TRAIN, objectives: [{{ {objective} }}] }}\n"
            );
        }
        filled(&recipe)
    }

    /// Fails unless all steps have the losses and norms that the CPU gives.
    fn assert_same_curves(space: &Space, device: &str, stages: usize) {
        let (expected, found) = (curves(space, "cpu"), curves(space, device));
        assert_eq!(expected.len(), stages, "{expected:?}");
        assert_eq!(found.len(), stages, "{found:?}");
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            assert_eq!((expected.len(), found.len()), (10, 10), "{name}");
            for (step, ([loss, norm], [gpu_loss, gpu_norm])) in (1..).zip(expected.iter().zip(found)) {
                assert!((loss - gpu_loss).abs() < 1e-3, "{name}, step {step}: loss {gpu_loss} instead of {loss}");
                assert!((norm - gpu_norm).abs() < 1e-2, "{name}, step {step}: norm {gpu_norm} instead of {norm}");
            }
        }
    }

    /// Loss and gradient norm of each step of each stage that trains, by the stage's name.
    fn curves(space: &Space, device: &str) -> Vec<(String, Vec<[f64; 2]>)> {
        // In one process, which opens the device once.
        let run = ["run", "recipe.yaml", "--device", device, "--store", device, "--launcher", "local"];
        let result = space.json(&run);
        let stages = result["stages"].as_object().expect("stages");
        let curve = |path: &str| -> Option<Vec<[f64; 2]>> {
            let text = std::fs::read_to_string(space.path().join(path).join("curve.jsonl")).ok()?;
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
            Some(lines.map(|line| ["loss", "grad_norm"].map(|name| line[name].as_f64().expect("a number"))).collect())
        };
        stages.iter().filter_map(|(name, stage)| Some((name.clone(), curve(stage["path"].as_str()?)?))).collect()
    }

    #[test]
    fn ten_steps_of_every_objective_have_the_losses_of_the_cpu() {
        for (device, _) in gpus() {
            let space = tiny();
            space.write("recipe.yaml", filled(RECIPE));
            assert_same_curves(&space, device, 5);
        }
    }

    #[test]
    fn ten_steps_of_every_family_have_the_losses_of_the_cpu() {
        for (device, _) in gpus() {
            let space = tiny();
            space.write("recipe.yaml", pretrained(&FAMILIES, 1));
            assert_same_curves(&space, device, FAMILIES.len());
        }
    }

    #[test]
    fn ten_steps_with_ngrams_have_the_losses_of_the_cpu() {
        for (device, _) in gpus() {
            let space = tiny();
            let ngrams = "max_length: 48, ngrams: { buckets: 500, width: 4 } }";
            space.write("recipe.yaml", pretrained(&FAMILIES, 1).replace("max_length: 48 }", ngrams));
            assert_same_curves(&space, device, FAMILIES.len());
        }
    }

    #[test]
    fn ten_steps_with_layers_that_are_computed_again_have_the_losses_of_the_cpu() {
        for (device, _) in gpus() {
            let space = tiny();
            let recipe = pretrained(&[FAMILIES[1], FAMILIES[5]], 2);
            space.write("recipe.yaml", recipe.replace("steps: 10,", "steps: 10, gradient_checkpointing: true,"));
            assert_same_curves(&space, device, 2);
        }
    }

    #[test]
    fn tiny_variant_of_the_main_recipe_runs_through() {
        for (device, _) in gpus() {
            let space = tiny();
            let data = space.path().join("data");
            std::fs::create_dir(&data).expect("a directory");
            for (file, lines) in [("corpus.txt", 60), ("train.tsv", 40), ("dev.tsv", 8), ("test.tsv", 12)] {
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/data/").to_owned() + file;
                let mut text = thinned(&path, lines);
                if file == "corpus.txt" {
                    // In so few texts a character of a label's word may be missing, or too rare to be a token.
                    text.push_str(&"\n体育、健康、娱乐、教育、旅行、科技、美食、财经。\n".repeat(3));
                }
                std::fs::write(data.join(file), text).expect("a file");
            }
            let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/chatglm_cls.yaml");
            let data = format!("data={}", data.display());
            let mut arguments = vec!["run", recipe, "--device", device, "--store", device, "--var", &data];
            SMALLER.iter().for_each(|(flag, change)| arguments.extend([*flag, *change]));
            let result = space.json(&arguments);
            for (name, stage) in result["stages"].as_object().expect("stages") {
                assert_eq!(stage["status"], "ran", "{name}: {stage}");
            }
        }
    }

    #[test]
    fn checkpoints_of_one_backend_are_gone_on_from_on_another() {
        for (_, gpu) in gpus() {
            let cpu = DeviceChoice::Cpu.open().expect("the CPU");
            let straight = trained(&[(&cpu, 8)], &[]);
            for path in [[(&cpu, 4), (&gpu, 8)], [(&gpu, 4), (&cpu, 8)]] {
                assert_same_losses(&trained(&path, &[]), &straight);
            }
        }
    }

    #[test]
    fn devices_that_share_steps_learn_what_one_does() {
        for (name, gpu) in gpus() {
            let alone = trained(&[(&gpu, 8)], &[]);
            // In two roles; more than one GPU is nowhere but where there is more than one.
            assert_same_losses(&trained(&[(&gpu, 8)], std::slice::from_ref(&gpu.device)), &alone);
            let all = name.parse::<DeviceChoices>().and_then(DeviceChoices::found).expect("devices");
            if all.count() == 1 {
                Need::SeveralGpus.unmet(format!("there is one device for {name}")).tell();
                continue;
            }
            let devices = all.open().expect("several devices").devices();
            assert_same_losses(&trained(&[(&gpu, 8)], &devices[1..]), &alone);
        }
    }

    fn assert_same_losses(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (step, (found, expected)) in (1..).zip(found.iter().zip(expected)) {
            assert!((found - expected).abs() < 1e-3, "step {step}: {found} instead of {expected}");
        }
    }

    /// Tells on stderr how gradients are brought together.
    struct Talk;

    impl Observer for Talk {
        fn progressed(&mut self, _progress: &Progress) {}

        fn noted(&mut self, text: &str) {
            eprintln!("{text}");
        }
    }

    /// Losses of a training that goes on from device to device, up to so many steps on each, and shares them with others.
    fn trained(path: &[(&OpenDevice, usize)], others: &[Device]) -> Vec<f32> {
        let state = tempfile::tempdir().expect("a directory");
        let state = State::new(state.path().join("state"), "key");
        let mut losses = Vec::new();
        for &(open, last) in path {
            let ngrams = json!({ "buckets": 64, "width": 4 });
            let model =
                json!({ "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 16, "ngrams": ngrams } });
            let model = serde_json::from_value(model).expect("a model");
            let network = Network::new(&model, 24, 7, &open.device).expect("a network");
            let train = json!({ "steps": 8, "lr": 1e-2, "dropout": 0.1 });
            let train = serde_json::from_value(train).expect("settings");
            let mut settings = TrainSettings::new(&train, 8, None).expect("settings");
            // The schedule's rates stay those of eight steps, since they don't fall.
            settings.schedule.kind = spec::Schedule::Constant;
            settings.schedule.steps = last;
            let mut trainer = Trainer::new(network, settings);
            trainer.load_state(&state).expect("a state");
            trainer.share_with(others.to_vec());
            trainer.run(&Texts, None, None, &mut Talk).expect("a training");
            trainer.save_state(&state).expect("a state");
            losses = trainer.curve().points().map(|point| point.loss).collect();
        }
        losses
    }

    /// Four texts, the same at each step but for what is dropped, in rows that any backend takes.
    struct Texts;

    impl Feed for Texts {
        fn steps(&self) -> usize {
            8
        }

        fn step(&self, step: usize) -> anyhow::Result<Step> {
            let text = |id: u64| {
                let tokens: Vec<u32> = (0..10).map(|at| Key::new(id).at(at).below(24) as u32).collect();
                let targets = (1..10).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
                Example { targets, ..Example::sequence(id, tokens, 0) }
            };
            let examples: Vec<Example> = (0..4).map(text).collect();
            let layout = Layout::Rows { width: 16, packing: true };
            let batch = lay_out(&examples, layout, Key::new(1).at(step as u64));
            Ok(Step { batches: vec![batch], objective: "causal_lm".into(), pair_weight: 1.0 })
        }
    }

    /// Precisions that a device has give the CPU's losses, up to their rounding; those that it hasn't are refused before
    /// anything runs.
    #[test]
    fn precisions_train_or_are_refused_at_plan_time() {
        for (device, gpu) in gpus() {
            for precision in [spec::Precision::F16, spec::Precision::Bf16, spec::Precision::Mixed] {
                let name = precision.name();
                let space = tiny();
                let recipe = RECIPE[..RECIPE.find("  judge:").expect("the first model")].to_owned()
                    + "  base:\n    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {} }] }\n";
                let recipe = filled(&recipe).replace("steps: 10,", &format!("steps: 10, precision: {name},"));
                space.write("recipe.yaml", recipe);
                if let Err(reason) = gpu.check_precision(precision) {
                    let output = space.pipe(&["run", "recipe.yaml", "--device", device]);
                    assert_eq!(output.status, 2, "{}", output.stderr);
                    assert!(output.stderr.contains(&reason.to_string()), "{}", output.stderr);
                    eprintln!("{device} refuses {name}: {reason}");
                    continue;
                }
                let (expected, found) = (curves(&space, "cpu"), curves(&space, device));
                for ([loss, _], [gpu_loss, _]) in expected[0].1.iter().zip(&found[0].1) {
                    assert!((loss - gpu_loss).abs() < 2e-2, "{name}: loss {gpu_loss} instead of {loss}");
                }
            }
        }
    }

    #[test]
    fn devices_are_listed_with_what_they_can() {
        let list = tiny().json(&["devices"]);
        for (device, _) in gpus() {
            let name = if device == "cuda" { "cuda:0" } else { device };
            let found =
                list.as_array().expect("a list").iter().find(|info| info["device"] == name).expect("the device");
            assert_eq!((&found["usable"], &found["precision"]["f32"]), (&true.into(), &true.into()), "{found}");
            assert!(found["hardware"].is_string(), "{found}");
        }
    }

    #[test]
    fn bench_times_a_device() {
        for (device, _) in gpus() {
            let measured = tiny().json(&["bench", "--device", device, "--shape", "tiny", "--steps", "2"]);
            assert!(measured[0]["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{measured}");
        }
    }

    /// The layer of tests/vulkan, to stand between a program and a driver.
    #[cfg(feature = "vulkan")]
    fn vulkan_layer(space: &Space) -> Needed<std::path::PathBuf> {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vulkan");
        let folder = space.path().join("layer");
        std::fs::create_dir(&folder).expect("a directory");
        std::fs::copy(source.join("layer.json"), folder.join("layer.json")).expect("a copy");
        let mut cc = std::process::Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(folder.join("liblayer.so"));
        match cc.arg(source.join("layer.c")).output() {
            Ok(output) if output.status.success() => Ok(folder),
            Ok(output) => Err(Need::Layer.unmet(String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(Need::Layer.unmet(error)),
        }
    }

    /// A driver that never answers is given up: the process that waits for it is ended, and the next run goes on from the state.
    #[cfg(feature = "vulkan")]
    #[test]
    fn driver_that_hangs_costs_a_process_and_no_state() {
        let Some((device, _)) = gpus().into_iter().find(|(name, _)| *name != "cuda") else { return };
        let space = tiny();
        let layer = need!(vulkan_layer(&space));
        let recipe =
            pretrained(&FAMILIES[1..2], 1).replace("steps: 10,", "steps: 60, checkpoint_every: 5, log_every: 1,");
        space.write("recipe.yaml", recipe);
        // It has a state too, for a moment.
        space.json(&["run", "recipe.yaml", "--stage", "tokens", "--store", "store"]);
        let hangs = space.path().join("hangs");
        let run = ["run", "recipe.yaml", "--device", device, "--store", "store"];
        let mut command = space.command(&run);
        command.env("VK_LAYER_PATH", &layer).env("VK_INSTANCE_LAYERS", "VK_LAYER_PIPE_test");
        command.env("LAYER_HANGS", &hangs).env("PIPE_PATIENCE", "60");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        await_that("a state is saved", || has_state(&space.path().join("store")));
        std::fs::write(&hangs, "").expect("a file");
        let output = ended(child);
        assert_eq!(output.status, 1, "{}", output.stderr);
        assert!(output.stderr.contains("nothing was heard of the device for 60 s"), "{}", output.stderr);

        let output = space.pipe(&run);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("gpt2: resumes from the last checkpoint, after step "), "{}", output.stderr);
    }

    /// Whether a training has saved a state in this store.
    #[cfg(feature = "vulkan")]
    fn has_state(store: &std::path::Path) -> bool {
        let Ok(kept) = std::fs::read_dir(store.join("tmp")) else { return false };
        kept.flatten().any(|kept| {
            kept.path().extension().is_some_and(|end| end == "state") && kept.path().join("state.json").exists()
        })
    }

    type Kernel<'a> = &'a dyn Fn(&[Tensor<2>], &Device) -> Tensor<2>;

    /// What a kernel makes of noise of a type, and the gradients of its inputs.
    fn results(shapes: &[[usize; 2]], kernel: Kernel, numbers: DType, device: &Device) -> Vec<Vec<f32>> {
        let device = device.clone().autodiff();
        let upload = |seed, shape: [usize; 2]| -> Tensor<2> {
            Tensor::<2>::from_data(TensorData::new(noise(seed, shape[0] * shape[1]), shape), &device).cast(numbers)
        };
        let values = |tensor: Tensor<2>| values(tensor.cast(DType::F32));
        let inputs: Vec<_> = (1..).zip(shapes).map(|(seed, &shape)| upload(seed, shape).require_grad()).collect();
        let out = kernel(&inputs, &device);
        // Losses are of 32 bits whatever they are of.
        let gradients = (out.clone() * upload(77, out.dims()).cast(out.dtype())).sum().backward();
        let grads = inputs.iter().map(|input| values(input.grad(&gradients).expect("tracked")));
        std::iter::once(values(out.inner())).chain(grads).collect()
    }

    #[test]
    fn every_kernel_has_the_gradients_of_the_cpu() {
        for (device, gpu) in gpus() {
            compare_kernels(device, &gpu.device, DType::F32, 1e-5);
        }
    }

    /// A training that diverges must be seen: nothing may make numbers of what isn't one.
    #[test]
    fn what_is_not_a_number_stays_that() {
        for (device, gpu) in gpus() {
            let row = [1.0, f32::NAN, 2.0, 3.0];
            let x = || Tensor::<2>::from_data(TensorData::new(row.to_vec(), [1, 4]), &gpu.device);
            let spans = AttentionSpans::new(&[0], &[1], 1, 1, &gpu.device).expect("intervals");
            let softmax = || kernels::attention(Tensor::cat(vec![x(); 3], 1), &spans, 1, None);
            let (targets, weights) = (Arc::from([0]), Arc::from([1.0]));
            let loss = kernels::linear_cross_entropy(x(), x(), None, targets, weights, 0.0).reshape([1, 1]);
            let found =
                [kernels::gelu(x(), Gelu::Erf), kernels::gelu(x(), Gelu::Tanh), kernels::tanh(x()), kernels::silu(x())];
            for tensor in found.into_iter().chain([kernels::log_softmax(x()), softmax(), loss]) {
                assert!(values(tensor).iter().any(|number| number.is_nan()), "{device}");
            }
        }
    }

    /// Kernels compute with f32 whatever they're given, so what differs is how results and products are rounded.
    #[test]
    fn every_kernel_takes_numbers_of_16_bits_where_the_device_does() {
        for (device, gpu) in gpus() {
            let all = [(spec::Precision::Bf16, DType::BF16, Need::Bf16), (spec::Precision::F16, DType::F16, Need::F16)];
            for (precision, numbers, need) in all {
                match gpu.check_precision(precision) {
                    Ok(()) => compare_kernels(device, &gpu.device, numbers, 2e-2),
                    Err(reason) => need.unmet(format!("{device}: {reason}")).tell(),
                }
            }
        }
    }

    fn compare_kernels(device: &str, gpu: &Device, numbers: DType, tolerance: f32) {
        let flat = |x: &Tensor<2>| x.clone().flatten::<1>(0, 1);
        let (from, to) = intervals(&[vec![3, 3, 3], vec![1, 2, 3, 4, 5]], 2);
        let dropout = Dropout { p: 0.25, keys: (0..10).map(|i| i * i + 3).collect(), site: 11 };
        let targets: Arc<[u32]> = [0, 22, 7, 7, 3].into();
        let weights: Arc<[f32]> = [1.0, 0.5, 0.0, 2.0, 0.25].into();
        let kernels: &[(&str, &[[usize; 2]], Kernel)] = &[
            ("layer norm", &[[6, 16], [1, 16], [1, 16]], &|x, _| {
                kernels::layer_norm(x[0].clone(), flat(&x[1]), flat(&x[2]), 1e-5)
            }),
            // Rows that several groups of units share, of whole vectors and of single numbers; and many of them.
            ("wide layer norm", &[[40, 640], [1, 640], [1, 640]], &|x, _| {
                kernels::layer_norm(x[0].clone(), flat(&x[1]), flat(&x[2]), 1e-5)
            }),
            ("odd rms norm", &[[40, 333], [1, 333]], &|x, _| kernels::rms_norm(x[0].clone(), flat(&x[1]), 1e-5)),
            ("gelu", &[[6, 16]], &|x, _| kernels::gelu(x[0].clone(), Gelu::Erf)),
            ("bias gelu", &[[6, 16], [1, 16]], &|x, _| kernels::bias_gelu(x[0].clone(), flat(&x[1]), Gelu::Tanh)),
            ("silu", &[[6, 16]], &|x, _| kernels::silu(x[0].clone())),
            ("tanh", &[[6, 16]], &|x, _| kernels::tanh(x[0].clone() * 3.0)),
            ("log softmax", &[[6, 16]], &|x, _| kernels::log_softmax(x[0].clone() * 20.0)),
            ("linear", &[[6, 16], [12, 16], [1, 12]], &|x, _| {
                kernels::linear(x[0].clone(), x[1].clone(), Some(flat(&x[2])))
            }),
            ("linear of many rows", &[[70, 6], [10, 6], [1, 10]], &|x, _| {
                kernels::linear(x[0].clone(), x[1].clone(), Some(flat(&x[2])))
            }),
            ("matmul", &[[6, 7], [7, 5]], &|x, _| kernels::matmul(x[0].clone(), x[1].clone())),
            ("embedding", &[[7, 16]], &|x, device| {
                kernels::embedding(x[0].clone(), &RowIds::new(vec![3, 0, 3, 6, 3, 1], device))
            }),
            ("dropout add", &[[6, 16], [6, 16], [1, 16]], &|x, _| {
                kernels::dropout_add(x[0].clone(), Some(flat(&x[2])), x[1].clone(), Some(&dropout))
            }),
            ("attention", &[[10, 24]], &|x, device| {
                let spans = AttentionSpans::new(&from, &to, 1, 10, device).expect("intervals");
                kernels::attention(x[0].clone(), &spans, 2, Some(&dropout))
            }),
            ("grouped attention", &[[10, 24], [10, 12], [10, 12], [3, 12], [3, 12]], &|x, device| {
                let spans = AttentionSpans::new(&from, &to, 1, 10, device).expect("intervals");
                let pair = |i: usize| KeyValue { key: x[i].clone(), value: x[i + 1].clone() };
                kernels::grouped_attention(x[0].clone(), pair(1), Some(pair(3)), &spans, 4, 2, Some(&dropout))
            }),
            ("attention of long texts", &[[300, 12]], &|x, device| {
                let (from, to) = intervals(&[(1..=130).collect(), vec![160; 160]], 10);
                let dropout = Dropout { p: 0.25, keys: (0..300).collect(), site: 5 };
                let spans = AttentionSpans::new(&from, &to, 1, 300, device).expect("intervals");
                kernels::attention(x[0].clone(), &spans, 2, Some(&dropout))
            }),
            ("rotary", &[[10, 24]], &|x, _| {
                let positions: Vec<u32> = (0..10).collect();
                let rotation =
                    Rotation { base: 1e4, pairs: 2, layout: RotaryPairs::Interleaved, offset: 0, half: false };
                let rotated = kernels::rotary(x[0].clone(), 3, &rotation.at(&positions));
                kernels::rotary(
                    rotated,
                    3,
                    &Rotation { layout: RotaryPairs::Halves, offset: 4, ..rotation }.at(&positions),
                )
            }),
            ("rms norm", &[[6, 16], [1, 16]], &|x, _| kernels::rms_norm(x[0].clone(), flat(&x[1]), 1e-5)),
            ("swiglu", &[[6, 32]], &|x, _| kernels::swiglu(x[0].clone())),
            ("log softmax of linear", &[[6, 16], [2, 16], [1, 2]], &|x, _| {
                kernels::log_softmax(kernels::linear(x[0].clone(), x[1].clone(), Some(flat(&x[2]))))
            }),
            ("cross-entropy", &[[5, 16], [23, 16], [1, 23]], &|x, _| {
                let (targets, weights) = (targets.clone(), weights.clone());
                let bias = Some(flat(&x[2]));
                kernels::linear_cross_entropy(x[0].clone(), x[1].clone(), bias, targets, weights, 0.1).reshape([1, 1])
            }),
            ("cross-entropy of many classes", &[[5, 16], [1001, 16]], &|x, _| {
                let (targets, weights) = (targets.clone(), weights.clone());
                kernels::linear_cross_entropy(x[0].clone(), x[1].clone(), None, targets, weights, 0.0).reshape([1, 1])
            }),
            ("attention in blocks", &[[10, 24]], &|x, device| {
                let spans = AttentionSpans::new(&from, &to, 1, 10, device).expect("intervals");
                kernels::attention_in_blocks(4, x[0].clone(), &spans, 2, Some(&dropout))
            }),
            ("cross-entropy in chunks", &[[5, 16], [23, 16], [1, 23]], &|x, _| {
                let (hidden, weight, bias) = (x[0].clone(), x[1].clone(), Some(flat(&x[2])));
                kernels::linear_cross_entropy_in_blocks(2, hidden, weight, bias, &targets, &weights, 0.1)
                    .reshape([1, 1])
            }),
        ];
        for (name, shapes, kernel) in kernels {
            let found = results(shapes, kernel, numbers, gpu);
            let expected = results(shapes, kernel, numbers, &Device::flex());
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_near(&format!("{name} of {numbers:?} on {device}, part {part}"), found, expected, tolerance);
            }
        }
    }
}
