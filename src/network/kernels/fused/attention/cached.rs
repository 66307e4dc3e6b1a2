//! Attention to keys and values that a cache holds in bf16: a head's rows are widened while they're used, and no others are.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::Tensor,
};

use super::{
    parts::{Inputs, Keys, Part},
    problem::Attention,
};
use crate::network::kernels::{
    KeyValue,
    fused::kernel::{Kernel, elements, shape},
};

/// The same as [`Attention`], of queries alone.
#[derive(Clone, Debug)]
pub(in crate::network::kernels::fused) struct CachedAttention {
    pub(in crate::network::kernels::fused) attention: Attention,
    /// Both in bf16.
    pub(in crate::network::kernels::fused) keys: KeyValue,
}

impl Kernel<1> for CachedAttention {
    type Saved = ();

    fn forward(&self, [query]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
        let [key, value] = [&self.keys.key, &self.keys.value].map(held);
        let keys = |held: &FlexTensor| shape(held)[1];
        let inputs = Inputs {
            query: Part::new(elements(&query), shape(&query)[1], 0),
            key: Keys::Bf16 { elements: key.storage(), stride: keys(&key) },
            value: Keys::Bf16 { elements: value.storage(), stride: keys(&value) },
            size: shape(&query)[1] / self.attention.heads,
        };
        (self.attention.run(inputs), ())
    }

    fn backward(&self, (): (), _: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        unreachable!("nothing is learned beside a cache")
    }
}

fn held(tensor: &Tensor<2>) -> FlexTensor {
    // A kernel only runs where all its tensors are flex's.
    let primitive = tensor.clone().try_into_primitive::<Flex>();
    let primitive = primitive.unwrap_or_else(|error| unreachable!("a cache beside a kernel: {error:?}"));
    if primitive.is_contiguous() { primitive } else { primitive.to_contiguous() }
}
