//! The input for generating text: a prompt, and what was generated so far.

use anyhow::{Result, ensure};

use super::{Specials, blank_infilling::extend};
use crate::{
    batch::Example,
    recipe::spec::{Generative, Objective},
};

/// How a model was taught to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// `[CLS] prompt generated`, each token seeing those before it.
    Causal,
    /// The same with the prompt seen in both directions.
    Prefix,
    /// `[CLS] prompt [gMASK] <sop> generated` with GLM's 2D positions.
    Infilling,
}

impl Form {
    /// The form that an objective teaches, if it teaches to generate.
    pub fn of(objective: &Objective) -> Option<Self> {
        objective.generative.as_ref().map(|generative| match generative {
            Generative::CausalLm(_) => Self::Causal,
            Generative::PrefixLm(_) => Self::Prefix,
            Generative::BlankInfilling(_) => Self::Infilling,
        })
    }

    /// Tokens beside the prompt and what is generated.
    fn frame(self) -> usize {
        match self {
            Self::Causal | Self::Prefix => 1,
            Self::Infilling => 3,
        }
    }
}

/// The sequence whose last hidden state predicts the next token; `<eop>` there ends the text. The beginning of a prompt
/// that is too long for `max_length` is left out.
///
/// # Errors
///
/// Where what was generated already fills the sequence.
pub fn input(form: Form, prompt: &[u32], generated: &[u32], max_length: usize, specials: &Specials) -> Result<Example> {
    let taken = form.frame() + generated.len();
    ensure!(taken <= max_length, "the text has reached the longest sequence, {max_length} tokens");
    let prompt = &prompt[prompt.len().saturating_sub(max_length - taken)..];
    let text = [&[specials.cls], prompt].concat();
    let length = text.len();
    Ok(match form {
        Form::Causal => Example::sequence(0, [&text, generated].concat(), 0),
        Form::Prefix => Example::sequence(0, [&text, generated].concat(), length),
        Form::Infilling => {
            let mut example = Example::sequence(0, [text.as_slice(), &[specials.gmask]].concat(), length + 1);
            extend(&mut example, length as u32, std::iter::once(specials.sop).chain(generated.iter().copied()));
            example
        }
    })
}
