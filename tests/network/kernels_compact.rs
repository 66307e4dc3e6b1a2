//! Weights in fewer bits: what they lose, and that the fused kernel computes with exactly what `expand` gives.

use crate::common::tensors;
use burn::tensor::{Device, Tensor};
use pipe::network::kernels::{Compact, linear, reference};
use tensors::{random, values};

/// Rows of very different sizes, with zeros in one.
fn weight() -> (Vec<f32>, [usize; 2]) {
    let mut numbers = values(random(5, [40, 24], 1.0, &Device::flex()));
    numbers.chunks_exact_mut(24).enumerate().for_each(|(row, numbers)| {
        let size = if row == 3 { 0.0 } else { 10f32.powi(row as i32 % 7 - 3) };
        numbers.iter_mut().for_each(|number| *number *= size);
    });
    (numbers, [40, 24])
}

fn compact() -> [Compact; 2] {
    let (numbers, shape) = weight();
    let device = Device::flex();
    [Compact::bf16(&numbers, shape, &device), Compact::int8(&numbers, shape, &device)]
}

#[test]
fn bf16_keeps_eight_bits_of_each_number_and_int8_of_each_row() {
    let (numbers, _) = weight();
    let [bf16, int8] = compact();
    assert_eq!([bf16.bytes(), int8.bytes()], [40 * 24 * 2, 40 * (24 + 4)]);
    for (kept, number) in values(bf16.expand()).iter().zip(&numbers) {
        assert!((kept - number).abs() <= number.abs() / 256.0, "{kept} for {number}");
    }
    for (kept, numbers) in values(int8.expand()).chunks(24).zip(numbers.chunks(24)) {
        let most = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
        for (kept, number) in kept.iter().zip(numbers) {
            assert!((kept - number).abs() <= most / 253.0, "{kept} for {number}");
        }
    }
}

#[test]
fn what_is_compact_already_loses_nothing_more() {
    let device = Device::flex();
    let [bf16, int8] = compact();
    let again = Compact::bf16(&values(bf16.expand()), [40, 24], &device);
    assert_eq!(values(again.expand()), values(bf16.expand()));
    let again = Compact::int8(&values(int8.expand()), [40, 24], &device);
    for (again, once) in values(again.expand()).iter().zip(values(int8.expand())) {
        assert!((again - once).abs() <= 1e-6 * once.abs(), "{again} for {once}");
    }
}

#[test]
fn a_linear_layer_with_a_compact_weight_is_that_with_the_expanded_one() {
    let device = Device::flex();
    for weight in compact() {
        let gradients = |form: fn(Tensor<2>, &Compact, Tensor<1>) -> Tensor<2>| {
            let x = random::<2>(1, [17, 24], 1.0, &device).autodiff().require_grad();
            let bias = random::<1>(2, [40], 1.0, &device).autodiff().require_grad();
            let y = form(x.clone(), &weight, bias.clone());
            let found = (y.clone() * random::<2>(3, [17, 40], 1.0, &device).autodiff()).sum().backward();
            [values(y.inner()), values(x.grad(&found).unwrap()), values(bias.grad(&found).unwrap())]
        };
        let fused =
            gradients(|x, weight, bias| linear(x, pipe::network::kernels::Weight::Compact(weight.clone()), Some(bias)));
        let full = gradients(|x, weight, bias| linear(x, weight.expand().autodiff(), Some(bias)));
        assert_eq!(fused, full);
        let plain = gradients(|x, weight, bias| {
            reference::linear(x, pipe::network::kernels::Weight::Compact(weight.clone()), Some(bias))
        });
        for (fused, plain) in fused.iter().zip(&plain) {
            tensors::assert_near("linear", fused, plain, 1e-5);
        }
    }
}
