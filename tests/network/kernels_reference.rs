//! The fused kernels against naive loops in f64, and their gradients against finite differences of those.

use crate::common::tensors;
mod grouped_attention;
mod rotary;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use pipe::network::kernels::{self, AttentionSpans, Dropout};
use tensors::{assert_near, intervals, noise, values};

/// A matrix as a test gives it: numbers and columns.
#[derive(Clone)]
struct Input(Vec<f64>, usize);

fn input(seed: u64, rows: usize, columns: usize, scale: f64) -> Input {
    Input(noise(seed, rows * columns).into_iter().map(|x| f64::from(x) * scale).collect(), columns)
}

/// Checks the result and the gradients with respect to all inputs.
#[track_caller]
fn assert_right(
    what: &str,
    inputs: &[Input],
    kernel: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let device = Device::flex().autodiff();
    let upload = |Input(x, columns): &Input| {
        let data: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        Tensor::<2>::from_data(TensorData::new(data, [x.len() / columns, *columns]), &device).require_grad()
    };
    let tensors: Vec<Tensor<2>> = inputs.iter().map(upload).collect();
    let out = kernel(&tensors);
    let shape = out.dims();
    let weights = noise(77, shape.iter().product());
    let data = TensorData::new(weights.clone(), shape);
    let gradients = (out.clone() * Tensor::from_data(data, &device)).sum().backward();

    let mut x: Vec<Vec<f64>> = inputs.iter().map(|input| input.0.clone()).collect();
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
    assert_near(what, &values(out.inner()), &narrow(reference(&x)), 3e-6);
    let total = |x: &[Vec<f64>]| -> f64 { reference(x).iter().zip(&weights).map(|(y, w)| y * f64::from(*w)).sum() };
    for (i, tensor) in tensors.iter().enumerate() {
        let derivatives = (0..x[i].len()).map(|j| {
            let (here, step) = (x[i][j], 1e-5);
            let mut at = |value| {
                x[i][j] = value;
                total(&x)
            };
            let derivative = (at(here + step) - at(here - step)) / (2.0 * step);
            x[i][j] = here;
            derivative
        });
        let expected = narrow(derivatives.collect());
        assert_near(
            &format!("{what}: gradient {i}"),
            &values(tensor.grad(&gradients).expect("tracked")),
            &expected,
            1e-5,
        );
    }
}

/// The hash that decides what is dropped, and what the rest is multiplied by.
fn kept(dropout: &Dropout, token: usize, lane: u32, element: usize) -> f64 {
    let mix = |x: u32| {
        let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^ x >> 16
    };
    let stream = mix(dropout.keys[token] ^ mix(dropout.site.wrapping_mul(0x9e37_79b9) ^ lane.rotate_left(16)));
    let hash = mix(stream.wrapping_add((element as u32).wrapping_mul(0x9e37_79b9)));
    let p = f64::from(dropout.p);
    if f64::from(hash) < p * 2f64.powi(32) { 0.0 } else { 1.0 / (1.0 - p) }
}

fn dropout(tokens: usize) -> Dropout {
    Dropout { p: 0.25, keys: (0..tokens as u32).map(|i| i * i + 3).collect(), site: 11 }
}

#[test]
fn attention_is_softmax_of_scaled_products_over_the_visible_keys() {
    let (from, to) = intervals(&[vec![3, 3, 3], vec![1, 2, 3, 4, 5], vec![1]], 2);
    let (tokens, heads, size) = (from.len(), 2, 3);
    let hidden = heads * size;
    let spans = AttentionSpans::new(&from, &to, 1, tokens, &Device::flex()).expect("intervals");
    for drop in [None, Some(dropout(tokens))] {
        let reference = |x: &[Vec<f64>]| {
            let part =
                |i: usize, token: usize, head: usize| &x[0][token * 3 * hidden + i * hidden + head * size..][..size];
            let mut out = vec![0.0; tokens * hidden];
            for (query, head) in (0..tokens).flat_map(|q| (0..heads).map(move |h| (q, h))) {
                let keys = from[query] as usize..to[query] as usize;
                let score = |k: usize| -> f64 {
                    let product: f64 = part(0, query, head).iter().zip(part(1, k, head)).map(|(q, k)| q * k).sum();
                    (product / (size as f64).sqrt()).exp()
                };
                let total: f64 = keys.clone().map(score).sum();
                for (i, key) in keys.enumerate() {
                    let p = score(key) / total * drop.as_ref().map_or(1.0, |d| kept(d, query, head as u32, i));
                    for (j, v) in part(2, key, head).iter().enumerate() {
                        out[query * hidden + head * size + j] += p * v;
                    }
                }
            }
            out
        };
        let inputs = [input(1, tokens, 3 * hidden, 1.5)];
        assert_right(
            "attention",
            &inputs,
            |x| kernels::attention(x[0].clone(), &spans, heads, drop.as_ref()),
            reference,
        );
    }
}

#[test]
fn padding_has_no_output_and_no_gradient() {
    let (from, to) = intervals(&[vec![2, 2]], 3);
    let device = Device::flex().autodiff();
    let spans = AttentionSpans::new(&from, &to, 1, 5, &device).expect("intervals");
    let x = tensors::random::<2>(3, [5, 12], f32::MAX, &Device::flex()).narrow(0, 2, 3);
    let x = Tensor::cat(vec![Tensor::ones([2, 12], &Device::flex()), x], 0).autodiff().require_grad();
    let out = kernels::attention(x.clone(), &spans, 2, None);
    let gradients = out.clone().sum().backward();
    assert_eq!(values(out.inner()), [vec![1.0; 8], vec![0.0; 12]].concat());
    assert_eq!(values(x.grad(&gradients).expect("tracked"))[24..], [0.0; 36]);
}

#[test]
fn layer_norm_is_standard_score_scaled_and_shifted() {
    let (tokens, width, eps) = (3, 19, 1e-3);
    let reference = |x: &[Vec<f64>]| {
        let rows = x[0].chunks_exact(width).flat_map(|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = row.iter().zip(&x[1]).zip(&x[2]);
            scaled.map(move |((v, g), b)| (v - mean) / (variance + eps).sqrt() * g + b).collect::<Vec<_>>()
        });
        rows.collect()
    };
    assert_right(
        "layer norm",
        &[input(1, tokens, width, 2.0), input(2, 1, width, 1.0), input(3, 1, width, 1.0)],
        |x| kernels::layer_norm(x[0].clone(), x[1].clone().flatten(0, 1), x[2].clone().flatten(0, 1), eps as f32),
        reference,
    );
}

#[test]
fn rms_norm_is_the_row_over_its_root_mean_square() {
    let (tokens, width, eps) = (3, 19, 1e-3);
    let reference = |x: &[Vec<f64>]| {
        let rows = x[0].chunks_exact(width).flat_map(|row| {
            let scale = (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + eps).sqrt();
            row.iter().zip(&x[1]).map(move |(v, g)| v / scale * g)
        });
        rows.collect()
    };
    assert_right(
        "rms norm",
        &[input(1, tokens, width, 2.0), input(2, 1, width, 1.0)],
        |x| kernels::rms_norm(x[0].clone(), x[1].clone().flatten(0, 1), eps as f32),
        reference,
    );
}

#[test]
fn swiglu_is_the_second_half_gated_by_the_first() {
    let (tokens, width) = (4, 21);
    let reference = |x: &[Vec<f64>]| {
        let rows = x[0].chunks_exact(2 * width).flat_map(|row| {
            let (gate, rest) = row.split_at(width);
            gate.iter().zip(rest).map(|(g, x)| g / (1.0 + (-g).exp()) * x)
        });
        rows.collect()
    };
    assert_right("swiglu", &[input(1, tokens, 2 * width, 3.0)], |x| kernels::swiglu(x[0].clone()), reference);
}

#[test]
fn dropout_add_is_residual_plus_what_the_hash_keeps() {
    let (tokens, width) = (4, 21);
    let drop = dropout(tokens);
    let reference = |x: &[Vec<f64>]| {
        let at = |i: usize| x[1][i] + kept(&drop, i / width, 0, i % width) * (x[0][i] + x[2][i % width]);
        (0..tokens * width).map(at).collect()
    };
    assert_right(
        "dropout add",
        &[input(1, tokens, width, 1.0), input(2, tokens, width, 1.0), input(3, 1, width, 1.0)],
        |x| kernels::dropout_add(x[0].clone(), Some(x[2].clone().flatten(0, 1)), x[1].clone(), Some(&drop)),
        reference,
    );
}

#[test]
fn linear_cross_entropy_is_the_weighted_sum_of_smoothed_losses() {
    let (rows, width, classes) = (5, 4, 23);
    let targets: Arc<[u32]> = [0, 22, 7, 7, 3].into();
    let weights: Arc<[f32]> = [1.0, 0.5, 0.0, 2.0, 0.25].into();
    for smoothing in [0.0f32, 0.125] {
        let reference = |x: &[Vec<f64>]| {
            let loss = |i: usize| {
                let hidden = &x[0][i * width..][..width];
                let logit = |c: usize| x[2][c] + hidden.iter().zip(&x[1][c * width..]).map(|(h, w)| h * w).sum::<f64>();
                let log_total = (0..classes).map(|c| logit(c).exp()).sum::<f64>().ln();
                let even = f64::from(smoothing) / classes as f64;
                let share =
                    |c: usize| even + f64::from(u8::from(c == targets[i] as usize)) * (1.0 - f64::from(smoothing));
                f64::from(weights[i]) * (0..classes).map(|c| share(c) * (log_total - logit(c))).sum::<f64>()
            };
            vec![(0..rows).map(loss).sum()]
        };
        assert_right(
            "cross-entropy",
            &[input(1, rows, width, 1.0), input(2, classes, width, 1.0), input(3, 1, classes, 1.0)],
            |x| {
                let bias = Some(x[2].clone().flatten(0, 1));
                let (targets, weights) = (targets.clone(), weights.clone());
                kernels::linear_cross_entropy(x[0].clone(), x[1].clone(), bias, targets, weights, smoothing)
                    .reshape([1, 1])
            },
            reference,
        );
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_the_rest_still_does() {
    let device = Device::flex();
    let [x, w] = [1, 2].map(|seed| tensors::random::<2>(seed, [6, 6], 1.0, &device));
    let (tracked, frozen) = (x.clone().autodiff().require_grad(), w.clone().autodiff());
    let gradients = kernels::linear(tracked.clone(), frozen.clone(), None).sum().backward();
    assert!(frozen.grad(&gradients).is_none());
    let ones = Tensor::<2>::ones([6, 6], &device);
    assert_near("x", &values(tracked.grad(&gradients).expect("tracked")), &values(ones.matmul(w)), 1e-6);
}
