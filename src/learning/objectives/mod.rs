//! From documents or rows to examples with targets. No tensors: an objective is what stands in an
//! [`Example`](crate::network::batch::Example).
//!
//! Every sequence begins with `[CLS]`. Texts are cut into windows ([`windows`]), an objective makes an example of each
//! ([`masked_lm`], [`pairs`], [`causal_lm`], [`prefix_lm`], [`blank_infilling`]), and [`mix`] draws an objective a step.

pub mod blank_infilling;
pub mod causal_lm;
pub mod classification;
pub mod conversation;
mod entry;
pub mod feed;
pub mod form;
pub mod generate;
pub mod held_out;
pub mod instruction;
pub mod labels;
pub mod masked_lm;
pub mod mix;
pub mod pairs;
pub mod prefix_lm;
pub mod prompt;
pub mod windows;
pub mod words;

use std::{borrow::Cow, sync::Arc};

use anyhow::Result;

use crate::{
    network::batch::{Division, Layout, Size},
    spec,
};

pub use crate::data::text::Specials;
pub use classification::Classifier;
pub use conversation::Conversation;
pub use feed::RowFeed;
pub use form::{Asked, Form};
pub use held_out::HeldOut;
pub use instruction::Instructor;
pub use mix::Mix;
pub use prompt::Row;

/// Encoded documents.
pub trait Text: Send + Sync {
    /// How many documents there are.
    fn documents(&self) -> usize;

    /// A document by its index.
    ///
    /// # Errors
    ///
    /// Where it can't be read.
    fn document(&self, index: usize) -> Result<Document<'_>>;
}

/// One document.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Document<'a> {
    /// Token ids, without special tokens.
    pub tokens: Cow<'a, [u32]>,
    /// The end of each sentence in `tokens`, rising; what follows the last one counts as a sentence too.
    pub sentence_ends: Cow<'a, [u32]>,
}

impl Document<'_> {
    /// Whether a sentence ends just before this token.
    pub fn ends_sentence(&self, at: usize) -> bool {
        u32::try_from(at).is_ok_and(|at| self.sentence_ends.binary_search(&at).is_ok())
    }
}

/// What language models learn from: encoded documents, and what their ids mean.
#[derive(Clone)]
pub struct Corpus {
    /// The documents.
    pub text: Arc<dyn Text>,
    /// The piece that each id stands for, by id; only needed for masking whole words.
    pub vocabulary: Arc<[String]>,
    /// The special tokens.
    pub specials: Specials,
    /// How texts stand in the model's sequences.
    pub form: Form,
}

impl From<&spec::Batch> for Size {
    fn from(batch: &spec::Batch) -> Self {
        match batch {
            spec::Batch::Examples(n) => Self::Examples(*n),
            spec::Batch::Tokens(n) => Self::Tokens(*n),
        }
    }
}

impl From<&spec::Train> for Division {
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
