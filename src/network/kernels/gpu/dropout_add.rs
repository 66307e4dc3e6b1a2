//! Bias, dropout and residual connection in one pass.

use burn::{
    backend::{
        Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Flat, Rows, kind},
    maybe::Maybe,
    rows::{kept, places, stream},
    sums::row_sums,
};
use crate::network::kernels::{
    Dropout,
    custom_backward::{Grads, custom_backward},
};

/// What is dropped, beside the tokens' keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drops {
    /// Tells this place from the others.
    pub(super) site: u32,
    /// Hashes below this are dropped.
    pub(super) threshold: u32,
    /// What is kept is multiplied by it.
    pub(super) scale: f32,
}

impl Drops {
    pub(super) fn new(dropout: &Dropout) -> Self {
        Self { site: dropout.place(), threshold: dropout.threshold(), scale: dropout.scale() }
    }
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

/// Dropout on a device.
#[derive(Clone, Debug)]
pub(super) struct OnDevice(Option<(Tensor<1, Int>, Drops)>);

impl OnDevice {
    pub(super) fn new(dropout: Option<&Dropout>, device: &Device) -> Self {
        let upload = |dropout: &Dropout| {
            let data = TensorData::new(dropout.keys.to_vec(), [dropout.keys.len()]);
            (Tensor::from_data(data, (device, DType::U32)), Drops::new(dropout))
        };
        Self(dropout.map(upload))
    }

    /// As operations take it.
    pub(super) fn dropping(&self) -> Dropping<Dispatch> {
        match &self.0 {
            Some((keys, drops)) => Dropping::By { keys: keys.clone().into_dispatch(), drops: *drops },
            None => Dropping::Nothing,
        }
    }
}

impl Dropping<CubeBackend> {
    /// Keys, what is dropped, and whether there is any dropout; without it, any other tensor stands for the keys.
    pub(super) fn or(self, other: &CubeTensor) -> (CubeTensor, Drops, bool) {
        match self {
            Self::By { keys, drops } => (keys, drops, true),
            Self::Nothing => (other.clone(), Drops { site: 0, threshold: 0, scale: 1.0 }, false),
        }
    }
}

/// See [`crate::network::kernels::dropout_add`]; without a residual, [`crate::network::kernels::dropout`].
pub(super) fn dropout_add(
    x: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let (with_residual, with_bias) = (residual.is_some(), bias.is_some());
    let inputs: Vec<Tensor<2>> = [x].into_iter().chain(residual).chain(bias.map(Tensor::unsqueeze)).collect();
    let dtype = inputs[inputs.len() - 1].dtype();
    let learned = with_bias && inputs[inputs.len() - 1].is_tracked();
    let plain = |at: usize| inputs[at].clone().inner();
    let bias = Maybe::new(with_bias.then(|| plain(inputs.len() - 1).cast(DType::F32)));
    let residual = Maybe::new(with_residual.then(|| plain(1)));
    let dropout = OnDevice::new(dropout, &plain(0).device());
    let y = Dispatch::drop_and_add(plain(0).into_dispatch(), bias, residual, dropout.dropping());
    custom_backward(Tensor::from_dispatch(y), inputs, move |gradient: Tensor<2>| {
        let grads = match dropout.dropping() {
            Dropping::Nothing => gradient.clone(),
            dropping => {
                let grads = gradient.clone().into_dispatch();
                Tensor::from_dispatch(Dispatch::drop_and_add(grads, Maybe::Nothing, Maybe::Nothing, dropping))
            }
        };
        let of_bias = with_bias.then(|| learned.then(|| row_sums(grads.clone()).cast(dtype)));
        Grads::of([Some(grads)].into_iter().chain(with_residual.then_some(Some(gradient))).chain(of_bias))
    })
}

#[cube(launch)]
fn drop_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    residual: &[Vector<F, N>],
    keys: &[u32],
    out: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    site: u32,
    threshold: u32,
    scale: f32,
    #[comptime] biased: bool,
    #[comptime] added: bool,
    #[comptime] dropped: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % width;
    let mut y = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    if biased {
        y += bias[column];
    }
    if dropped {
        let stream = stream(keys[ABSOLUTE_POS / width], site);
        y *= kept(stream, places::<N>((column * N::value()) as u32), threshold, scale);
    }
    if added {
        y += Vector::<f32, N>::cast_from(residual[ABSOLUTE_POS]);
    }
    out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(y);
}

/// `drop_and_add` on the device.
fn drop_and_add(
    x: CubeTensor,
    bias: Maybe<CubeBackend>,
    residual: Maybe<CubeBackend>,
    dropping: Dropping<CubeBackend>,
) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let (client, dtype) = (x.client(), kind(x.tensor.dtype));
    let Flat { cubes, dim, vector, count, width } = Flat::new(&client, x.rows, x.width);
    let ((bias, biased), (residual, added)) = (bias.or(&x.tensor), residual.or(&x.tensor));
    let (keys, Drops { site, threshold, scale }, dropped) = dropping.or(&x.tensor);
    drop_kernel::launch(
        &client,
        cubes,
        dim,
        vector,
        x.tensor.into_buffer_arg(),
        Rows::new(bias).tensor.into_buffer_arg(),
        Rows::new(residual).tensor.into_buffer_arg(),
        keys.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        count,
        width,
        site,
        threshold,
        scale,
        biased,
        added,
        dropped,
        dtype,
    );
    out
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait DropoutOps: Backend {
    /// `x [T, H]` plus `bias [H]`, dropped by the tokens' `keys [T]`, plus a residual `[T, H]`.
    #[fusion(dtype = x, shape = x)]
    fn drop_and_add(
        x: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] residual: Maybe<Self>,
        #[extension_type] dropping: Dropping<Self>,
    ) -> FloatTensor<Self>;
}

impl DropoutOps for CubeBackend {
    fn drop_and_add(x: CubeTensor, bias: Maybe<Self>, residual: Maybe<Self>, dropping: Dropping<Self>) -> CubeTensor {
        drop_and_add(x, bias, residual, dropping)
    }
}
