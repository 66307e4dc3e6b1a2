//! What a kernel is, and how it enters burn's dispatch and autodiff.

use std::{fmt::Debug, marker::PhantomData};

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    tensor::{DType, Tensor},
};

use crate::network::kernels::slices::on_flex;

/// An operation on `N` tensors with its gradient. All tensors are f32, and contiguous when they get here.
pub(super) trait Kernel<const N: usize>: Clone + Debug + Send + 'static {
    /// What the forward pass leaves for the backward pass.
    type Saved: Clone + Debug + Send + 'static;

    /// The result; `tracked` tells which inputs will need a gradient.
    fn forward(&self, inputs: [FlexTensor; N], tracked: [bool; N]) -> (FlexTensor, Self::Saved);

    /// The gradients of the inputs that are `wanted`, from that of the result.
    fn backward(&self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// Kernels by the number of their inputs, as burn's dispatch wants them.
#[backend_extension(Flex, Autodiff)]
pub(super) trait Launch: Backend {
    /// Runs a kernel on one tensor.
    fn unary<K: Kernel<1>>(kernel: K, a: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Runs a kernel on two tensors.
    fn binary<K: Kernel<2>>(kernel: K, a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Runs a kernel on three tensors.
    fn ternary<K: Kernel<3>>(
        kernel: K,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Launch for Flex {
    fn unary<K: Kernel<1>>(kernel: K, a: FlexTensor) -> FlexTensor {
        plain(kernel, [a])
    }

    fn binary<K: Kernel<2>>(kernel: K, a: FlexTensor, b: FlexTensor) -> FlexTensor {
        plain(kernel, [a, b])
    }

    fn ternary<K: Kernel<3>>(kernel: K, a: FlexTensor, b: FlexTensor, c: FlexTensor) -> FlexTensor {
        plain(kernel, [a, b, c])
    }
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

impl<C: CheckpointStrategy> Launch for Autodiff<Flex, C> {
    fn unary<K: Kernel<1>>(kernel: K, a: Tracked<C>) -> Tracked<C> {
        with_backward::<K, C, 1>(kernel, [a])
    }

    fn binary<K: Kernel<2>>(kernel: K, a: Tracked<C>, b: Tracked<C>) -> Tracked<C> {
        with_backward::<K, C, 2>(kernel, [a, b])
    }

    fn ternary<K: Kernel<3>>(kernel: K, a: Tracked<C>, b: Tracked<C>, c: Tracked<C>) -> Tracked<C> {
        with_backward::<K, C, 3>(kernel, [a, b, c])
    }
}

fn plain<K: Kernel<N>, const N: usize>(kernel: K, inputs: [FlexTensor; N]) -> FlexTensor {
    kernel.forward(inputs.map(contiguous), [false; N]).0
}

/// Runs the kernel and leaves its gradient in autodiff's graph.
fn with_backward<K: Kernel<N>, C: CheckpointStrategy, const N: usize>(
    kernel: K,
    inputs: [Tracked<C>; N],
) -> Tracked<C> {
    let nodes = inputs.each_ref().map(|input| input.node());
    let tracked = inputs.each_ref().map(|input| input.is_tracked());
    let inputs = inputs.map(|input| contiguous(input.into_primitive()));
    let (output, saved) = kernel.forward(inputs, tracked);
    match BackwardStep::<K>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((kernel, saved), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}

#[derive(Debug)]
struct BackwardStep<K>(PhantomData<K>);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for BackwardStep<K> {
    type State = (K, K::Saved);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let (kernel, saved) = ops.state;
        for (parent, gradient) in ops.parents.into_iter().zip(kernel.backward(saved, gradient, wanted)) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// A matrix that a kernel has beside what it was given, contiguous, in whatever type it's held as.
pub(super) fn held(tensor: &Tensor<2>) -> FlexTensor {
    // A kernel only runs where all its tensors are flex's.
    let kept = |error| unreachable!("a matrix beside a kernel: {error:?}");
    contiguous(tensor.clone().try_into_primitive::<Flex>().unwrap_or_else(kept))
}

/// Elements of a tensor that a kernel was given.
pub(super) fn elements(tensor: &FlexTensor) -> &[f32] {
    // A kernel is only called with contiguous f32.
    tensor.as_slice().unwrap_or_else(|| unreachable!("a kernel was given {tensor:?}"))
}

/// Rows and columns of a matrix that a kernel was given.
pub(super) fn shape(tensor: &FlexTensor) -> [usize; 2] {
    tensor.shape().dims()
}

/// Whether there is a kernel for this tensor. Kernels compute in f32; elements of 16 bits are widened for them, and the
/// result is rounded to the type of the first input.
pub(in crate::network::kernels) fn applies<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16) && on_flex(&tensor.device())
}

/// Runs a kernel on one tensor.
pub(super) fn unary<const R: usize, K: Kernel<1>, const A: usize>(kernel: K, a: Tensor<A>) -> Tensor<R> {
    let dtype = a.dtype();
    let result: Tensor<R> = Tensor::from_dispatch(Dispatch::unary(kernel, a.cast(DType::F32).into_dispatch()));
    result.cast(dtype)
}

/// Runs a kernel on two tensors.
pub(super) fn binary<const R: usize, K: Kernel<2>, const A: usize, const B: usize>(
    kernel: K,
    a: Tensor<A>,
    b: Tensor<B>,
) -> Tensor<R> {
    let dtype = a.dtype();
    let (a, b) = (a.cast(DType::F32), b.cast(DType::F32));
    let result = Dispatch::binary(kernel, a.into_dispatch(), b.into_dispatch());
    let result: Tensor<R> = Tensor::from_dispatch(result);
    result.cast(dtype)
}

/// Runs a kernel on three tensors.
pub(super) fn ternary<const R: usize, K: Kernel<3>, const A: usize, const B: usize, const C: usize>(
    kernel: K,
    a: Tensor<A>,
    b: Tensor<B>,
    c: Tensor<C>,
) -> Tensor<R> {
    let dtype = a.dtype();
    let (a, b, c) = (a.cast(DType::F32), b.cast(DType::F32), c.cast(DType::F32));
    let result = Dispatch::ternary(kernel, a.into_dispatch(), b.into_dispatch(), c.into_dispatch());
    let result: Tensor<R> = Tensor::from_dispatch(result);
    result.cast(dtype)
}
