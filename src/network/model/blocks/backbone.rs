//! From token ids to hidden states: embeddings, layers, a last norm.

use burn::tensor::Tensor;

use super::{Layer, LayerDesign, Norm};
use crate::network::{
    kernels,
    model::{
        parameters::{Builder, MatrixId},
        pass::{Along, Pass},
    },
};

/// A transformer without a head.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// The table of token embeddings, `[vocabulary, hidden]`.
    pub words: MatrixId,
    /// Further tables that are added to it.
    pub tables: Vec<(MatrixId, Along)>,
    /// A norm of the sum.
    pub embedding_norm: Option<Norm>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// A norm behind them.
    pub norm: Option<Norm>,
}

impl Backbone {
    /// The layers of a design.
    pub fn layers(builder: &mut Builder, design: &LayerDesign, count: usize) -> Vec<Layer> {
        (0..count).map(|index| Layer::new(builder, design, index)).collect()
    }

    /// Hidden states `[T, hidden]` of a batch.
    pub fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let words = (pass.matrix(self.words), &pass.tokens);
        let tables = self.tables.iter().map(|&(table, along)| (pass.matrix(table), pass.ids(along)));
        let mut x = kernels::embedding_sum(words, tables);
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(pass, x);
        }
        x = pass.to_stream(x);
        if let Some(dropout) = pass.dropout() {
            x = kernels::dropout(x, &dropout);
        }
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(pass, x));
        match &self.norm {
            Some(norm) => norm.forward(pass, x),
            None => x,
        }
    }
}
