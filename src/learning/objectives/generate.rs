//! The inputs for generating text: a prompt to continue, or a text with blanks to fill.

use anyhow::{Result, ensure};

use super::{Specials, form::Form};
use crate::{
    network::batch::Example,
    spec::{Generative, Objective},
};

impl Form {
    /// The form that an objective teaches, if it teaches to generate.
    pub fn of(objective: &Objective) -> Option<Self> {
        objective.generative.as_ref().map(|generative| match generative {
            Generative::CausalLm(_) => Self::Causal,
            Generative::PrefixLm(_) => Self::Prefix,
            Generative::BlankInfilling(_) => Self::Infilling,
        })
    }

    /// Whether blanks within a text can be filled.
    pub fn fills(self) -> bool {
        matches!(self, Self::Infilling | Self::Chatglm)
    }
}

/// The sequence whose last hidden state predicts the first token after the prompt; [`feed`](super::form::feed) adds
/// those that follow. The beginning of a prompt that doesn't fit into `most` tokens is left out.
///
/// # Errors
///
/// Where not even an empty prompt fits.
pub fn continuation(form: Form, prompt: &[u32], most: usize, specials: &Specials) -> Result<Example> {
    let frame = form.text(0, &[], specials).example.tokens.len();
    ensure!(frame <= most, "there is room for {most} tokens, and an empty prompt takes {frame}");
    let prompt = &prompt[prompt.len().saturating_sub(most - frame)..];
    Ok(form.text(0, prompt, specials).example)
}

/// The context of a text with masks in it, and where in it the masks stand. [`begin`](super::form::begin) begins the
/// answer for a blank; each is seen by those after it.
pub fn blanks(form: Form, text: &[u32], specials: &Specials) -> (Example, Vec<u32>) {
    let Specials { cls, sep, mask, gmask, smask, .. } = *specials;
    let context = match form {
        Form::Infilling => [&[cls], text, &[sep]].concat(),
        _ => text.to_vec(),
    };
    let masks = (0..).zip(&context).filter(|(_, token)| [mask, gmask, smask].contains(token));
    let places = masks.map(|(place, _)| place).collect();
    let length = context.len();
    (Example::sequence(0, context, length), places)
}
