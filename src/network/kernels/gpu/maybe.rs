//! Tensors that operations may be given or not.

use burn::{
    backend::{Backend, Dispatch, ExtensionType, tensor::FloatTensor},
    tensor::Tensor,
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
