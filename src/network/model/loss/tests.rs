//! Losses beside those of PyTorch.

use burn::tensor::Device;

use super::*;

const LOGITS: [[f32; 3]; 4] = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0], [-0.75, 0.5, 1.5], [2.0, 1.0, 0.0]];
const CLASSES: [u32; 4] = [0, 1, 0, 2];

const WEIGHTED: f32 = 1.160_454_8;
const WEIGHTED_GRADIENT: [f32; 12] = [
    -0.0482591, 0.0154825, 0.0327765, 0.0537389, -0.0735084, 0.0197694, -0.1092305, 0.0293766, 0.0798539, 0.1956591,
    0.071979, -0.2676381,
];
const FOCAL: f32 = 0.866_240_3;
const FOCAL_GRADIENT: [f32; 12] = [
    -0.0204493, 0.0065606, 0.0138887, 0.0037173, -0.0050848, 0.0013675, -0.1324327, 0.0356166, 0.096816, 0.2391993,
    0.0879965, -0.3271958,
];

const SOFT_GRADIENT: [f32; 12] = [
    -0.0275506, -0.0170996, 0.0446502, 0.0035488, 0.0109487, -0.0144975, -0.0571149, -0.0125747, 0.0696896, 0.1538102,
    0.0236821, -0.1774924,
];
const SEVERAL_GRADIENT: [f32; 12] = [
    -0.0224118, 0.0314617, -0.0364853, 0.0416667, -0.0099336, 0.0224118, 0.0267351, 0.0518716, 0.0681312, -0.0099336,
    -0.0224118, -0.0416667,
];
const NUMBERS_GRADIENT: [f32; 12] =
    [0.0833333, -0.0833333, 0.0, -0.1666667, 0.0, 0.3333333, -0.125, 0.0833333, 0.25, 0.0, -0.0833333, -0.0833333];

/// The loss, and its gradient for the logits.
fn loss(weights: [f32; 3], smoothing: f32, gamma: f32) -> (f32, Vec<f32>) {
    let data = TensorData::new(LOGITS.concat(), [4, 3]);
    let logits: Tensor<2> = Tensor::from_data(data, &Device::flex().autodiff()).require_grad();
    let weight = |example: usize| weights[CLASSES[example] as usize];
    let settings = LossSettings { label_smoothing: smoothing, focal_gamma: gamma, ..LossSettings::default() };
    let sum = (0..4).map(weight).sum();
    let loss = class_loss(logits.clone(), &CLASSES, &[], &weight, &settings, sum);
    let gradient = logits.grad(&loss.backward()).unwrap().try_into_vec_as().unwrap();
    (loss.into_scalar::<f32>(), gradient)
}

fn assert_near(found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}

/// Values of PyTorch 2:
///
/// ```python
/// import torch, torch.nn.functional as F
/// logits = torch.tensor([[1, -0.5, 0.25], [0, 2, -1], [-0.75, 0.5, 1.5], [2, 1, 0.0]], requires_grad=True)
/// classes, weight = torch.tensor([0, 1, 0, 2]), torch.tensor([0.5, 2.0, 1.25])
/// loss = F.cross_entropy(logits, classes, weight=weight)
/// p = logits.softmax(1)[range(4), classes]
/// focal = ((1 - p) ** 2 * F.cross_entropy(logits, classes, weight, reduction="none")).sum() / weight[classes].sum()
/// loss.backward(); print(loss.item(), logits.grad)
/// ```
#[test]
fn labels_weigh_as_in_pytorch() {
    let (found, gradient) = loss([0.5, 2.0, 1.25], 0.0, 0.0);
    assert_near(&[found], &[WEIGHTED]);
    assert_near(&gradient, &WEIGHTED_GRADIENT);
    let (found, gradient) = loss([0.5, 2.0, 1.25], 0.0, 2.0);
    assert_near(&[found], &[FOCAL]);
    assert_near(&gradient, &FOCAL_GRADIENT);
}

/// Values of PyTorch 2 for `logits` as above:
///
/// ```python
/// soft = torch.tensor([[.7, .2, .1], [.1, .8, .1], [.3, .3, .4], [.05, .15, .8]])
/// F.cross_entropy(logits, soft)
/// several = torch.tensor([[1., 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
/// F.binary_cross_entropy_with_logits(logits, several)
/// numbers = torch.tensor([[.5, 0, .25], [1, 2, -3.], [0, 0, 0], [2, 1.5, .5]])
/// F.mse_loss(logits, numbers)
/// ```
#[test]
fn what_is_wanted_is_learned_as_in_pytorch() {
    let logits = || -> Tensor<2> {
        let data = TensorData::new(LOGITS.concat(), [4, 3]);
        Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
    };
    let check = |logits: Tensor<2>, loss: Tensor<1>, expected: f32, gradient: [f32; 12]| {
        let found: Vec<f32> = logits.grad(&loss.backward()).unwrap().try_into_vec_as().unwrap();
        assert_near(&[loss.into_scalar::<f32>()], &[expected]);
        assert_near(&found, &gradient);
    };
    let lists = |rows: [[f32; 3]; 4]| rows.map(|row| row.to_vec());
    let soft = lists([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.05, 0.15, 0.8]]);
    let x = logits();
    let loss = class_loss(x.clone(), &CLASSES, &soft, &|_| 1.0, &LossSettings::default(), 4.0);
    check(x, loss, 1.273_229_5, SOFT_GRADIENT);
    let several = lists([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0; 3], [1.0; 3]]);
    let x = logits();
    let loss = output_loss(x.clone(), &several, Answers::Any, 4.0);
    check(x, loss, 0.557_692_77, SEVERAL_GRADIENT);
    let numbers = lists([[0.5, 0.0, 0.25], [1.0, 2.0, -3.0], [0.0; 3], [2.0, 1.5, 0.5]]);
    let x = logits();
    let loss = output_loss(x.clone(), &numbers, Answers::Numbers, 4.0);
    check(x, loss, 0.755_208_3, NUMBERS_GRADIENT);
}

#[test]
fn equal_weights_change_nothing() {
    let (plain, weighted) = (loss([1.0; 3], 0.1, 0.0), loss([3.0; 3], 0.1, 0.0));
    assert_near(&[weighted.0], &[plain.0]);
    assert_near(&weighted.1, &plain.1);
}
