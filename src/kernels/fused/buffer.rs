//! Memory for results.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};

/// Room for `n` numbers, which may hold anything.
pub(super) fn room(n: usize) -> Vec<f32> {
    vec![0.0; n]
}

/// The numbers as a tensor.
pub(super) fn tensor<const D: usize>(elements: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// The same numbers where nobody else has them: the tensor itself if nobody does.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole && tensor.is_unique() {
        return tensor;
    }
    let mut copy = room(tensor.layout().num_elements());
    copy.copy_from_slice(super::elements(&tensor));
    FlexTensor::new(Bytes::from_elems(copy), Layout::contiguous(tensor.layout().shape().clone()), DType::F32)
}
