//! What a network's adapters are: their settings, and which parameters they have.

use std::collections::BTreeMap;

use crate::{
    network::model::ids::{MatrixId, WeightId},
    spec,
};

/// The adapters of a network.
#[derive(Clone, Debug, Default)]
pub(in crate::network::model) struct Adapters {
    /// Settings, as recipes have them; `None` where there are no adapters.
    pub(super) settings: Option<spec::Adapter>,
    pub(in crate::network::model) loras: BTreeMap<WeightId, Lora>,
    pub(in crate::network::model) prefix: Option<Prefix>,
}

/// The change of a linear layer.
#[derive(Clone, Debug)]
pub(in crate::network::model) struct Lora {
    /// Of the layers that checkpoints have in its place, mostly one.
    pub(super) parts: Vec<LoraPart>,
    pub(super) scale: f32,
    pub(super) dropout: f32,
}

/// The change of some rows.
#[derive(Clone, Debug)]
pub(super) struct LoraPart {
    pub(super) rows: usize,
    /// A `[r, in]` and B `[rows, r]`; `None` where these rows don't change.
    pub(super) change: Option<[MatrixId; 2]>,
}

/// A table of keys and values, `[tokens, keys and values of the first layer | of the second | …]`.
#[derive(Clone, Debug)]
pub(in crate::network::model) struct Prefix {
    pub(in crate::network::model) table: MatrixId,
    pub(in crate::network::model) tokens: usize,
    /// By how much the tokens' positions are moved on for it.
    pub(in crate::network::model) shift: u32,
    /// Width of the keys in each layer.
    pub(super) widths: Vec<usize>,
    pub(in crate::network::model) dropout: f32,
}

impl Prefix {
    /// The columns of the table with the keys of the attention of this number, `start` and `width`; as many behind them have
    /// its values.
    pub(in crate::network::model) fn columns(&self, attention: usize) -> (usize, usize) {
        let width = self.widths[attention];
        (self.widths[..attention].iter().map(|width| 2 * width).sum(), width)
    }
}
