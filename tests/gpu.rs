//! GPU backends compute what the CPU computes.
//!
//! With the feature `vulkan` this needs a Vulkan driver, and skips where there's none; a software one will do.

#[cfg(feature = "vulkan")]
#[allow(dead_code, reason = "shared with the tests of the kernels")]
mod kernels_common;

mod common;

use common::tiny;

#[cfg(not(feature = "vulkan"))]
#[test]
fn missing_backend_names_the_feature_to_build_with() {
    let output = tiny().pipe(&["run", "recipe.yaml", "--device", "vulkan"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("cargo build --release --features vulkan"), "{}", output.stderr);
}

#[cfg(feature = "vulkan")]
mod vulkan {
    use std::sync::Arc;

    use burn::tensor::{Device, Tensor, TensorData, activation};
    use pipe::{
        device::DeviceChoice,
        kernels::{self, Dropout, Gelu, Ids, KeyValue, Pairs, Rotation, Visible},
    };
    use serde_json::Value;

    use super::{
        common::Space,
        kernels_common::{assert_near, intervals, noise, values},
        tiny,
    };

    /// Every objective and both heads, each ten steps with dropout.
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

    /// The GPU, or a note on why there's none.
    fn gpu() -> Option<Device> {
        match DeviceChoice::Vulkan.open() {
            Ok(open) => Some(open.device),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// Loss and gradient norm of each step of each stage that trains, by the stage's name.
    fn curves(space: &Space, device: &str) -> Vec<(String, Vec<[f64; 2]>)> {
        let result = space.json(&["run", "recipe.yaml", "--device", device, "--store", device]);
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
        if gpu().is_none() {
            return;
        }
        let space = tiny();
        let recipe = PARTS.iter().fold(RECIPE.to_owned(), |recipe, (name, text)| recipe.replace(name, text));
        space.write("recipe.yaml", recipe);
        let (expected, found) = (curves(&space, "cpu"), curves(&space, "vulkan"));
        assert_eq!(expected.len(), 4, "{expected:?}");
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            assert_eq!((expected.len(), found.len()), (10, 10), "{name}");
            for (step, ([loss, norm], [gpu_loss, gpu_norm])) in (1..).zip(expected.iter().zip(found)) {
                assert!((loss - gpu_loss).abs() < 1e-3, "{name}, step {step}: loss {gpu_loss} instead of {loss}");
                assert!((norm - gpu_norm).abs() < 1e-2, "{name}, step {step}: norm {gpu_norm} instead of {norm}");
            }
        }
    }

    type Kernel<'a> = &'a dyn Fn(&[Tensor<2>], &Device) -> Tensor<2>;

    /// What a kernel makes of noise, and the gradients of its inputs.
    fn results(shapes: &[[usize; 2]], kernel: Kernel, device: &Device) -> Vec<Vec<f32>> {
        let device = device.clone().autodiff();
        let upload = |seed, shape: [usize; 2]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(noise(seed, shape[0] * shape[1]), shape), &device)
        };
        let inputs: Vec<_> = (1..).zip(shapes).map(|(seed, &shape)| upload(seed, shape).require_grad()).collect();
        let out = kernel(&inputs, &device);
        let gradients = (out.clone() * upload(77, out.dims())).sum().backward();
        let slopes = inputs.iter().map(|input| values(input.grad(&gradients).expect("tracked")));
        std::iter::once(values(out.inner())).chain(slopes).collect()
    }

    #[test]
    fn every_kernel_has_the_gradients_of_the_cpu() {
        let Some(gpu) = gpu() else { return };
        let flat = |x: &Tensor<2>| x.clone().flatten::<1>(0, 1);
        let (from, to) = intervals(&[vec![3, 3, 3], vec![1, 2, 3, 4, 5]], 2);
        let dropout = Dropout { p: 0.25, keys: (0..10).map(|i| i * i + 3).collect(), site: 11 };
        let targets: Arc<[u32]> = [0, 22, 7, 7, 3].into();
        let weights: Arc<[f32]> = [1.0, 0.5, 0.0, 2.0, 0.25].into();
        let kernels: &[(&str, &[[usize; 2]], Kernel)] = &[
            ("layer norm", &[[6, 16], [1, 16], [1, 16]], &|x, _| {
                kernels::layer_norm(x[0].clone(), flat(&x[1]), flat(&x[2]), 1e-5)
            }),
            ("gelu", &[[6, 16]], &|x, _| kernels::gelu(x[0].clone(), Gelu::Erf)),
            ("bias gelu", &[[6, 16], [1, 16]], &|x, _| kernels::bias_gelu(x[0].clone(), flat(&x[1]), Gelu::Tanh)),
            ("linear", &[[6, 16], [12, 16], [1, 12]], &|x, _| {
                kernels::linear(x[0].clone(), x[1].clone(), Some(flat(&x[2])))
            }),
            ("product", &[[6, 7], [7, 5]], &|x, _| kernels::product(x[0].clone(), x[1].clone())),
            ("embedding", &[[7, 16]], &|x, device| {
                kernels::embedding(x[0].clone(), &Ids::new(vec![3, 0, 3, 6, 3, 1], device))
            }),
            ("dropout add", &[[6, 16], [6, 16], [1, 16]], &|x, _| {
                kernels::dropout_add(x[0].clone(), Some(flat(&x[2])), x[1].clone(), Some(&dropout))
            }),
            ("attention", &[[10, 24]], &|x, device| {
                let visible = Visible::new(&from, &to, 1, 10, device).expect("intervals");
                kernels::attention(x[0].clone(), &visible, 2, Some(&dropout))
            }),
            ("grouped attention", &[[10, 24], [10, 12], [10, 12], [3, 12], [3, 12]], &|x, device| {
                let visible = Visible::new(&from, &to, 1, 10, device).expect("intervals");
                let pair = |i: usize| KeyValue { key: x[i].clone(), value: x[i + 1].clone() };
                kernels::grouped_attention(x[0].clone(), pair(1), Some(pair(3)), &visible, 4, 2, Some(&dropout))
            }),
            ("rotary", &[[10, 24]], &|x, _| {
                let positions: Vec<u32> = (0..10).collect();
                let turn = Rotation { base: 1e4, pairs: 2, layout: Pairs::Interleaved, offset: 0, half: false };
                let turned = kernels::rotary(x[0].clone(), 3, &turn.at(&positions));
                kernels::rotary(turned, 3, &Rotation { layout: Pairs::Halves, offset: 4, ..turn }.at(&positions))
            }),
            ("rms norm", &[[6, 16], [1, 16]], &|x, _| kernels::rms_norm(x[0].clone(), flat(&x[1]), 1e-5)),
            ("swiglu", &[[6, 32]], &|x, _| kernels::swiglu(x[0].clone())),
            ("softmax of linear", &[[6, 16], [2, 16], [1, 2]], &|x, _| {
                activation::log_softmax(kernels::linear(x[0].clone(), x[1].clone(), Some(flat(&x[2]))), 1)
            }),
            ("cross-entropy", &[[5, 16], [23, 16], [1, 23]], &|x, _| {
                let (targets, weights) = (targets.clone(), weights.clone());
                let bias = Some(flat(&x[2]));
                kernels::linear_cross_entropy(x[0].clone(), x[1].clone(), bias, targets, weights, 0.1).reshape([1, 1])
            }),
        ];
        for (name, shapes, kernel) in kernels {
            let found = results(shapes, kernel, &gpu);
            let expected = results(shapes, kernel, &Device::flex());
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_near(&format!("{name}, part {part}"), found, expected, 1e-5);
            }
        }
    }
}
