//! Which matrix gives the logits: the table of embeddings, which most models have tied to their head, or the head's own.
//!
//! As in Hugging Face's library (`PreTrainedModel.tie_weights`) the file has the last word: a head whose values aren't the
//! table's is used whatever the config says, and of a tied matrix either name will do.

use super::{
    builder::Builder,
    ids::{WeightId, WeightRole},
    initial::Initial,
};

/// The head of a family whose config can tie it to the table of embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Its name in checkpoints.
    head: &'static str,
    place: OutputPlace,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OutputPlace {
    /// It's the table of embeddings.
    Tied,
    /// It's a matrix of its own.
    Own,
    /// There is none: a checkpoint of a classifier.
    Nowhere,
}

impl Output {
    /// Finds the `head` of a checkpoint, before the `table` of embeddings is added; `tied` as the config has it. A checkpoint
    /// with the tensor `instead` may have none.
    pub fn find(builder: &mut Builder, table: &str, head: &'static str, tied: bool, instead: Option<&str>) -> Self {
        let place = match tied {
            true if builder.ties(table, head) => OutputPlace::Tied,
            true => OutputPlace::Own,
            false if !builder.has(head) && instead.is_some_and(|instead| builder.has(instead)) => OutputPlace::Nowhere,
            false => OutputPlace::Own,
        };
        Self { head, place }
    }

    /// Whether it's the table of embeddings.
    pub fn is_tied(self) -> bool {
        self.place == OutputPlace::Tied
    }

    /// Whether there is one.
    pub fn exists(self) -> bool {
        self.place != OutputPlace::Nowhere
    }

    /// The matrix `[vocabulary, hidden]`; `table` where there is none of its own.
    pub fn matrix(self, builder: &mut Builder, table: WeightId, shape: [usize; 2], initial: Initial) -> WeightId {
        match self.place {
            OutputPlace::Own => {
                builder.in_role(WeightRole::Head, |builder| builder.table(self.head.into(), shape, initial))
            }
            OutputPlace::Tied | OutputPlace::Nowhere => table,
        }
    }
}
