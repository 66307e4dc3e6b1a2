//! Matrix products by the kernel that CubeCL takes for their shape, none of which is timed first.

use burn::{
    backend::{Backend, Dispatch, backend_extension, fusion::custom::TensorSpec, tensor::FloatTensor},
    tensor::{Shape, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    kernel::matmul::{MatmulStrategy, matmul},
    tensor::CubeTensor,
};

/// Product of `a [.., M, K]` and `b [.., K, N]`, of equally many matrices: `[.., M, N]`. Not for autodiff.
pub(in crate::network::kernels) fn untuned<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::untuned_product(a.into_dispatch(), b.into_dispatch()))
}

fn product_shape(a: &Shape, b: &Shape) -> Shape {
    let mut shape = a.clone();
    let last = shape.rank() - 1;
    shape[last] = b[last];
    shape
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait ProductOps: Backend {
    /// See [`untuned`].
    #[fusion(meta = |a, b| TensorSpec::new(product_shape(&a.shape, &b.shape), a.dtype))]
    fn untuned_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ProductOps for CubeBackend {
    fn untuned_product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        let dtype = a.dtype;
        let untuned = matmul(a.clone(), b.clone(), None, MatmulStrategy::Cube, dtype);
        // One that can't be set up is found by trying.
        untuned
            .or_else(|_| matmul(a, b, None, MatmulStrategy::Autotune, dtype))
            .expect("some kernel multiplies matrices")
    }
}
