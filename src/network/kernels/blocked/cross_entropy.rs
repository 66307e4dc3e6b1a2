//! Linear layer and cross-entropy in one, over some rows at a time.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Between, LossRows};
use crate::network::kernels::{
    custom_backward::{Grads, custom_backward},
    embedding::upload,
    matmul::matmul,
};

/// Logits that exist at a time: enough for products that fill a GPU. Each takes four bytes, and some four tensors of their
/// size are alive together.
pub const LOGITS: usize = 1 << 26;
/// Fewest rows of a chunk, however many classes there are.
const ROWS: usize = 64;

/// See [`crate::network::kernels::linear_cross_entropy`]; with the logits of at most so many rows at a time, or of as many as
/// [`LOGITS`] allows. The forward pass already computes the gradients, as the fused one does.
#[expect(clippy::too_many_arguments, reason = "it takes what the loss takes")]
pub(in crate::network::kernels) fn linear_cross_entropy(
    between: &dyn Between,
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[u32],
    weights: &[f32],
    smoothing: f32,
    most_rows: Option<usize>,
) -> Tensor<1> {
    let rows = most_rows.unwrap_or_else(|| (LOGITS / weight.dims()[0].max(1)).max(ROWS));
    let of = Rows { targets, weights, smoothing };
    let inputs: Vec<Tensor<2>> = [hidden, weight].into_iter().chain(bias.map(Tensor::unsqueeze)).collect();
    let wanted = [0, 1, 2].map(|at| inputs.get(at).is_some_and(Tensor::is_tracked));
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let plain: Vec<Tensor<2>> = inputs.iter().map(|input| input.clone().inner()).collect();
    let most = of.weights.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
    let mut sums = Sums { wanted, ..Sums::default() };
    for first in (0..of.targets.len()).step_by(rows) {
        let count = rows.min(of.targets.len() - first);
        let part = of.part(first, count, most, &plain[0].device());
        sums.add(between, &plain, first, part);
    }
    let loss = sums.loss.take().unwrap_or_else(|| Tensor::zeros([1], (&plain[0].device(), DType::F32)));
    let grads = sums.grads(&plain);
    custom_backward(loss, inputs, move |gradient: Tensor<1>| {
        // In f32 until they're scaled: a loss of f16 is multiplied so that its gradients keep in range.
        let gradient = gradient.mul_scalar(most).unsqueeze::<2>();
        let grads = grads.into_iter().zip(types);
        Grads::of(grads.map(|(grad, dtype)| grad.map(|grad| (grad * gradient.clone()).cast(dtype))))
    })
}

/// What rows' logits are held against.
struct Rows<'a> {
    targets: &'a [u32],
    weights: &'a [f32],
    smoothing: f32,
}

impl Rows<'_> {
    fn part(&self, first: usize, count: usize, most: f32, device: &Device) -> LossRows {
        let column = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [count, 1]), device);
        let weights = &self.weights[first..first + count];
        let scale = if most > 0.0 { most.recip() } else { 0.0 };
        LossRows {
            targets: upload(&self.targets[first..first + count], device).reshape([count, 1]),
            weights: column(weights.to_vec()),
            scale,
            gaps: weights.contains(&0.0),
            smoothing: self.smoothing,
        }
    }
}

/// The loss so far, and the gradients of hidden states (in parts), weight and bias where they're wanted: for rows' weights
/// whose largest is 1, and in f32.
#[derive(Default)]
struct Sums {
    wanted: [bool; 3],
    loss: Option<Tensor<1>>,
    hidden: Vec<Tensor<2>>,
    weight: Option<Tensor<2>>,
    bias: Option<Tensor<2>>,
}

impl Sums {
    /// Adds the rows from `first` on.
    fn add(&mut self, between: &dyn Between, inputs: &[Tensor<2>], first: usize, part: LossRows) {
        let dtype = inputs[0].dtype();
        let hidden = inputs[0].clone().narrow(0, first, part.targets.dims()[0]);
        let logits = matmul(hidden.clone(), inputs[1].clone().transpose());
        let (losses, grads) = between.losses(logits, inputs.get(2), part, self.wanted.contains(&true));
        add(&mut self.loss, losses.sum());
        let Some(grads) = grads else { return };

        let factor = grads.clone().cast(dtype);
        let [of_hidden, of_weight, of_bias] = self.wanted;
        if of_hidden {
            self.hidden.push(matmul(factor.clone(), inputs[1].clone()).cast(DType::F32));
        }
        if of_weight {
            add(&mut self.weight, matmul(factor.transpose(), hidden).cast(DType::F32));
        }
        if of_bias {
            add(&mut self.bias, between.row_sums(grads));
        }
    }

    /// The gradients of those of the inputs that want one; without rows they're 0.
    fn grads(self, inputs: &[Tensor<2>]) -> [Option<Tensor<2>>; 3] {
        let hidden = (!self.hidden.is_empty()).then(|| Tensor::cat(self.hidden, 0));
        let mut found = [hidden, self.weight, self.bias];
        for (at, input) in inputs.iter().enumerate().filter(|(at, _)| self.wanted[*at]) {
            found[at].get_or_insert_with(|| Tensor::zeros(input.dims(), (&input.device(), DType::F32)));
        }
        found
    }
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, part: Tensor<D>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + part,
        None => part,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::kernels::reference::Reference;

    /// Loss and gradients of seven rows and eleven classes, so many rows at a time.
    fn run(rows: usize, dtype: DType, scale: f32) -> Vec<Vec<f32>> {
        let device = Device::flex();
        let noise = |shape: [usize; 2], seed: f32| {
            let values = (0..shape[0] * shape[1]).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).cast(dtype).autodiff().require_grad()
        };
        let (hidden, weight) = (noise([7, 5], 1.7), noise([11, 5], 2.3));
        let bias = Tensor::<1>::from_floats([0.5; 11], &device).autodiff().require_grad();
        let weights = [1e-5, 2e-5, 0.0, 1e-5, 1e-5, 1e-5, 3e-5];
        let (h, w, targets) = (hidden.clone(), weight.clone(), [0, 10, 3, 3, 7, 1, 0]);
        let loss = linear_cross_entropy(&Reference, h, w, Some(bias.clone()), &targets, &weights, 0.1, Some(rows));
        let gradients = (loss.clone() * scale).backward();
        let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().expect("values");
        [
            loss.inner().unsqueeze(),
            hidden.grad(&gradients).expect("a gradient"),
            weight.grad(&gradients).expect("a gradient"),
            bias.grad(&gradients).expect("a gradient").unsqueeze(),
        ]
        .map(values)
        .into()
    }

    fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
        for (part, (found, expected)) in found.iter().zip(expected).enumerate() {
            let most = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= tolerance * most, "{part}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_the_same() {
        let whole = run(7, DType::F32, 1.0);
        for rows in [1, 2, 3, 6, 100] {
            assert_near(&run(rows, DType::F32, 1.0), &whole, 1e-6);
        }
    }

    #[test]
    fn small_weights_keep_in_the_range_of_f16_where_the_loss_is_scaled() {
        let expected = run(7, DType::F32, 65_536.0);
        assert_near(&run(3, DType::F16, 65_536.0), &expected, 4e-3);
    }
}
