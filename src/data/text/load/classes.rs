//! What the classes of GLM's tokenizers know beside their files: the special tokens that come after the vocabulary, and
//! what they put around a text.

/// The roles of ChatGLM3 and GLM-4.
const ROLES: [&str; 4] = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// A class of tokenizers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    Bert,
    Chatglm,
    Chatglm2,
    Chatglm3,
    Glm4,
    GlmChinese,
    GlmGpt2,
    GlmBert,
    Other,
}

impl Class {
    /// The special tokens after the vocabulary, for directories whose files don't list them.
    pub(super) fn tokens(self) -> Vec<&'static str> {
        let blanks = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"];
        match self {
            Self::Chatglm2 => blanks.into(),
            Self::Chatglm3 => [&blanks[..], &ROLES].concat(),
            Self::Glm4 => [&["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"][..], &ROLES].concat(),
            Self::GlmChinese => vec![
                "<|endoftext|>",
                "[SEP]",
                "[CLS]",
                "[MASK]",
                "[UNK]",
                "[UNUSED1]",
                "<|startofpiece|>",
                "<|endofpiece|>",
                "[sMASK]",
                "[gMASK]",
                "[dBLOCK]",
            ],
            Self::GlmGpt2 => vec![
                "<|startofpiece|>",
                "<|endofpiece|>",
                "[CLS]",
                "[MASK]",
                "[SEP]",
                "[UNK]",
                "[gMASK]",
                "[sMASK]",
                "[dBLOCK]",
            ],
            Self::GlmBert => vec!["<|startofpiece|>", "<|endofpiece|>"],
            Self::Bert | Self::Chatglm | Self::Other => Vec::new(),
        }
    }

    /// What ends a text, where the class has its own mind.
    pub(super) fn end(self) -> Option<&'static str> {
        match self {
            Self::GlmChinese | Self::GlmGpt2 => Some("<|endoftext|>"),
            Self::GlmBert => Some("[PAD]"),
            _ => None,
        }
    }

    /// What stands around a text, and around two.
    pub(super) fn templates(self) -> Option<(String, String)> {
        let framed = |end: &str| (format!("[CLS] $A {end}"), format!("[CLS] $A {end} $B:1 {end}:1"));
        match self {
            Self::Bert => Some(framed("[SEP]")),
            Self::GlmChinese | Self::GlmGpt2 | Self::GlmBert => self.end().map(framed),
            Self::Chatglm => Some(("$A [gMASK] <sop>".into(), "$A [gMASK] <sop> $B <eop>".into())),
            Self::Chatglm2 | Self::Chatglm3 => Some(("[gMASK] sop $A".into(), "[gMASK] sop $A $B </s>".into())),
            Self::Glm4 => Some(("[gMASK] <sop> $A".into(), "[gMASK] <sop> $A $B <|endoftext|>".into())),
            Self::Other => None,
        }
    }
}
