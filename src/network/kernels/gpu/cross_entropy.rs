//! Cross-entropy of rows of logits, and their gradients in the logits' place: a cube for each row.

use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        fusion::custom::TensorSpec,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Int, IntDType, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Grid, Rows, kind},
    math::{exp, ln},
    maybe::Maybe,
    rows::{largest, most, places, sum, total},
};

/// What rows' losses are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Share of the target's probability that is spread over all classes.
    smoothing: f32,
    /// What weights are multiplied by for the gradients.
    scale: f32,
}

/// Gradients of logits `[N, V]` in their type, for weights times `scale`, and weighted losses `[N, 1]` in f32. A weight of 0
/// stands for a row to leave out, whatever is in it. Not for autodiff.
pub(super) fn cross_entropy(
    logits: Tensor<2>,
    bias: Option<Tensor<2>>,
    targets: Tensor<2, Int>,
    weights: Tensor<2>,
    scale: f32,
    smoothing: f32,
) -> [Tensor<2>; 2] {
    let bias = Maybe::new(bias.map(|bias| bias.cast(DType::F32)));
    let targets = targets.cast(IntDType::I32).into_dispatch();
    let share = Share { smoothing, scale };
    let (grads, losses) =
        Dispatch::cross_entropy(logits.into_dispatch(), bias, targets, weights.into_dispatch(), share);
    [grads, losses].map(Tensor::from_dispatch)
}

/// A logit with its bias, where there is one.
#[cube]
fn shifted<F: Float, N: Size>(
    logit: Vector<F, N>,
    bias: &[Vector<f32, N>],
    at: usize,
    #[comptime] biased: bool,
) -> Vector<f32, N> {
    let mut logit = Vector::<f32, N>::cast_from(logit);
    if biased {
        logit += bias[at];
    }
    logit
}

#[cube(launch)]
fn cross_entropy_kernel<F: Float, N: Size>(
    logits: &mut [Vector<F, N>],
    bias: &[Vector<f32, N>],
    targets: &[i32],
    weights: &[f32],
    losses: &mut [f32],
    rows: usize,
    width: usize,
    smoothing: f32,
    scale: f32,
    #[comptime] biased: bool,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let zero = Vector::<f32, N>::new(0f32);
    let start = CUBE_POS * width;
    let target = Vector::<u32, N>::new(u32::cast_from(targets[CUBE_POS]));
    let weight = weights[CUBE_POS];

    // The highest so far, and the sum of exponentials beside it, which shrinks when a higher one comes.
    let mut highest = Vector::<f32, N>::new(-1e30f32);
    let mut sums = zero;
    let mut found = zero;
    let mut plain = zero;
    let mut at = UNIT_POS as usize;
    while at < width {
        let logit = shifted::<F, N>(logits[start + at], bias, at, biased);
        let higher = highest.max(logit);
        if largest(higher - highest) > 0f32 {
            sums *= exp(highest - higher);
            highest = higher;
        }
        sums += exp(logit - highest);
        let here = places::<N>((at * N::value()) as u32).equal(&target);
        found += select_many(here, logit, zero);
        plain += logit;
        at += CUBE_DIM as usize;
    }
    let most = most(largest(highest), planes);
    let sums = sums * exp(highest - Vector::<f32, N>::new(most));
    let level = most + ln(Vector::<f32, Const<1>>::new(sum(total(sums), planes))).extract(0usize);
    let found = sum(total(found), planes);
    let classes = f32::cast_from(width * N::value());
    let mean = sum(total(plain), planes) / classes;

    let share = weight * scale;
    let counts = weight != 0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let logit = shifted::<F, N>(logits[start + at], bias, at, biased);
        let here = places::<N>((at * N::value()) as u32).equal(&target);
        let goal = select_many(here, Vector::<f32, N>::new(1f32 - smoothing), zero);
        let spread = Vector::<f32, N>::new(smoothing / classes);
        let grad = (exp(logit - Vector::<f32, N>::new(level)) - spread - goal) * Vector::<f32, N>::new(share);
        logits[start + at] = Vector::<F, N>::cast_from(select(counts, grad, zero));
        at += CUBE_DIM as usize;
    }
    if UNIT_POS == 0 {
        let gain = (found - level) * (1f32 - smoothing) + (mean - level) * smoothing;
        losses[CUBE_POS] = select(counts, 0f32 - gain * weight, 0f32);
    }
}

/// `cross_entropy` on the device.
fn cross_entropy_rows(
    logits: CubeTensor,
    bias: Maybe<CubeBackend>,
    targets: CubeTensor,
    weights: CubeTensor,
    share: Share,
) -> (CubeTensor, CubeTensor) {
    let logits = Rows::owned(logits);
    let losses = logits.room([logits.rows, 1], DType::F32);
    let Grid { count, dim, planes, vector, width, .. } = logits.grid();
    let (bias, biased) = bias.or(&weights);
    cross_entropy_kernel::launch(
        &logits.client(),
        count,
        dim,
        vector,
        logits.tensor.clone().into_buffer_arg(),
        Rows::new(bias).tensor.into_buffer_arg(),
        Rows::new(targets).tensor.into_buffer_arg(),
        Rows::new(weights).tensor.into_buffer_arg(),
        losses.clone().into_buffer_arg(),
        logits.rows,
        width,
        share.smoothing,
        share.scale,
        biased,
        planes,
        kind(logits.tensor.dtype),
    );
    (logits.tensor, losses)
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait CrossEntropyOps: Backend {
    /// Gradients in place of logits `[N, V]`, and losses `[N, 1]`.
    #[fusion(meta = |logits, _bias, _targets, _weights, _share|
        (logits.clone(), TensorSpec::new([logits.shape[0], 1].into(), DType::F32)))]
    fn cross_entropy(
        logits: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        share: Share,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl CrossEntropyOps for CubeBackend {
    fn cross_entropy(
        logits: CubeTensor,
        bias: Maybe<Self>,
        targets: CubeTensor,
        weights: CubeTensor,
        share: Share,
    ) -> (CubeTensor, CubeTensor) {
        cross_entropy_rows(logits, bias, targets, weights, share)
    }
}
