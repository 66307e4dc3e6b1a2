//! Examples, and the batches they're laid out in: everything the device needs, in plain vectors.

mod layout;
mod parts;
mod schedule;

use anyhow::Result;

pub use layout::{Layout, lay_out};
pub use parts::Portion;
pub use schedule::{BatchSampler, BatchSize, Batching, StepIndices, batch_ranges};

/// Where a training loop gets its steps from. A step is a function of its number, so that training can begin anywhere
/// and another thread can prepare the next step.
pub trait Feed: Send + Sync {
    /// Steps in all.
    fn steps(&self) -> usize;

    /// What a step sees.
    ///
    /// # Errors
    ///
    /// Where the text can't be read.
    fn step(&self, step: usize) -> Result<Step>;

    /// Steps of about one pass over the data.
    fn epoch_steps(&self) -> usize {
        self.steps()
    }
}

/// What one step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Batches whose gradients are added up; none of them is empty.
    pub batches: Vec<Batch>,
    /// What is learned, for the log, such as `masked_lm+sentence_order`.
    pub objective: String,
    /// Factor on the loss of sentence pairs.
    pub pair_weight: f32,
}

/// One sequence with what is to be learned from it.
///
/// All vectors but `targets` and `choices` have one entry a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Identifies the example within its data set; dropout derives from it.
    pub id: u64,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Position in the text; GLM: of generated tokens, the position of their mask.
    pub positions: Vec<u32>,
    /// GLM's second position: 0 in the text, 1… within a generated span.
    pub block_positions: Vec<u32>,
    /// BERT's token types: 0 in segment A, 1 in segment B. Empty where all are 0.
    pub segments: Vec<u32>,
    /// Token `q` sees the keys `[0, visible[q])` of this example.
    pub span_ends: Vec<u32>,
    /// Tokens to predict over the whole vocabulary.
    pub targets: Vec<Target>,
    /// Tokens to predict among a few candidates (a prompt's label words).
    pub choices: Vec<Choice>,
    /// Sentence-pair judgement at token 0: 0 = in order, 1 = not.
    pub pair: Option<u32>,
    /// Class for a linear head.
    pub class: Option<u32>,
}

impl Example {
    /// A sequence whose positions run through. Its first `prefix` tokens are visible to all (all of them: attention in
    /// both directions), and beyond them each token sees those before it and itself (`prefix` = 0: causal attention).
    pub fn sequence(id: u64, tokens: Vec<u32>, prefix: usize) -> Self {
        let length = tokens.len() as u32;
        let prefix = (prefix as u32).min(length);
        Self {
            id,
            tokens,
            positions: (0..length).collect(),
            block_positions: vec![0; length as usize],
            span_ends: (0..length).map(|index| prefix.max(index + 1)).collect(),
            ..Self::default()
        }
    }
}

/// A token to predict from the hidden state at a position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// Index of the hidden state, within the example.
    pub at: u32,
    /// The token to predict.
    pub token: u32,
}

/// A choice among the candidates of a node of the label trie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Index of the hidden state, within the example.
    pub at: u32,
    /// The node; its candidates are a property of the task.
    pub node: u32,
    /// Index of the right candidate within the node's.
    pub gold: u32,
}

/// Examples laid out for a device: `rows * width` token slots, of which the unused ones see no keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Rows; 1 on the CPU, where examples lie one after the other without padding.
    pub rows: usize,
    /// Token slots per row.
    pub width: usize,
    /// Token ids; padding has 0.
    pub tokens: Vec<u32>,
    /// Positions.
    pub positions: Vec<u32>,
    /// GLM's second positions.
    pub block_positions: Vec<u32>,
    /// BERT's token types; empty where all are 0.
    pub segments: Vec<u32>,
    /// First visible key of each token, as an index into the whole batch.
    pub span_starts: Vec<u32>,
    /// One past the last visible key; equal to `span_starts` for padding.
    pub span_ends: Vec<u32>,
    /// Per-token key that dropout masks derive from.
    pub dropout_keys: Vec<u32>,
    /// Where each example lies: start and length.
    pub examples: Vec<SlotRange>,
    /// Targets, `at` counted from the start of the batch.
    pub targets: Vec<Target>,
    /// Choices, `at` counted from the start of the batch.
    pub choices: Vec<Choice>,
    /// Sentence-pair labels, one an example, or none at all.
    pub pairs: Vec<u32>,
    /// Classes, one an example, or none at all.
    pub classes: Vec<u32>,
}

/// A run of token slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotRange {
    /// Index of the first, in the whole batch.
    pub start: u32,
    /// How many.
    pub length: u32,
}
