//! Attention to keys and values that a cache holds in bf16: a head's rows are widened while they're used, and no others are.

use burn::backend::flex::FlexTensor;

use super::{
    parts::{Inputs, Keys, Part},
    problem::Attention,
};
use crate::network::kernels::{
    KeyValue,
    fused::kernel::{Kernel, elements, held, shape},
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
        let [_, width] = shape(&query);
        let inputs = Inputs {
            query: Part::new(elements(&query), width, 0),
            key: Keys::Bf16 { elements: key.storage(), stride: shape(&key)[1] },
            value: Keys::Bf16 { elements: value.storage(), stride: shape(&value)[1] },
            size: width / self.attention.heads,
        };
        (self.attention.run(inputs), ())
    }

    fn backward(&self, (): (), _: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        unreachable!("nothing is learned beside a cache")
    }
}
