//! Weights in fewer bits: what they lose, and that the fused kernel computes with exactly what `expand` gives.

use crate::common::tensors;
use burn::tensor::{Device, Tensor, TensorData};
use pipe::network::kernels::{ActivationForm, Compact, CompactForm, RowIds, Weight, embedding, linear, reference};
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

const FORMS: [CompactForm; 4] = [CompactForm::Bf16, CompactForm::F16, CompactForm::Int8, CompactForm::Int4];

fn compact() -> [Compact; 4] {
    let (numbers, shape) = weight();
    FORMS.map(|form| Compact::new(form, &numbers, shape, &Device::flex()))
}

#[test]
fn bf16_keeps_eight_bits_of_each_number_and_int8_of_each_row() {
    let (numbers, _) = weight();
    let [bf16, f16, int8, int4] = compact();
    let bytes = [40 * 24 * 2, 40 * 24 * 2, 40 * (24 + 4), 40 * (16 + 2)];
    assert_eq!([&bf16, &f16, &int8, &int4].map(Compact::bytes), bytes);
    assert_eq!(FORMS.map(|form| form.bytes([40, 24]) as usize), bytes);
    for (kept, number) in values(bf16.expand()).iter().zip(&numbers) {
        assert!((kept - number).abs() <= number.abs() / 256.0, "{kept} for {number}");
    }
    for (kept, number) in values(f16.expand()).iter().zip(&numbers) {
        assert!((kept - number).abs() <= number.abs() / 2048.0 + 3e-8, "{kept} for {number}");
    }
    // A step is an eighth of the largest, and what is as large but of the other sign is a step off.
    for (kept, numbers) in values(int4.expand()).chunks(24).zip(numbers.chunks(24)) {
        let most = numbers.iter().fold(0.0_f32, |most, number| if number.abs() > most.abs() { *number } else { most });
        for (kept, number) in kept.iter().zip(numbers) {
            let step = most.abs() / 8.0 * (1.0 + 1.0 / 1024.0) + 6e-8;
            let far = number * most < 0.0 && number.abs() > 7.4 * step;
            assert!((kept - number).abs() <= if far { step } else { 0.502 * step }, "{kept} for {number} of {most}");
        }
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
    for (form, once) in FORMS.into_iter().zip(compact()) {
        let once = values(once.expand());
        let again = values(Compact::new(form, &once, [40, 24], &Device::flex()).expand());
        for (again, once) in again.iter().zip(&once) {
            let rounding = if form == CompactForm::Int8 { 1e-6 * once.abs() } else { 0.0 };
            assert!((again - once).abs() <= rounding, "{form:?}: {again} for {once}");
        }
    }
}

#[test]
fn products_of_any_number_of_rows_are_those_with_the_expanded_matrix() {
    let device = Device::flex();
    for form in FORMS {
        // With four bits, few rows are rounded to 16 bits where processors multiply such.
        let near = if form == CompactForm::Int4 { 1e-4 } else { 1e-5 };
        for columns in [1, 16, 24, 32, 64, 100, 160, 1056] {
            let matrix = Compact::new(form, &values(random(7, [71, columns], 1.0, &device)), [71, columns], &device);
            for tokens in [1, 2, 3, 4, 5, 8, 9, 20, 22, 23] {
                let x = random::<2>(tokens as u64, [tokens, columns], 1.0, &device);
                let found = values(linear(x.clone(), Weight::Compact(matrix.clone()), None));
                let expected = values(reference::linear(x, matrix.expand(), None));
                tensors::assert_near(&format!("{form:?}, {tokens} x {columns}"), &found, &expected, near);
            }
        }
    }
}

/// Rows as integers of eight bits times a step for each 32 columns have them.
fn rounded(rows: &[f32], columns: usize) -> Vec<f32> {
    let groups = rows.chunks(columns).flat_map(|row| row.chunks(32));
    let numbers = groups.flat_map(|group| {
        let step = group.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / 127.0;
        group.iter().map(move |number| if step > 0.0 { (number / step).round_ties_even() * step } else { 0.0 })
    });
    numbers.collect()
}

#[test]
fn with_activations_of_eight_bits_products_of_four_bits_are_those_of_rounded_rows() {
    let device = Device::flex();
    for columns in [1, 24, 32, 100, 256, 288, 1056, 2048] {
        let matrix = values(random(7, [71, columns], 1.0, &device));
        let of = |form| Compact::new(form, &matrix, [71, columns], &device).with_activations(ActivationForm::Int8);
        let (int4, int8) = (of(CompactForm::Int4), of(CompactForm::Int8));
        assert_eq!([&int4, &int8].map(Compact::activations), [ActivationForm::Int8, ActivationForm::F32]);
        for tokens in [1, 2, 3, 4, 5, 8, 9, 20] {
            let mut x = values(random::<2>(tokens as u64, [tokens, columns], 1.0, &device));
            // A group of nothing, and one that is much larger than others.
            x[..columns.min(32)].fill(0.0);
            x.iter_mut().rev().take(columns.min(30)).for_each(|x| *x *= 1000.0);
            let tensor = |x: Vec<f32>| Tensor::<2>::from_data(TensorData::new(x, [tokens, columns]), &device);
            let found = values(linear(tensor(x.clone()), Weight::Compact(int4.clone()), None));
            let expected = values(reference::linear(tensor(rounded(&x, columns)), int4.expand(), None));
            tensors::assert_near(&format!("{tokens} x {columns}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so_with_activations_of_eight_bits() {
    let device = Device::flex();
    let matrix =
        Compact::new(CompactForm::Int4, &[0.5; 7 * 64], [7, 64], &device).with_activations(ActivationForm::Int8);
    for tokens in [1, 9] {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1.0; tokens * 64];
            x[40] = wrong;
            let x = Tensor::<2>::from_data(TensorData::new(x, [tokens, 64]), &device);
            let found = values(linear(x, Weight::Compact(matrix.clone()), None));
            assert!(found[..7].iter().all(|y| y.is_nan()), "{found:?}");
            assert!(found[7..].iter().all(|y| y.is_finite()), "{found:?}");
        }
    }
}

#[test]
fn rows_of_a_compact_table_are_those_of_the_expanded_one() {
    for table in compact() {
        let ids = RowIds::new(vec![3, 39, 0, 3, 17], &Device::flex());
        let found = values(embedding(Weight::Compact(table.clone()), &ids));
        assert_eq!(found, values(embedding(table.expand(), &ids)), "{:?}", table.form());
        assert_eq!(found, values(reference::embedding(Weight::Compact(table.clone()), &ids)), "{:?}", table.form());
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
        let fused = gradients(|x, weight, bias| linear(x, Weight::Compact(weight.clone()), Some(bias)));
        let full = gradients(|x, weight, bias| linear(x, weight.expand().autodiff(), Some(bias)));
        assert_eq!(fused, full);
        let plain = gradients(|x, weight, bias| reference::linear(x, Weight::Compact(weight.clone()), Some(bias)));
        for (fused, plain) in fused.iter().zip(&plain) {
            tensors::assert_near("linear", fused, plain, 1e-5);
        }
    }
}

#[test]
fn gradients_through_a_large_compact_weight_are_those_of_the_expanded_one() {
    let (device, [rows, columns]) = (Device::flex(), [211, 1056]);
    for form in FORMS {
        let weight = Compact::new(form, &values(random(7, [rows, columns], 1.0, &device)), [rows, columns], &device);
        let gradient = |form: fn(Tensor<2>, &Compact) -> Tensor<2>| {
            let x = random::<2>(1, [17, columns], 1.0, &device).autodiff().require_grad();
            let y = form(x.clone(), &weight);
            let found = (y * random::<2>(3, [17, rows], 1.0, &device).autodiff()).sum().backward();
            values(x.grad(&found).unwrap())
        };
        let fused = gradient(|x, weight| linear(x, Weight::Compact(weight.clone()), None));
        let full = gradient(|x, weight| linear(x, weight.expand().autodiff(), None));
        tensors::assert_near(&format!("{form:?}"), &fused, &full, 1e-5);
    }
}
