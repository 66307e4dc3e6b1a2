//! What each family of models can do. This table is the one place that says so: recipes are checked against it, and
//! the stages read from it how a family is asked and spoken to.

use super::AttentionPattern;
use crate::spec::ChatFormat;

/// What a family of models can do.
#[derive(Debug)]
pub struct Family {
    /// Its name in recipes.
    pub name: &'static str,
    /// What its attention can be made to do: it can learn the objectives that ask for one of these.
    pub attention: &'static [AttentionPattern],
    /// How its answer to a prompt stands in a sequence.
    pub form: AnswerForm,
    /// The chat format that it's spoken to in by default; none where it can't write.
    pub chat: Option<ChatFormat>,
}

/// How a prompt and its answer stand in a sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerForm {
    /// `[CLS] before [MASK]… after [SEP]`, seen in both directions: the answer stands in the masks, all of which are
    /// read at once (BERT).
    Cloze,
    /// `[CLS] prompt answer`, each token seeing those before it (GPT-2).
    Causal,
    /// The same with the prompt seen in both directions.
    Prefix,
    /// GLM's blank infilling with 2D positions: `[CLS] before [MASK] after [SEP] <sop> answer` for a word, and
    /// `[CLS] prompt [gMASK] <sop> answer` for a text.
    Infilling,
    /// ChatGLM's: `prompt [gMASK] <sop> answer` with the prompt seen in both directions and 2D positions; a word within
    /// the prompt is asked for by `[MASK]` in its place.
    Chatglm,
    /// ChatGLM2's and later: `[gMASK] <sop> prompt answer`, each token seeing those before it.
    Chatglm2,
}

impl AnswerForm {
    /// Whether an answer can only follow its prompt, so that nothing may stand behind it.
    pub fn answers_last(self) -> bool {
        matches!(self, Self::Causal | Self::Prefix | Self::Chatglm2)
    }

    /// Whether each token sees only those before it.
    pub fn is_causal(self) -> bool {
        matches!(self, Self::Causal | Self::Chatglm2)
    }
}

/// The table.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "glm",
        attention: AttentionPattern::ALL,
        form: AnswerForm::Infilling,
        chat: Some(ChatFormat::Chatglm),
    },
    Family { name: "bert", attention: &[AttentionPattern::Bidirectional], form: AnswerForm::Cloze, chat: None },
    Family {
        name: "gpt2",
        attention: &[AttentionPattern::Causal],
        form: AnswerForm::Causal,
        chat: Some(ChatFormat::Chatglm2),
    },
    Family {
        name: "chatglm",
        attention: AttentionPattern::ALL,
        form: AnswerForm::Chatglm,
        chat: Some(ChatFormat::Chatglm),
    },
    Family {
        name: "chatglm2",
        attention: &[AttentionPattern::Causal],
        form: AnswerForm::Chatglm2,
        chat: Some(ChatFormat::Chatglm2),
    },
    Family {
        name: "glm4",
        attention: &[AttentionPattern::Causal],
        form: AnswerForm::Chatglm2,
        chat: Some(ChatFormat::Glm4),
    },
    Family { name: "transformer", attention: &[AttentionPattern::Prefix], form: AnswerForm::Prefix, chat: None },
];

impl Family {
    /// The family of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }
}
