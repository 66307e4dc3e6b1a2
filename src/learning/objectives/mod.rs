//! Training objectives: documents, rows and conversations to training examples with targets. No tensors: an objective
//! makes an [`Example`](crate::network::batch::Example).
//!
//! [`OBJECTIVES`] lists the pretraining objectives. To add one, write a file with its [`Definition`] (name, settings,
//! attention pattern, version) and a line in that list; the shortest example is `causal_lm.rs`. Documents are cut into
//! [`windows`], the objective's [`definition::Examples`] makes an example of each window, and [`mix`] draws an entry of the
//! recipe's mix for each step; an entry may combine several objectives ([`parts`]).
//!
//! Finetuning objectives are [`classification`] (by [`prompt`] with [`labels`], or a linear head; templates may name
//! special tokens, see [`control`]) and [`instruction`].
//!
//! The layout of a prompt and its answer depends on the family ([`form`]): most sequences begin with `[CLS]`; prompts of
//! ChatGLM end with `[gMASK]`, and sequences of ChatGLM2 and later begin with `[gMASK] <sop>`.

pub mod blank_infilling;
pub mod causal_lm;
pub mod classification;
pub mod control;
pub mod conversation;
mod corpus;
pub mod definition;
mod entry;
pub mod feed;
pub mod form;
pub mod held_out;
pub mod instruction;
pub mod labels;
pub mod masked_lm;
pub mod mix;
pub mod pairs;
pub mod parts;
pub mod prefix_lm;
pub mod prompt;
pub mod span_corruption;
pub mod windows;
pub mod words;

use crate::{
    network::batch::{BatchSize, Batching, Layout},
    spec,
    support::Registry,
};

pub use crate::data::text::Specials;
pub use classification::Classifier;
pub use conversation::Conversation;
pub use corpus::{Corpus, TokenizedDocument, TokenizedText};
pub use definition::Definition;
pub use entry::TooSmall;
pub use feed::RowFeed;
pub use form::{AnswerForm, PromptKind};
pub use held_out::HeldOut;
pub use instruction::InstructionEncoder;
pub use mix::Mix;
pub use prompt::ColumnLookup;

/// The objectives, in the order in which messages and names list them.
pub static OBJECTIVES: Registry<Definition> = Registry::new(&[
    &masked_lm::DEFINITION,
    &pairs::NEXT_SENTENCE,
    &pairs::SENTENCE_ORDER,
    &causal_lm::DEFINITION,
    &prefix_lm::DEFINITION,
    &blank_infilling::DEFINITION,
    &span_corruption::DEFINITION,
]);

impl From<&spec::Batch> for BatchSize {
    fn from(batch: &spec::Batch) -> Self {
        match batch {
            spec::Batch::Examples(n) => Self::Examples(*n),
            spec::Batch::Tokens(n) => Self::Tokens(*n),
        }
    }
}

impl From<&spec::Train> for Batching {
    fn from(train: &spec::Train) -> Self {
        Self { size: (&train.batch).into(), accumulate: train.accumulate, sorted: !train.packing }
    }
}

impl Layout {
    /// The rectangular layout that a recipe asks for.
    pub fn rows(train: &spec::Train) -> Self {
        Self::Rows { width: train.max_length, packing: train.packing }
    }
}
