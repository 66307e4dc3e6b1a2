//! Training examples, and the batches they're laid out in: token ids, positions, attention spans and targets in plain
//! vectors, before anything goes to a device.
//!
//! Objectives make [`Example`]s; a [`BatchSampler`] chooses the examples of each step; [`lay_out`] puts them into a [`Batch`]
//! of slots, packed, padded or ragged; a [`Feed`] hands out [`Step`]s of batches to the training loop, which splits them
//! into [`Portion`]s for several devices or micro-batches.
//!
//! A feed also says what each example is [made of](MadeOf), and a batch can be [taken apart](Batch::take_apart) again: so
//! people can be shown what a model is given.

mod layout;
mod parts;
mod schedule;

use std::ops::Range;

use anyhow::Result;

pub use layout::{Layout, lay_out};
pub use parts::Portion;
pub use schedule::{BatchSampler, BatchSize, Batching, StepIndices, batch_ranges};

/// The source of training steps (a data loader). A step is a function of its number, so that training can resume at any
/// step and another thread can prepare the next one.
pub trait Feed: Send + Sync {
    /// The number of steps.
    fn steps(&self) -> usize;

    /// The batches of a step.
    ///
    /// # Errors
    ///
    /// Where the text can't be read.
    fn step(&self, step: usize) -> Result<Step>;

    /// Steps per epoch, about.
    fn epoch_steps(&self) -> usize {
        self.steps()
    }

    /// The names that its steps have, each once; none where they aren't known before the steps are made.
    fn objectives(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a step's examples are made of, without making them where the feed can do that.
    ///
    /// # Errors
    ///
    /// As [`Feed::step`].
    fn outline(&self, step: usize) -> Result<Outline> {
        let Step { batches, objective, .. } = self.step(step)?;
        let unknown = |batch: &Batch| vec![MadeOf::Unknown; batch.examples.len()];
        Ok(Outline { objective, batches: batches.iter().map(unknown).collect() })
    }

    /// What there is to say of a step's examples, given batch by batch, that they don't show themselves.
    ///
    /// # Errors
    ///
    /// As [`Feed::step`].
    fn remarks(&self, _step: usize, batches: &[Vec<Example>]) -> Result<Vec<Vec<Vec<Remark>>>> {
        Ok(batches.iter().map(|batch| vec![Vec::new(); batch.len()]).collect())
    }

    /// The losses that its steps' losses are the sums of, for each objective that steps have; nothing where all steps have
    /// one and the same.
    fn losses(&self) -> Vec<StepLosses> {
        Vec::new()
    }
}

/// What the examples of a step are made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outline {
    /// As in [`Step`].
    pub objective: String,
    /// For each batch, its examples in their order.
    pub batches: Vec<Vec<MadeOf>>,
}

/// What an example is made of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum MadeOf {
    /// A row.
    Row {
        /// Its number among all rows of the files, from 0.
        row: u64,
        /// Which of its examples, where it has several; 0 is its last one, or the only one.
        part: u64,
    },
    /// A run of a document's tokens.
    Text {
        /// The document, by its number in the corpora, from 0.
        document: u32,
        /// The places of the tokens in it.
        tokens: Range<u32>,
    },
    /// The feed doesn't say.
    Unknown,
}

impl MadeOf {
    /// Where in the id of a row's example its part begins; below stands the row's number.
    pub const PART: u32 = 40;

    /// What an example of this id is made of, where ids are those of rows.
    pub fn row(id: u64) -> Self {
        Self::Row { row: id & ((1 << Self::PART) - 1), part: id >> Self::PART }
    }

    /// The row's or the document's number, if the feed says what it is.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Row { row, .. } => Some(*row),
            Self::Text { document, .. } => Some(u64::from(*document)),
            Self::Unknown => None,
        }
    }
}

/// Something that an objective says of an example, such as the meaning of a pair's label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// What it's about, in a word.
    pub name: &'static str,
    /// What there is to say.
    pub text: String,
}

impl Remark {
    /// The name of what says what a pair's label means.
    pub const PAIR: &'static str = "pair";
}

/// The batches of one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Batches whose gradients are added up; none of them is empty.
    pub batches: Vec<Batch>,
    /// The objective's name for the log, such as `masked_lm+sentence_order`.
    pub objective: String,
    /// Weight of the sentence-pair loss.
    pub pair_weight: f32,
}

/// What the loss of a step is the sum of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepLosses {
    /// What its steps call it.
    pub objective: String,
    /// Names of the loss of tokens to predict and of that of pairs, where it's the sum of both.
    pub parts: Option<[String; 2]>,
}

/// One training sequence with its targets.
///
/// All vectors but `targets` and `choices` have one element per token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Identifies the example within its data set; dropout masks derive from it.
    pub id: u64,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Position in the text; GLM: of generated tokens, the position of their mask.
    pub positions: Vec<u32>,
    /// GLM's second position: 0 in the text, 1… within a generated span.
    pub block_positions: Vec<u32>,
    /// BERT's token types: 0 in segment A, 1 in segment B. Empty where all are 0.
    pub segments: Vec<u32>,
    /// Attention spans: token `q` attends to the keys `[0, span_ends[q])` of this example.
    pub span_ends: Vec<u32>,
    /// Tokens to predict over the whole vocabulary.
    pub targets: Vec<Target>,
    /// Tokens to predict among a few candidates (a prompt's label words).
    pub choices: Vec<Choice>,
    /// Sentence-pair label at token 0: 0 = in order, 1 = not.
    pub pair: Option<u32>,
    /// Class for a linear head.
    pub class: Option<u32>,
    /// What its label weighs in the loss beside the others; 1 where nothing is said.
    pub weight: Option<f32>,
    /// What a head is to say where that isn't one right answer: the probabilities of classes, or of each choice's candidates one
    /// choice after the other; for a head that says several things, each of them. Empty otherwise.
    pub wanted: Vec<f32>,
}

impl Example {
    /// A sequence with consecutive positions. Its first `prefix` tokens are attended to by all
    /// (all of them: bidirectional attention); each token after them attends to those before it and itself (`prefix` = 0:
    /// causal attention).
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

/// Examples laid out for a device: `rows * width` token slots; unused ones (padding) have empty attention spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Rows; 1 on the CPU, where examples lie one after the other without padding.
    pub rows: usize,
    /// Slots per row.
    pub width: usize,
    /// Token ids; padding has 0.
    pub tokens: Vec<u32>,
    /// Positions.
    pub positions: Vec<u32>,
    /// GLM's second positions.
    pub block_positions: Vec<u32>,
    /// BERT's token types; empty where all are 0.
    pub segments: Vec<u32>,
    /// Attention spans `[span_starts, span_ends)`: the first key that each token attends to, as a slot of the batch.
    pub span_starts: Vec<u32>,
    /// One past the last key; equal to `span_starts` for padding.
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
    /// What the examples' labels weigh in the loss, one an example, or none where all weigh 1.
    pub weights: Vec<f32>,
    /// What heads are to say where there isn't one right answer, as [`Example::wanted`], one list an example, or none at all.
    pub wanted: Vec<Vec<f32>>,
}

/// The slots of one example.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotRange {
    /// Index of the first, in the whole batch.
    pub start: u32,
    /// How many.
    pub length: u32,
}
