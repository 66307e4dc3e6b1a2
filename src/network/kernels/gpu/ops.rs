//! How the kernels enter burn's dispatch, and what they give back, so that burn's fusion can put them off until they're due.

use burn::{
    backend::{
        Backend, Dispatch, ExtensionType, backend_extension,
        fusion::custom::TensorSpec,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Tensor},
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::{
    activation::{self, Unit},
    adamw::{self, Update},
    cross_entropy::{self, Share},
    dropout_add::{self, Drops},
    embedding, log_softmax, norm,
    rotary::{self, HeadRotation},
    softmax::{self, Layout},
    sums::{self, Parts},
};

/// A tensor that may be missing.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub(super) enum Maybe<B: Backend> {
    /// It is.
    Nothing,
    /// It's there.
    Just(FloatTensor<B>),
}

/// Dropout, if there is any.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub(super) enum Dropping<B: Backend> {
    /// There isn't.
    Nothing,
    /// By the tokens' keys `[T]`.
    By {
        /// A random number for each token.
        keys: IntTensor<B>,
        /// What of them is dropped.
        drops: Drops,
    },
}

impl Maybe<Dispatch> {
    pub(super) fn new<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::Nothing, |tensor| Self::Just(tensor.into_dispatch()))
    }
}

impl<B: Backend> Maybe<B> {
    /// The tensor or, where there is none, any other, which nobody is to read; and whether it's there.
    pub(super) fn or(self, other: &FloatTensor<B>) -> (FloatTensor<B>, bool) {
        match self {
            Self::Just(tensor) => (tensor, true),
            Self::Nothing => (other.clone(), false),
        }
    }
}

/// Operations on matrices; none of them is differentiated.
#[backend_extension(Cube, Fusion)]
pub(super) trait Ops: Backend {
    /// Rows `x [T, H]` with their mean, where there is a `beta [H]`, at 0 and their standard deviation at 1, times
    /// `gamma [H]`.
    #[fusion(dtype = x, shape = x)]
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        #[extension_type] beta: Maybe<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// The gradient of `x`, and `[T, 2]` with each row's mean and 1/σ.
    #[fusion(meta = |x, _gamma, _gradient, _eps, _centred| (x.clone(), TensorSpec::new([x.shape[0], 2].into(), DType::F32)))]
    fn normalize_grads(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        eps: f32,
        centred: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Sums over parts of the rows of the gradients of gamma and, where rows are centred, of beta: `[1 or 2, parts, H]`.
    #[fusion(meta = |x, _gradient, _stats, centred| norm::sums(x, *centred))]
    fn normalize_sums(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        centred: bool,
    ) -> FloatTensor<Self>;

    /// Sums over parts of the rows of `x [T, H]`: `[parts, H]`.
    #[fusion(meta = |x| TensorSpec::new([Parts::new(x.shape[0], x.shape[1]).count, x.shape[1]].into(), DType::F32))]
    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// A unit applied to `x [T, F]`, to which `bias [F]` is added.
    #[fusion(dtype = x, shape = unit.shape(x))]
    fn activate(x: FloatTensor<Self>, #[extension_type] bias: Maybe<Self>, unit: Unit) -> FloatTensor<Self>;

    /// The gradient of `x` from that of the result.
    #[fusion(dtype = x, shape = x)]
    fn activate_grads(
        x: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        gradient: FloatTensor<Self>,
        unit: Unit,
    ) -> FloatTensor<Self>;

    /// `x [T, H]` plus `bias [H]`, dropped by the tokens' `keys [T]`, plus a residual `[T, H]`.
    #[fusion(dtype = x, shape = x)]
    fn drop_and_add(
        x: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] residual: Maybe<Self>,
        #[extension_type] dropping: Dropping<Self>,
    ) -> FloatTensor<Self>;

    /// Pairs of numbers of each head of `x` rotated by cosines and sines `[T, pairs]`.
    #[fusion(dtype = x, shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        rotation: HeadRotation,
    ) -> FloatTensor<Self>;

    /// Probabilities, dropped where there is dropout, in place of scores `[rows, heads, queries, keys]`.
    #[fusion(dtype = scores, shape = scores)]
    fn softmax(
        scores: FloatTensor<Self>,
        from: IntTensor<Self>,
        to: IntTensor<Self>,
        #[extension_type] dropping: Dropping<Self>,
        layout: Layout,
    ) -> FloatTensor<Self>;

    /// Dropped probabilities in place of scores, and gradients of scores in place of those of dropped probabilities.
    #[fusion(meta = |scores, grads, _from, _to, _dropping, _layout| (scores.clone(), grads.clone()))]
    fn softmax_grads(
        scores: FloatTensor<Self>,
        grads: FloatTensor<Self>,
        from: IntTensor<Self>,
        to: IntTensor<Self>,
        #[extension_type] dropping: Dropping<Self>,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Logarithms of a softmax over each row of `x [N, C]`.
    #[fusion(dtype = x, shape = x)]
    fn log_softmax(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of `x` from the result `y` and its gradient.
    #[fusion(dtype = gradient, shape = gradient)]
    fn log_softmax_grads(y: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

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

    /// Sums of the rows `[N, H]` of equal ids, `[V, H]`: those of id `ids[i]` stand at `order[starts[i]..starts[i + 1]]`.
    #[fusion(meta = |rows, _order, _starts, _ids, classes| TensorSpec::new([*classes, rows.shape[1]].into(), rows.dtype))]
    fn add_rows(
        rows: FloatTensor<Self>,
        order: IntTensor<Self>,
        starts: IntTensor<Self>,
        ids: IntTensor<Self>,
        classes: usize,
    ) -> FloatTensor<Self>;

    /// Parameters and both moments one step further.
    #[fusion(meta = |values, _gradient, mean, square, _clip, _update| (values.clone(), mean.clone(), square.clone()))]
    fn adamw(
        values: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        #[extension_type] clip: Maybe<Self>,
        update: Update,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `sums` with squares of the numbers of `x` added, in whatever place.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Ops for CubeBackend {
    fn normalize(x: CubeTensor, gamma: CubeTensor, beta: Maybe<Self>, eps: f32) -> CubeTensor {
        norm::normalize(x, gamma, beta, eps)
    }

    fn normalize_grads(
        x: CubeTensor,
        gamma: CubeTensor,
        gradient: CubeTensor,
        eps: f32,
        centred: bool,
    ) -> (CubeTensor, CubeTensor) {
        norm::normalize_grads(x, gamma, gradient, eps, centred)
    }

    fn normalize_sums(x: CubeTensor, gradient: CubeTensor, stats: CubeTensor, centred: bool) -> CubeTensor {
        norm::normalize_sums(x, gradient, stats, centred)
    }

    fn column_sums(x: CubeTensor) -> CubeTensor {
        sums::column_sums(x)
    }

    fn activate(x: CubeTensor, bias: Maybe<Self>, unit: Unit) -> CubeTensor {
        activation::activate(x, bias, unit)
    }

    fn activate_grads(x: CubeTensor, bias: Maybe<Self>, gradient: CubeTensor, unit: Unit) -> CubeTensor {
        activation::activate_grads(x, bias, gradient, unit)
    }

    fn drop_and_add(x: CubeTensor, bias: Maybe<Self>, residual: Maybe<Self>, dropping: Dropping<Self>) -> CubeTensor {
        dropout_add::drop_and_add(x, bias, residual, dropping)
    }

    fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, rotation: HeadRotation) -> CubeTensor {
        rotary::rotate(x, cos, sin, rotation)
    }

    fn softmax(
        scores: CubeTensor,
        from: CubeTensor,
        to: CubeTensor,
        dropping: Dropping<Self>,
        layout: Layout,
    ) -> CubeTensor {
        softmax::softmax(scores, from, to, dropping, layout)
    }

    fn softmax_grads(
        scores: CubeTensor,
        grads: CubeTensor,
        from: CubeTensor,
        to: CubeTensor,
        dropping: Dropping<Self>,
        layout: Layout,
    ) -> (CubeTensor, CubeTensor) {
        softmax::softmax_grads(scores, grads, from, to, dropping, layout)
    }

    fn log_softmax(x: CubeTensor) -> CubeTensor {
        log_softmax::log_softmax_rows(x)
    }

    fn log_softmax_grads(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
        log_softmax::log_softmax_grads(y, gradient)
    }

    fn cross_entropy(
        logits: CubeTensor,
        bias: Maybe<Self>,
        targets: CubeTensor,
        weights: CubeTensor,
        share: Share,
    ) -> (CubeTensor, CubeTensor) {
        cross_entropy::cross_entropy_rows(logits, bias, targets, weights, share)
    }

    fn add_rows(
        rows: CubeTensor,
        order: CubeTensor,
        starts: CubeTensor,
        ids: CubeTensor,
        classes: usize,
    ) -> CubeTensor {
        embedding::add_rows(rows, order, starts, ids, classes)
    }

    fn adamw(
        values: CubeTensor,
        gradient: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        clip: Maybe<Self>,
        update: Update,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        adamw::adamw(values, gradient, mean, square, clip, update)
    }

    fn add_squares(sums: CubeTensor, x: CubeTensor) -> CubeTensor {
        adamw::add_squares(sums, x)
    }
}
