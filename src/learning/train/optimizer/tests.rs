use super::*;
use crate::{
    learning::train::optimizers::{AdamW, AdamWSettings},
    network::model::{Builder, Initial, Initializer, RowGradients},
};

fn adamw() -> Optimizer {
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
    Optimizer::new(Arc::new(AdamW::try_from(settings).unwrap()), 1.0)
}

const RATE: f64 = 0.05;

/// A vector `[3]` and a matrix `[2, 3]`, both of ones.
fn parameters() -> Parameters {
    let mut parameters = Parameters::new(&Device::flex());
    let mut source = Initializer { seed: 0 };
    let mut builder = Builder::new(&mut parameters, &mut source);
    builder.vector("bias".into(), 3, Initial::Ones);
    builder.matrix("weight".into(), [2, 3], Initial::Ones);
    parameters
}

/// Below the limit of the norm at the first step, above it from then on.
fn gradient(step: usize, index: usize) -> f64 {
    (0.05 + 0.3 * step as f64) * (index as f64 - 3.5)
}

fn gradients(step: usize) -> Gradients {
    let device = Device::flex();
    let values = |range: std::ops::Range<usize>| -> Vec<f32> { range.map(|i| gradient(step, i) as f32).collect() };
    let vector = Tensor::<1>::from_data(&values(0..3)[..], &device);
    let matrix = Tensor::<2>::from_data(TensorData::new(values(3..9), [2, 3]), &device);
    Gradients([AnyTensor::from(vector), matrix.into()].map(|gradient| Some(gradient.into())).into())
}

/// `torch.optim.AdamW` and `clip_grad_norm_`, written down element by element in f64.
fn reference(steps: usize) -> Vec<f64> {
    let mut values = vec![1.0; 9];
    let (mut mean, mut square) = ([0.0; 9], [0.0; 9]);
    for step in 0..steps {
        let norm = (0..9).map(|i| gradient(step, i).powi(2)).sum::<f64>().sqrt();
        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        for i in 0..9 {
            let g = gradient(step, i) * clip;
            mean[i] = 0.9 * mean[i] + 0.1 * g;
            square[i] = 0.99 * square[i] + 0.01 * g * g;
            let m = mean[i] / (1.0 - 0.9f64.powi(step as i32 + 1));
            let v = square[i] / (1.0 - 0.99f64.powi(step as i32 + 1));
            let decay = if i < 3 { 0.0 } else { 0.1 };
            values[i] = values[i] * (1.0 - RATE * decay) - RATE * m / (v.sqrt() + 1e-8);
        }
    }
    values
}

fn values(parameters: &Parameters) -> Vec<f32> {
    parameters.iter().flat_map(|parameter| parameter.data().unwrap().try_to_vec::<f32>().unwrap()).collect()
}

fn assert_near(found: &[f32], expected: &[f64]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}

#[test]
fn adamw_agrees_with_pytorch_on_the_host_and_on_devices() {
    let (mut on_host, mut on_device) = (parameters(), parameters());
    let (mut host, mut device) = (adamw(), adamw());
    for step in 0..5 {
        let norm = host.step(&mut on_host, gradients(step), RATE).unwrap().into_scalar::<f32>();
        let expected = (0..9).map(|i| gradient(step, i).powi(2)).sum::<f64>().sqrt();
        assert!((f64::from(norm) - expected).abs() < 1e-5, "{norm} instead of {expected}");

        let (again, clip) = device.clip_on_device(on_device.device(), &gradients(step));
        device.apply(&mut on_device, gradients(step), RATE, &clip).unwrap();
        assert!((norm - again.into_scalar::<f32>()).abs() < 1e-5);
    }
    assert_near(&values(&on_host), &reference(5));
    assert_near(&values(&on_device), &reference(5));
}

#[test]
fn parameters_without_gradients_stay() {
    let mut parameters = parameters();
    let mut gradients = gradients(0);
    gradients.0[1] = None;
    adamw().step(&mut parameters, gradients, RATE).unwrap();
    assert!(values(&parameters)[..3].iter().all(|&value| value != 1.0));
    assert!(values(&parameters)[3..].iter().all(|&value| value == 1.0));
}

/// A vector with a gradient in all steps but the third, and a matrix with one in the second, the fifth and the sixth,
/// where it's of zeros. PyTorch 2's values after each step:
///
/// ```python
/// import torch
/// torch.set_default_dtype(torch.float64)
/// vector, matrix = torch.ones(3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
/// groups = [{"params": [vector], "weight_decay": 0.0}, {"params": [matrix], "weight_decay": 0.1}]
/// adam = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.99), eps=1e-8)
/// for step in range(7):
///     adam.zero_grad(set_to_none=True)
///     gradient = torch.tensor([(0.05 + 0.3 * step) * (i - 3.5) for i in range(9)])
///     if step != 2: vector.grad = gradient[:3]
///     if step in (1, 4, 5): matrix.grad = gradient[3:].reshape(2, 3) * (step != 5)
///     torch.nn.utils.clip_grad_norm_([vector, matrix], 1.0)
///     adam.step()
///     print([*vector.tolist(), *matrix.flatten().tolist()])
/// ```
#[test]
fn steps_count_for_each_parameter_as_in_pytorch() {
    const EXPECTED: [[f64; 9]; 7] = [
        [1.049999997, 1.049999996, 1.049999993, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [
            1.096825291,
            1.096825289,
            1.096825285,
            1.044999992,
            0.945000008,
            0.945000003,
            0.945000002,
            0.945000001,
            0.945000001,
        ],
        [
            1.096825291,
            1.096825289,
            1.096825285,
            1.044999992,
            0.945000008,
            0.945000003,
            0.945000002,
            0.945000001,
            0.945000001,
        ],
        [
            1.142936829,
            1.142936827,
            1.142936822,
            1.044999992,
            0.945000008,
            0.945000003,
            0.945000002,
            0.945000001,
            0.945000001,
        ],
        [
            1.189660108,
            1.189660106,
            1.1896601,
            1.089774985,
            0.890275015,
            0.890275005,
            0.890275003,
            0.890275002,
            0.890275001,
        ],
        [
            1.237511708,
            1.237511706,
            1.237511699,
            1.123064194,
            0.847085556,
            0.84708554,
            0.847085537,
            0.847085536,
            0.847085535,
        ],
        [
            1.28624471,
            1.286244707,
            1.2862447,
            1.123064194,
            0.847085556,
            0.84708554,
            0.847085537,
            0.847085536,
            0.847085535,
        ],
    ];
    let (mut on_host, mut on_device) = (parameters(), parameters());
    let (mut host, mut device) = (adamw(), adamw());
    for (step, expected) in EXPECTED.iter().enumerate() {
        let present = || {
            let mut gradients = gradients(step);
            gradients.0[0] = gradients.0[0].take().filter(|_| step != 2);
            let matrix = gradients.0[1].take().filter(|_| [1, 4, 5].contains(&step));
            let factor = if step == 5 { 0.0 } else { 1.0 };
            gradients.0[1] = matrix.map(|matrix| (matrix.value * factor).into());
            gradients
        };
        host.step(&mut on_host, present(), RATE).unwrap();
        let (_, clip) = device.clip_on_device(on_device.device(), &present());
        device.apply(&mut on_device, present(), RATE, &clip).unwrap();
        assert_near(&values(&on_host), expected);
        assert_near(&values(&on_device), expected);
    }
    let counts = host.parameter_steps(&on_host);
    assert_eq!(counts, BTreeMap::from([("bias".to_owned(), 6), ("weight".to_owned(), 3)]));
}

#[test]
fn parameters_are_changed_in_place() {
    let mut parameters = parameters();
    let place = |parameters: &Parameters| -> Vec<Option<usize>> {
        parameters.iter().map(|parameter| parameter.value.with_slice(|values| values.as_ptr() as usize)).collect()
    };
    let before = place(&parameters);
    adamw().step(&mut parameters, gradients(0), RATE).unwrap();
    assert_eq!(place(&parameters), before);
}

/// A table `[5, 2]` whose rows have gradients in some steps, and its values after `torch.optim.SparseAdam`:
///
/// ```python
/// import torch
/// table = torch.nn.Parameter(torch.tensor([[0.1 * (row + 1), -0.1 * (row + 1)] for row in range(5)]))
/// adam = torch.optim.SparseAdam([table], lr=0.05, betas=(0.9, 0.99), eps=1e-3)
/// for rows, values in STEPS:
///     table.grad = torch.sparse_coo_tensor(torch.tensor([rows]), torch.tensor(values), (5, 2))
///     adam.step()
/// print(table.tolist())
/// ```
#[test]
fn rows_of_tables_take_the_steps_of_pytorchs_sparse_adam() {
    const STEPS: [(&[u32], &[f32]); 4] = [
        (&[1, 3], &[0.5, -0.25, 1.0, 2.0]),
        (&[3], &[-0.5, 0.125]),
        (&[0, 1], &[0.75, 0.5, -1.5, 0.25]),
        (&[1, 3, 4], &[0.125, 1.0, 0.5, -2.0, 0.01, -0.02]),
    ];
    const EXPECTED: [f64; 10] = [
        0.06862138,
        -0.13117354,
        0.18688248,
        -0.18170023,
        0.30000001,
        -0.30000001,
        0.31702667,
        -0.48268181,
        0.48556963,
        -0.4807595,
    ];
    let device = Device::flex();
    let gradients = |(rows, values): (&[u32], &[f32])| {
        let values = Tensor::from_data(TensorData::new(values.to_vec(), [rows.len(), 2]), &device);
        Gradients(vec![Some(RowGradients { rows: rows.into(), values }.into())])
    };
    let rule = AdamWSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-3, weight_decay: 0.1 };
    let optimizer = || Optimizer::new(Arc::new(AdamW::try_from(rule).unwrap()), 0.0);
    let table = || {
        let mut parameters = Parameters::new(&device);
        let mut source = Initializer { seed: 0 };
        Builder::new(&mut parameters, &mut source).sparse_table("table".into(), [5, 2], Initial::Zeros);
        let first: Vec<f32> = (0..10).map(|at| 0.1 * (at / 2 + 1) as f32 * [1.0, -1.0][at % 2]).collect();
        parameters.iter_mut().for_each(|table| {
            let values: Tensor<2> = Tensor::from_data(TensorData::new(first.clone(), [5, 2]), &device);
            table.set(values);
        });
        parameters
    };
    let (mut on_host, mut on_device) = (table(), table());
    let (mut host, mut other) = (optimizer(), optimizer());
    for step in STEPS {
        host.step(&mut on_host, gradients(step), RATE).unwrap();
        let (_, clip) = other.clip_on_device(on_device.device(), &gradients(step));
        other.apply(&mut on_device, gradients(step), RATE, &clip).unwrap();
    }
    for found in [values(&on_host), values(&on_device)] {
        for (found, expected) in found.iter().zip(EXPECTED) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
    assert_eq!(host.entries(&on_host).len(), 2);
}

#[test]
fn gradients_of_rows_are_added_up_row_by_row() {
    let device = Device::flex();
    let gradients = |rows: &[u32], first: f32| {
        let values: Vec<f32> = (0..rows.len()).map(|at| first + at as f32).collect();
        RowGradients { rows: rows.into(), values: Tensor::from_data(TensorData::new(values, [rows.len(), 1]), &device) }
    };
    let sum = gradients(&[1, 4, 6], 1.0).plus(gradients(&[0, 4], 10.0));
    assert_eq!(*sum.rows, [0, 1, 4, 6]);
    assert_eq!(sum.values.try_into_vec_as::<f32>().unwrap(), [10.0, 1.0, 13.0, 3.0]);
}
