//! The fused kernels give what the reference does, at any number of threads.

use crate::common::tensors;
mod attention;
mod rotary;

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use pipe::network::kernels::{self, AttentionSpans, Dropout, Gelu, RowIds, reference};
use proptest::prelude::*;
use tensors::{assert_near, noise, random, values};

/// An operation's inputs: matrices, then vectors.
type Inputs = (Vec<Tensor<2>>, Vec<Tensor<1>>);

/// Result and gradients of an operation, for a random gradient of the result.
fn run(operation: &dyn Fn(&Inputs) -> Tensor<2>, inputs: &Inputs) -> Vec<Vec<f32>> {
    let tracked = (
        inputs.0.iter().map(|x| x.clone().autodiff().require_grad()).collect::<Vec<_>>(),
        inputs.1.iter().map(|x| x.clone().autodiff().require_grad()).collect::<Vec<_>>(),
    );
    let out = operation(&tracked);
    let weights = random(99, out.dims(), 1.0, &out.device());
    let gradients = (out.clone() * weights).sum().backward();
    let mut all = vec![values(out.inner())];
    all.extend(tracked.0.iter().map(|x| values(x.grad(&gradients).expect("a gradient"))));
    all.extend(tracked.1.iter().map(|x| values(x.grad(&gradients).expect("a gradient"))));
    all
}

fn in_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(f)
}

/// Checks results, gradients, and that neither autodiff nor threads change a bit of the fused ones.
#[track_caller]
fn assert_same(
    what: &str,
    inputs: &Inputs,
    fused: impl Fn(&Inputs) -> Tensor<2> + Sync,
    reference: impl Fn(&Inputs) -> Tensor<2>,
    tolerance: f32,
) {
    let found = run(&fused, inputs);
    for (i, (found, expected)) in found.iter().zip(run(&reference, inputs)).enumerate() {
        assert_near(&format!("{what}, {i}"), found, &expected, tolerance);
    }
    assert_eq!(values(fused(inputs)), found[0], "{what} without autodiff");
    for threads in [1, 2, 3] {
        assert!(in_threads(threads, || run(&fused, inputs)) == found, "{what} at {threads} threads");
    }
}

fn inputs(matrices: &[([usize; 2], f32)], vectors: &[usize]) -> Inputs {
    let device = Device::flex();
    let matrices = matrices.iter().zip(1..).map(|((shape, scale), seed)| random(seed, *shape, *scale, &device));
    let vectors = vectors.iter().zip(50..).map(|(n, seed)| random(seed, [*n], 1.0, &device));
    (matrices.collect(), vectors.collect())
}

fn dropout(tokens: usize, p: f32) -> Dropout {
    Dropout { p, keys: (0..tokens as u32).map(|i| i.wrapping_mul(0x0101_6b2d)).collect(), site: 7 }
}

const SHAPES: [[usize; 2]; 7] = [[1, 1], [1, 16], [3, 5], [33, 128], [32, 17], [65, 100], [130, 256]];

#[test]
fn layer_norm() {
    for [t, h] in SHAPES {
        let inputs = inputs(&[([t, h], 3.0)], &[h, h]);
        assert_same(
            &format!("layer norm {t} {h}"),
            &inputs,
            |(m, v)| kernels::layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-5),
            |(m, v)| reference::layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-5),
            if h == 1 { 1e-3 } else { 2e-5 },
        );
    }
}

#[test]
fn layer_norm_of_large_and_shifted_rows() {
    let mut inputs = inputs(&[([9, 64], 1e4)], &[64, 64]);
    inputs.0[0] = inputs.0[0].clone() + 1e4;
    assert_same(
        "layer norm",
        &inputs,
        |(m, v)| kernels::layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-12),
        |(m, v)| reference::layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-12),
        1e-4,
    );
}

#[test]
fn rms_norm() {
    for [t, h] in SHAPES {
        // Large rows too.
        for scale in [3.0, 1e4] {
            let inputs = inputs(&[([t, h], scale)], &[h]);
            assert_same(
                &format!("rms norm {t} {h}"),
                &inputs,
                |(m, v)| kernels::rms_norm(m[0].clone(), v[0].clone(), 1e-5),
                |(m, v)| reference::rms_norm(m[0].clone(), v[0].clone(), 1e-5),
                2e-5,
            );
        }
    }
}

#[test]
fn swiglu() {
    for [t, h] in SHAPES {
        for scale in [1.0, 30.0] {
            assert_same(
                &format!("swiglu {t} {h}"),
                &inputs(&[([t, 2 * h], scale)], &[]),
                |(m, _)| kernels::swiglu(m[0].clone()),
                |(m, _)| reference::swiglu(m[0].clone()),
                2e-6,
            );
        }
    }
}

#[test]
fn gelu() {
    for kind in [Gelu::Erf, Gelu::Tanh] {
        for [t, h] in SHAPES {
            for scale in [1.0, 30.0] {
                let inputs = inputs(&[([t, h], scale)], &[h]);
                let bare = (inputs.0.clone(), vec![]);
                assert_same(
                    "gelu",
                    &bare,
                    |(m, _)| kernels::gelu(m[0].clone(), kind),
                    |(m, _)| reference::gelu(m[0].clone(), kind),
                    2e-6,
                );
                assert_same(
                    "bias gelu",
                    &inputs,
                    |(m, v)| kernels::bias_gelu(m[0].clone(), v[0].clone(), kind),
                    |(m, v)| reference::bias_gelu(m[0].clone(), v[0].clone(), kind),
                    1e-5,
                );
            }
        }
    }
}

#[test]
fn dropout_and_residual() {
    for [t, h] in SHAPES {
        let inputs = inputs(&[([t, h], 1.0), ([t, h], 1.0)], &[h]);
        let bare = (inputs.0.clone(), vec![]);
        let single = (vec![inputs.0[0].clone()], vec![]);
        for drop in [None, Some(dropout(t, 0.3))] {
            let drop = drop.as_ref();
            assert_same(
                "dropout add with a bias",
                &inputs,
                |(m, v)| kernels::dropout_add(m[0].clone(), Some(v[0].clone()), m[1].clone(), drop),
                |(m, v)| reference::dropout_add(m[0].clone(), Some(v[0].clone()), m[1].clone(), drop),
                1e-5,
            );
            assert_same(
                "dropout add",
                &bare,
                |(m, _)| kernels::dropout_add(m[0].clone(), None, m[1].clone(), drop),
                |(m, _)| reference::dropout_add(m[0].clone(), None, m[1].clone(), drop),
                1e-6,
            );
        }
        let drop = dropout(t, 0.5);
        assert_same(
            "dropout",
            &single,
            |(m, _)| kernels::dropout(m[0].clone(), &drop),
            |(m, _)| reference::dropout(m[0].clone(), &drop),
            1e-6,
        );
    }
}

#[test]
fn linear() {
    for (t, i, o) in [(1, 1, 1), (1, 16, 8), (7, 5, 3), (64, 128, 384), (130, 33, 65), (2, 256, 1000)] {
        let inputs = inputs(&[([t, i], 1.0), ([o, i], 1.0)], &[o]);
        let bare = (inputs.0.clone(), vec![]);
        assert_same(
            "linear with a bias",
            &inputs,
            |(m, v)| kernels::linear(m[0].clone(), m[1].clone(), Some(v[0].clone())),
            |(m, v)| reference::linear(m[0].clone(), m[1].clone(), Some(v[0].clone())),
            1e-5,
        );
        assert_same(
            "linear",
            &bare,
            |(m, _)| kernels::linear(m[0].clone(), m[1].clone(), None),
            |(m, _)| reference::linear(m[0].clone(), m[1].clone(), None),
            1e-5,
        );
    }
}

#[test]
fn linear_on_a_transposed_view_of_the_weight() {
    let inputs = inputs(&[([9, 5], 1.0), ([5, 6], 1.0)], &[]);
    assert_same(
        "linear",
        &inputs,
        |(m, _)| kernels::linear(m[0].clone(), m[1].clone().transpose(), None),
        |(m, _)| reference::linear(m[0].clone(), m[1].clone().transpose(), None),
        1e-6,
    );
}

#[test]
fn embedding() {
    let device = Device::flex();
    for (ids, v, h) in
        [(vec![0], 1, 1), (vec![4, 0, 4, 4, 2], 5, 7), ((0..200).map(|i| i * i % 1031).collect(), 1031, 48)]
    {
        let second = RowIds::new(ids.iter().map(|i| i % 3).collect::<Vec<u32>>(), &device);
        let ids = RowIds::new(ids, &device);
        let inputs = inputs(&[([v, h], 1.0), ([3, h], 1.0)], &[]);
        let single = (vec![inputs.0[0].clone()], vec![]);
        assert_same(
            "embedding",
            &single,
            |(m, _)| kernels::embedding(m[0].clone(), &ids),
            |(m, _)| reference::embedding(m[0].clone(), &ids),
            1e-6,
        );
        assert_same(
            "sum of embeddings",
            &inputs,
            |(m, _)| kernels::embedding_sum((m[0].clone(), &ids), [(m[1].clone(), &second)]),
            |(m, _)| reference::embedding(m[0].clone(), &ids) + reference::embedding(m[1].clone(), &second),
            1e-5,
        );
    }
}

#[test]
fn linear_cross_entropy() {
    for (n, h, v, scale) in
        [(1, 1, 2, 1.0), (3, 8, 17, 1.0), (70, 16, 33_000, 1.0), (300, 24, 999, 1.0), (5, 9, 30, 300.0)]
    {
        let inputs = inputs(&[([n, h], scale), ([v, h], 1.0)], &[v]);
        let bare = (inputs.0.clone(), vec![]);
        let targets: Arc<[u32]> = (0..n as u32).map(|i| i * 7919 % v as u32).collect();
        let weights: Arc<[f32]> =
            noise(5, n).into_iter().enumerate().map(|(i, w)| if i == 2 { 0.0 } else { w.abs() }).collect();
        for smoothing in [0.0, 0.1] {
            let both = [
                kernels::linear_cross_entropy as fn(_, _, _, _, _, f32) -> Tensor<1>,
                reference::linear_cross_entropy as fn(_, _, _, _, _, f32) -> Tensor<1>,
            ];
            let call = |i: usize, (m, v): &Inputs| {
                let bias = v.first().cloned();
                both[i](m[0].clone(), m[1].clone(), bias, targets.clone(), weights.clone(), smoothing).reshape([1, 1])
            };
            assert_same("with a bias", &inputs, |x| call(0, x), |x| call(1, x), 2e-5);
            assert_same("without", &bare, |x| call(0, x), |x| call(1, x), 2e-5);
        }
    }
}

#[test]
fn cross_entropy_and_attention_in_16_bits_are_near_those_in_f32() {
    let targets: Arc<[u32]> = (0..40).map(|i| i * 7 % 33).collect();
    let weights: Arc<[f32]> = vec![0.025; 40].into();
    let (from, to) = tensors::intervals(&[vec![20; 20], (1..=18).collect()], 2);
    let spans = AttentionSpans::new(&from, &to, 1, 40, &Device::flex()).expect("intervals");
    let drop = dropout(40, 0.25);
    let losses = inputs(&[([40, 24], 1.0), ([33, 24], 1.0)], &[33]);
    let contexts = inputs(&[([40, 48], 1.0)], &[]);
    let near = |what: &str, inputs: &Inputs, fused: &dyn Fn(&Inputs) -> Tensor<2>, reference: &dyn Fn(&Inputs) -> _| {
        for (i, (found, expected)) in run(reference, inputs).iter().zip(run(fused, inputs)).enumerate() {
            assert_near(&format!("{what}, {i}"), found, &expected, 2e-2);
        }
    };
    for numbers in [DType::BF16, DType::F16] {
        near(
            "cross-entropy",
            &losses,
            &|(m, v)| {
                let (bias, of) = (Some(v[0].clone()), (targets.clone(), weights.clone()));
                kernels::linear_cross_entropy(m[0].clone(), m[1].clone(), bias, of.0, of.1, 0.1).reshape([1, 1])
            },
            &|(m, v)| {
                let ([hidden, weight], bias) = ([0, 1].map(|i| m[i].clone().cast(numbers)), Some(v[0].clone()));
                reference::linear_cross_entropy(hidden, weight, bias, targets.clone(), weights.clone(), 0.1)
                    .reshape([1, 1])
            },
        );
        near("attention", &contexts, &|(m, _)| kernels::attention(m[0].clone(), &spans, 2, Some(&drop)), &|(m, _)| {
            reference::attention(m[0].clone().cast(numbers), &spans, 2, Some(&drop)).cast(DType::F32)
        });
    }
}

#[test]
fn cross_entropy_of_no_rows_is_zero_and_so_is_its_gradient() {
    let inputs = inputs(&[([0, 8], 1.0), ([5, 8], 1.0)], &[]);
    let found = run(
        &|(m, _)| {
            let nothing = (Arc::from([]), Arc::from([]));
            kernels::linear_cross_entropy(m[0].clone(), m[1].clone(), None, nothing.0, nothing.1, 0.0).reshape([1, 1])
        },
        &inputs,
    );
    assert_eq!(found, [vec![0.0], vec![], vec![0.0; 40]]);
}

proptest! {
    #![proptest_config(crate::common::cases(48))]

    #[test]
    fn rows_of_random_shapes(tokens in 1usize..200, width in 2usize..300) {
        let inputs = inputs(&[([tokens, width], 2.0), ([tokens, width], 1.0)], &[width, width]);
        let drop = dropout(tokens, 0.1);
        assert_same(
            "normalized sum",
            &inputs,
            |(m, v)| {
                let sum = kernels::dropout_add(m[0].clone(), Some(v[0].clone()), m[1].clone(), Some(&drop));
                kernels::layer_norm(kernels::gelu(sum, Gelu::Tanh), v[1].clone(), v[0].clone(), 1e-2)
            },
            |(m, v)| {
                let sum = reference::dropout_add(m[0].clone(), Some(v[0].clone()), m[1].clone(), Some(&drop));
                reference::layer_norm(reference::gelu(sum, Gelu::Tanh), v[1].clone(), v[0].clone(), 1e-2)
            },
            5e-5,
        );
    }
}
