//! How long each kernel takes beside its composition: `cargo test --release --test network kernels_speed -- --ignored --nocapture`.

use crate::common::tensors;
use std::{sync::Arc, time::Instant};

use burn::tensor::{Device, Tensor};
use pipe::network::kernels::{
    self, AdamWStep, AttentionSpans, Dropout, Gelu, KeyValue, RotaryPairs, Rotation, RowIds, reference,
};
use tensors::{intervals, random};

type Inputs = Vec<Tensor<2>>;
type Operation<'a> = Box<dyn Fn(&Inputs) -> Tensor<2> + 'a>;

/// Least microseconds of a forward and of a backward pass, without what every operation costs.
fn time(inputs: &Inputs, f: &dyn Fn(&Inputs) -> Tensor<2>) -> [u128; 2] {
    let mut times = [vec![], vec![]];
    let start = Instant::now();
    while times[0].len() < 5 || (start.elapsed().as_millis() < 300 && times[0].len() < 100) {
        let tracked: Inputs = inputs.iter().map(|x| x.clone().autodiff().require_grad()).collect();
        let start = Instant::now();
        let out = f(&tracked);
        times[0].push(start.elapsed().as_micros());
        let start = Instant::now();
        drop(out.sum().backward());
        times[1].push(start.elapsed().as_micros());
    }
    times.map(|times| times.into_iter().min().unwrap_or_default())
}

#[test]
#[ignore = "takes a minute"]
fn table() {
    let device = Device::flex();
    eprintln!("{:>4} {:24} {:>15} {:>17} {:>6}", "H", "operation", "fused fwd+bwd", "reference fwd+bwd", "ratio");
    for (h, heads) in [(128, 2), (256, 4)] {
        let (t, v, n, width) = (2048, 8000, 300, 128);
        let vector = |n: usize, seed| random::<1>(seed, [n], 1.0, &device).autodiff();
        let (gamma, beta, wide) = (vector(h, 1), vector(h, 2), vector(4 * h, 3));
        let drop = Dropout { p: 0.1, keys: (0..t as u32).collect(), site: 1 };
        let ids: Vec<u32> = (0..t as u32).map(|i| i * i % v as u32).collect();
        let ids = RowIds::new(ids, &device);
        let (from, to) = intervals(&vec![vec![width; width]; t / width], 0);
        let ragged = AttentionSpans::new(&from, &to, 1, t, &device).expect("intervals");
        let rows = AttentionSpans::new(&from, &to, t / width, width, &device).expect("intervals");
        let targets: Arc<[u32]> = (0..n as u32).collect();
        let weights: Arc<[f32]> = vec![1.0; n].into();
        let (pairs, positions) = (h / heads / 4, (0..t as u32).map(|i| i % width as u32).collect::<Vec<_>>());
        let angles =
            Rotation { base: 1e4, pairs, layout: RotaryPairs::Interleaved, offset: 0, half: false }.at(&positions);
        let pair = |m: &Inputs| KeyValue { key: m[1].clone(), value: m[2].clone() };
        let (drop, ids, ragged, rows, angles) = (&drop, &ids, &ragged, &rows, &angles);
        let (gamma, beta, wide, targets, weights) = (&gamma, &beta, &wide, &targets, &weights);
        let x = |rows: usize, columns: usize| random::<2>(9, [rows, columns], 1.0, &device);
        let operations: Vec<(&str, Inputs, Operation, Operation)> = vec![
            (
                "attention",
                vec![x(t, 3 * h)],
                Box::new(move |m| kernels::attention(m[0].clone(), ragged, heads, None)),
                Box::new(move |m| reference::attention(m[0].clone(), rows, heads, None)),
            ),
            (
                "attention, dropout",
                vec![x(t, 3 * h)],
                Box::new(move |m| kernels::attention(m[0].clone(), ragged, heads, Some(drop))),
                Box::new(move |m| reference::attention(m[0].clone(), rows, heads, Some(drop))),
            ),
            (
                "two kv heads",
                vec![x(t, h), x(t, h / heads * 2), x(t, h / heads * 2)],
                Box::new(move |m| kernels::grouped_attention(m[0].clone(), pair(m), None, ragged, heads, 2, None)),
                Box::new(move |m| reference::grouped_attention(m[0].clone(), pair(m), None, rows, heads, 2, None)),
            ),
            (
                "rotary",
                vec![x(t, h)],
                Box::new(move |m| kernels::rotary(m[0].clone(), heads, angles)),
                Box::new(move |m| reference::rotary(m[0].clone(), heads, angles)),
            ),
            (
                "rms_norm",
                vec![x(t, h)],
                Box::new(move |m| kernels::rms_norm(m[0].clone(), gamma.clone(), 1e-5)),
                Box::new(move |m| reference::rms_norm(m[0].clone(), gamma.clone(), 1e-5)),
            ),
            (
                "swiglu",
                vec![x(t, 8 * h)],
                Box::new(move |m| kernels::swiglu(m[0].clone())),
                Box::new(move |m| reference::swiglu(m[0].clone())),
            ),
            (
                "layer_norm",
                vec![x(t, h)],
                Box::new(move |m| kernels::layer_norm(m[0].clone(), gamma.clone(), beta.clone(), 1e-5)),
                Box::new(move |m| reference::layer_norm(m[0].clone(), gamma.clone(), beta.clone(), 1e-5)),
            ),
            (
                "bias_gelu erf",
                vec![x(t, 4 * h)],
                Box::new(move |m| kernels::bias_gelu(m[0].clone(), wide.clone(), Gelu::Erf)),
                Box::new(move |m| reference::bias_gelu(m[0].clone(), wide.clone(), Gelu::Erf)),
            ),
            (
                "bias_gelu tanh",
                vec![x(t, 4 * h)],
                Box::new(move |m| kernels::bias_gelu(m[0].clone(), wide.clone(), Gelu::Tanh)),
                Box::new(move |m| reference::bias_gelu(m[0].clone(), wide.clone(), Gelu::Tanh)),
            ),
            (
                "dropout_add",
                vec![x(t, h), x(t, h)],
                Box::new(move |m| kernels::dropout_add(m[0].clone(), Some(beta.clone()), m[1].clone(), Some(drop))),
                Box::new(move |m| reference::dropout_add(m[0].clone(), Some(beta.clone()), m[1].clone(), Some(drop))),
            ),
            (
                "linear H to 4H",
                vec![x(t, h), x(4 * h, h)],
                Box::new(move |m| kernels::linear(m[0].clone(), m[1].clone(), Some(wide.clone()))),
                Box::new(move |m| reference::linear(m[0].clone(), m[1].clone(), Some(wide.clone()))),
            ),
            (
                "linear 4H to H",
                vec![x(t, 4 * h), x(h, 4 * h)],
                Box::new(move |m| kernels::linear(m[0].clone(), m[1].clone(), Some(beta.clone()))),
                Box::new(move |m| reference::linear(m[0].clone(), m[1].clone(), Some(beta.clone()))),
            ),
            (
                "embedding",
                vec![x(v, h)],
                Box::new(move |m| kernels::embedding(m[0].clone(), ids)),
                Box::new(move |m| reference::embedding(m[0].clone(), ids)),
            ),
            (
                "linear_cross_entropy",
                vec![x(n, h), x(v, h)],
                Box::new(move |m| {
                    let (targets, weights) = (targets.clone(), weights.clone());
                    kernels::linear_cross_entropy(m[0].clone(), m[1].clone(), None, targets, weights, 0.1)
                        .reshape([1, 1])
                }),
                Box::new(move |m| {
                    let (targets, weights) = (targets.clone(), weights.clone());
                    reference::linear_cross_entropy(m[0].clone(), m[1].clone(), None, targets, weights, 0.1)
                        .reshape([1, 1])
                }),
            ),
        ];
        for (name, inputs, fused, reference) in operations {
            let ([f, b], [cf, cb]) = (time(&inputs, &fused), time(&inputs, &reference));
            let ratio = (cf + cb) as f64 / (f + b) as f64;
            eprintln!("{h:>4} {name:24} {f:>7}+{b:<7} {cf:>8}+{cb:<8} {ratio:>6.1}");
        }
    }
    let n = 4_000_000;
    let [mut p, g, mut m, mut s] = [1.0f32, 0.1, 0.0, 0.0].map(|x| vec![x; n]);
    let adam = AdamWStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 1 };
    for _ in 0..3 {
        let start = Instant::now();
        adam.update(&mut p, &g, &mut m, &mut s, 1.0);
        let update = start.elapsed().as_micros();
        let start = Instant::now();
        let norm = kernels::global_norm(&[&g]);
        eprintln!("AdamW on {n}: {update}; norm {norm:.3}: {}", start.elapsed().as_micros());
    }
}
