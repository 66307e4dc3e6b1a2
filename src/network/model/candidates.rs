//! The label trie as the network sees it: for each node the tokens that may come next.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use crate::network::{
    batch::Choice,
    kernels::{self, RowIds},
};

/// The candidates of every node. Logits are computed for their union only.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// The union, ascending.
    tokens: Arc<[u32]>,
    /// For each node, where its candidates stand in the union.
    nodes: Vec<Vec<u32>>,
}

impl Candidates {
    /// From the candidates of each node, in the order that `Choice::gold` counts them in.
    ///
    /// # Errors
    /// A node without candidates.
    pub fn new(nodes: &[Vec<u32>]) -> Result<Self> {
        ensure!(nodes.iter().all(|node| !node.is_empty()), "a node of the label trie has no candidates");
        let union: BTreeMap<u32, u32> = nodes.iter().flatten().map(|&token| (token, 0)).collect();
        let union: BTreeMap<u32, u32> = union.into_keys().zip(0..).collect();
        let places = |node: &Vec<u32>| node.iter().map(|token| union[token]).collect();
        Ok(Self { nodes: nodes.iter().map(places).collect(), tokens: union.into_keys().collect() })
    }

    /// All candidates, as row numbers of the table of embeddings.
    pub(super) fn ids(&self, device: &Device) -> RowIds {
        RowIds::new(Arc::clone(&self.tokens), device)
    }

    /// The largest token.
    pub(super) fn largest(&self) -> u32 {
        self.tokens.last().copied().unwrap_or(0)
    }

    /// Where the candidates of a choice's node stand among [`Self::ids`].
    pub(super) fn places(&self, choice: &Choice) -> &[u32] {
        &self.nodes[choice.node as usize]
    }

    /// # Errors
    /// Choices at nodes or of candidates that don't exist.
    pub(super) fn check(&self, choices: &[Choice]) -> Result<()> {
        for Choice { node, gold, .. } in choices {
            let candidates = self.nodes.get(*node as usize).map_or(0, Vec::len);
            ensure!((*gold as usize) < candidates, "node {node} of the label trie has no candidate {gold}");
        }
        Ok(())
    }

    /// Log-probabilities `[choices, union]` from logits of the same shape, each row over its node's candidates; the
    /// others have none worth speaking of.
    pub(super) fn log_softmax(&self, logits: Tensor<2>, choices: &[Choice]) -> Tensor<2> {
        let [rows, columns] = logits.dims();
        let mut hidden = vec![true; rows * columns];
        for (choice, row) in choices.iter().zip(hidden.chunks_exact_mut(columns)) {
            self.places(choice).iter().for_each(|&place| row[place as usize] = false);
        }
        let hidden = Tensor::from_data(TensorData::new(hidden, [rows, columns]), &logits.device().inner());
        // Finite, so that a weight of 0 makes nothing of it.
        kernels::log_softmax(logits.mask_fill(hidden, -1e30))
    }
}
