//! From token ids to hidden states: embeddings, layers, a last norm.

use burn::tensor::Tensor;

use super::{Layer, LayerDesign, Norm};
use crate::network::{
    kernels,
    model::{
        builder::Builder,
        ids::WeightId,
        pass::{Along, Pass},
    },
};

/// A transformer without a head.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// The table of token embeddings, `[vocabulary, hidden]`.
    pub token_embedding: WeightId,
    /// Further embeddings that are added, such as those of positions.
    pub embeddings: Vec<(WeightId, Along)>,
    /// A norm of the sum.
    pub embedding_norm: Option<Norm>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// A norm behind them.
    pub final_norm: Option<Norm>,
}

impl Backbone {
    /// The layers of a design.
    pub fn layers(builder: &mut Builder, design: &LayerDesign, count: usize) -> Vec<Layer> {
        (0..count).map(|index| Layer::new(builder, design, index)).collect()
    }

    /// One whose positions are rotary, so that it embeds tokens only.
    pub fn rotary(token_embedding: WeightId, layers: Vec<Layer>, final_norm: Option<Norm>) -> Self {
        Self { token_embedding, embeddings: Vec::new(), embedding_norm: None, layers, final_norm }
    }

    /// Whether there is a table for these positions.
    pub fn embeds(&self, along: Along) -> bool {
        self.embeddings.iter().any(|&(_, other)| other == along)
    }

    /// Hidden states `[T, hidden]` of a batch.
    pub fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let tokens = (pass.table(self.token_embedding), &pass.tokens);
        let others = self.embeddings.iter().map(|&(table, along)| (pass.table(table), pass.ids(along)));
        let mut x = pass.with_ngrams(kernels::embedding_sum(tokens, others));
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(pass, x);
        }
        x = pass.to_stream(x);
        if let Some(dropout) = pass.embedding_dropout() {
            x = kernels::dropout(x, &dropout);
        }
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(pass, x));
        match &self.final_norm {
            Some(norm) => norm.forward(pass, x),
            None => x,
        }
    }
}
