//! Prompt layouts of the families: the sequence of a prompt, and where the answer goes, after it or in blanks within it.

use anyhow::{Result, ensure};

use super::Specials;
use crate::{data::text::Special, network::batch::Example};

pub use crate::network::model::AnswerForm;

/// Which kind of sequence a prompt becomes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PromptKind {
    /// A prompt for one word: [`AnswerForm::word`].
    Word,
    /// A prompt for text: [`AnswerForm::text`].
    Text,
    /// No prompt, plain text: [`AnswerForm::plain`].
    Plain,
}

/// A prompt's sequence.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The tokens up to where the answer begins, or with the masks that it stands in.
    pub example: Example,
    /// Index of the hidden state that predicts the answer's first token; each token after that is predicted by the
    /// next one.
    pub at: u32,
}

impl Prompt {
    /// Before an answer that follows all of it.
    fn open(example: Example) -> Self {
        let at = (example.tokens.len() as u32).saturating_sub(1);
        Self { example, at }
    }
}

impl AnswerForm {
    /// Whether the answer is generated autoregressively; if not, all its tokens are predicted at once.
    pub fn feeds(self) -> bool {
        self != Self::Cloze
    }

    /// Whether blanks within a text can be filled.
    pub fn fills(self) -> bool {
        matches!(self, Self::Infilling | Self::Chatglm)
    }

    /// The special tokens that its sequences take.
    pub fn needs(self, kind: PromptKind) -> &'static [Special] {
        use Special::{Cls, Eop, Gmask, Mask, Sep, Sop};
        match (self, kind) {
            (Self::Cloze, PromptKind::Word) => &[Cls, Mask, Sep],
            (Self::Infilling, PromptKind::Word) => &[Cls, Mask, Sep, Sop, Eop],
            (Self::Infilling, PromptKind::Text) => &[Cls, Gmask, Sop, Eop],
            (Self::Chatglm, PromptKind::Word) => &[Mask, Gmask, Sop, Eop],
            (Self::Chatglm | Self::Chatglm2, _) => &[Gmask, Sop, Sep, Eop],
            (Self::Causal | Self::Prefix, PromptKind::Word | PromptKind::Text) => &[Cls, Eop],
            (Self::Source, _) => &[Sep],
            (Self::Cloze | Self::Causal | Self::Prefix | Self::Infilling, _) => &[Cls, Sep],
        }
    }

    /// A prompt for a word of at most `width` tokens between `before` and `after`. What stands `after` is
    /// left out where [an answer comes last](AnswerForm::answers_last).
    pub fn word(self, id: u64, before: &[u32], after: &[u32], width: usize, specials: &Specials) -> Prompt {
        let Specials { cls, sep, mask, .. } = *specials;
        match self {
            Self::Cloze => {
                let blank = vec![mask; width];
                let tokens = [&[cls], before, &blank, after, &[sep]].concat();
                let length = tokens.len();
                Prompt { example: Example::sequence(id, tokens, length), at: 1 + before.len() as u32 }
            }
            Self::Infilling => blank(id, [&[cls], before, &[mask], after, &[sep]].concat(), 1 + before.len(), specials),
            Self::Chatglm if !after.is_empty() => blank(id, [before, &[mask], after].concat(), before.len(), specials),
            Self::Causal | Self::Prefix | Self::Source | Self::Chatglm | Self::Chatglm2 => {
                self.text(id, before, specials)
            }
        }
    }

    /// A prompt that is to be continued.
    pub fn text(self, id: u64, prompt: &[u32], specials: &Specials) -> Prompt {
        let Specials { cls, sep, gmask, sop, .. } = *specials;
        let open = |beginning: &[u32], prefix: usize| {
            let tokens = [beginning, prompt].concat();
            let prefix = prefix.min(tokens.len());
            Prompt::open(Example::sequence(id, tokens, prefix))
        };
        match self {
            Self::Causal => open(&[cls], 0),
            Self::Prefix | Self::Cloze => open(&[cls], usize::MAX),
            Self::Source => {
                let tokens = [prompt, &[sep]].concat();
                let length = tokens.len();
                Prompt::open(Example::sequence(id, tokens, length))
            }
            Self::Chatglm2 => open(&[gmask, sop], 0),
            Self::Infilling => blank(id, [&[cls], prompt, &[gmask]].concat(), 1 + prompt.len(), specials),
            Self::Chatglm => blank(id, [prompt, &[gmask]].concat(), prompt.len(), specials),
        }
    }

    /// A text to encode rather than to continue.
    pub fn plain(self, id: u64, text: &[u32], specials: &Specials) -> Example {
        match self {
            Self::Source | Self::Chatglm | Self::Chatglm2 => self.text(id, text, specials).example,
            Self::Cloze | Self::Causal | Self::Prefix | Self::Infilling => plain(id, text, specials),
        }
    }

    /// The tokens that begin a text in autoregressive training.
    pub fn beginning(self, specials: &Specials) -> Vec<u32> {
        match self {
            Self::Chatglm2 => vec![specials.gmask, specials.sop],
            Self::Source => Vec::new(),
            Self::Cloze | Self::Causal | Self::Prefix | Self::Infilling | Self::Chatglm => vec![specials.cls],
        }
    }

    /// The tokens between a prompt that is seen in both directions and what continues it.
    pub fn behind(self, specials: &Specials) -> Vec<u32> {
        if self == Self::Source { vec![specials.sep] } else { Vec::new() }
    }

    /// The token that ends an answer.
    pub fn end(self, specials: &Specials) -> u32 {
        match self {
            Self::Cloze | Self::Source | Self::Chatglm2 => specials.sep,
            Self::Causal | Self::Prefix | Self::Infilling | Self::Chatglm => specials.eop,
        }
    }
}

/// `[CLS] text [SEP]`, with attention in both directions and nothing to learn yet.
pub fn plain(id: u64, text: &[u32], specials: &Specials) -> Example {
    let tokens = [&[specials.cls], text, &[specials.sep]].concat();
    let length = tokens.len();
    Example::sequence(id, tokens, length)
}

/// A context that its tokens see in both directions, and `<sop>` for the blank at this place in it.
fn blank(id: u64, context: Vec<u32>, at: usize, specials: &Specials) -> Prompt {
    let length = context.len();
    let mut example = Example::sequence(id, context, length);
    begin(&mut example, at as u32, specials);
    Prompt::open(example)
}

/// Begins the answer for the blank at this place of the context: `<sop>`, behind all that is there.
pub fn begin(example: &mut Example, at: u32, specials: &Specials) {
    example.tokens.push(specials.sop);
    example.positions.push(at);
    example.block_positions.push(1);
    example.span_ends.push(example.tokens.len() as u32);
}

/// Appends tokens of an answer. Within a blank the block's position counts on and the blank's own stays; elsewhere
/// positions run through. Each token sees all before it.
pub fn feed(example: &mut Example, answer: &[u32]) {
    for &token in answer {
        let last = |positions: &[u32]| positions.last().copied();
        let (position, block) = match (last(&example.positions), last(&example.block_positions)) {
            (Some(position), Some(block)) if block > 0 => (position, block + 1),
            (position, _) => (position.map_or(0, |position| position + 1), 0),
        };
        example.tokens.push(token);
        example.positions.push(position);
        example.block_positions.push(block);
        example.span_ends.push(example.tokens.len() as u32);
    }
}

/// The sequence whose last hidden state predicts the first token after the prompt; [`feed`] adds
/// those that follow. The beginning of a prompt that doesn't fit into `most` tokens is left out.
///
/// # Errors
///
/// Where not even an empty prompt fits.
pub fn continuation(form: AnswerForm, prompt: &[u32], most: usize, specials: &Specials) -> Result<Example> {
    let frame = form.text(0, &[], specials).example.tokens.len();
    ensure!(frame <= most, "there is room for {most} tokens, and an empty prompt takes {frame}");
    let prompt = &prompt[prompt.len().saturating_sub(most - frame)..];
    Ok(form.text(0, prompt, specials).example)
}

/// The context of a text with masks in it, and where in it the masks stand. [`begin`] begins the
/// answer for a blank; each is seen by those after it.
pub fn blanks(form: AnswerForm, text: &[u32], specials: &Specials) -> (Example, Vec<u32>) {
    let Specials { cls, sep, mask, gmask, smask, .. } = *specials;
    let context = match form {
        AnswerForm::Infilling => [&[cls], text, &[sep]].concat(),
        _ => text.to_vec(),
    };
    let masks = (0..).zip(&context).filter(|(_, token)| [mask, gmask, smask].contains(token));
    let places = masks.map(|(place, _)| place).collect();
    let length = context.len();
    (Example::sequence(0, context, length), places)
}
