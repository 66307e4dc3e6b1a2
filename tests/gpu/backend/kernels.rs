//! Every kernel has the results and the gradients of the CPU.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use pipe::{
    network::kernels::{self, AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, RotaryPairs, Rotation, RowIds},
    spec,
};

use super::gpus;
use crate::common::{
    needs::Need,
    tensors::{assert_near, intervals, noise, values},
};

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
            let prefix = Some(PrefixKeys::Beside(pair(3)));
            kernels::grouped_attention(x[0].clone(), pair(1), prefix, &spans, 4, 2, Some(&dropout))
        }),
        ("attention of long texts", &[[300, 12]], &|x, device| {
            let (from, to) = intervals(&[(1..=130).collect(), vec![160; 160]], 10);
            let dropout = Dropout { p: 0.25, keys: (0..300).collect(), site: 5 };
            let spans = AttentionSpans::new(&from, &to, 1, 300, device).expect("intervals");
            kernels::attention(x[0].clone(), &spans, 2, Some(&dropout))
        }),
        ("rotary", &[[10, 24]], &|x, _| {
            let positions: Vec<u32> = (0..10).collect();
            let rotation = Rotation { base: 1e4, pairs: 2, layout: RotaryPairs::Interleaved, offset: 0, half: false };
            let rotated = kernels::rotary(x[0].clone(), 3, &rotation.at(&positions));
            kernels::rotary(rotated, 3, &Rotation { layout: RotaryPairs::Halves, offset: 4, ..rotation }.at(&positions))
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
            kernels::linear_cross_entropy_in_blocks(2, hidden, weight, bias, &targets, &weights, 0.1).reshape([1, 1])
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
