//! Who attends to what.

use std::sync::Arc;

use crate::network::kernels::{Dropout, attention_spans::Host};

/// Queries of a block: its scores stay in the second-level cache.
pub(super) const BLOCK: usize = 64;

/// See [`crate::network::kernels::attention`] and [`crate::network::kernels::grouped_attention`].
///
/// Inputs are rows of `[query | key | value]`, or queries, keys and values.
#[derive(Clone, Debug)]
pub(in crate::network::kernels::fused) struct Attention {
    pub(in crate::network::kernels::fused) spans: Arc<Host>,
    pub(in crate::network::kernels::fused) heads: usize,
    /// Key/value heads.
    pub(in crate::network::kernels::fused) kv_heads: usize,
    /// So many keys come before those that `spans` counts; every query that sees any sees them.
    pub(in crate::network::kernels::fused) shared: usize,
    pub(in crate::network::kernels::fused) dropout: Option<Dropout>,
}

impl Attention {
    /// Query heads of a key/value head.
    pub(super) fn together(&self) -> usize {
        self.heads / self.kv_heads
    }
}
