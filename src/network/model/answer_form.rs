//! How a prompt and its answer are laid out for a family's models.

/// Layout of a prompt and its answer in one sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerForm {
    /// `[CLS] before [MASK]… after [SEP]`, seen in both directions: the answer stands in the masks, all of which are
    /// predicted at once (BERT).
    Cloze,
    /// `[CLS] prompt answer` with causal attention (GPT-2).
    Causal,
    /// The same with the prompt seen in both directions (prefix LM).
    Prefix,
    /// `source [SEP] answer` with the source and its end seen in both directions: nothing stands before it (Marian, as its
    /// checkpoints have it).
    Source,
    /// GLM's blank infilling with 2D positions: `[CLS] before [MASK] after [SEP] <sop> answer` for a word, and
    /// `[CLS] prompt [gMASK] <sop> answer` for a text.
    Infilling,
    /// ChatGLM's: `prompt [gMASK] <sop> answer` with the prompt seen in both directions and 2D positions; for a word
    /// within the prompt, `[MASK]` stands in its place.
    Chatglm,
    /// ChatGLM2's and later: `[gMASK] <sop> prompt answer` with causal attention.
    Chatglm2,
}

impl AnswerForm {
    /// The layout of a checkpoint from elsewhere, whose tokenizer may have something that begins a text or not.
    #[must_use]
    pub fn of_checkpoint(self, begins_texts: bool) -> Self {
        if self == Self::Prefix && !begins_texts { Self::Source } else { self }
    }

    /// Whether an answer can only follow its prompt, so that nothing may stand behind it.
    pub fn answers_last(self) -> bool {
        matches!(self, Self::Causal | Self::Prefix | Self::Source | Self::Chatglm2)
    }

    /// Whether attention is causal throughout.
    pub fn is_causal(self) -> bool {
        matches!(self, Self::Causal | Self::Chatglm2)
    }

    /// Whether answers are generated token by token, rather than predicted in one pass.
    pub fn generates(self) -> bool {
        self != Self::Cloze
    }
}
