//! The input for generating text: a prompt, and what was generated so far.

use anyhow::{Result, ensure};

use super::{
    Specials,
    form::{Form, feed},
};
use crate::{
    batch::Example,
    recipe::spec::{Generative, Objective},
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
}

/// The sequence whose last hidden state predicts the next token; `<eop>` there ends the text. The beginning of a prompt
/// that is too long for `max_length` is left out.
///
/// # Errors
///
/// Where what was generated already fills the sequence.
pub fn input(form: Form, prompt: &[u32], generated: &[u32], max_length: usize, specials: &Specials) -> Result<Example> {
    let taken = form.text(0, &[], specials).example.tokens.len() + generated.len();
    ensure!(taken <= max_length, "the text has reached the longest sequence, {max_length} tokens");
    let prompt = &prompt[prompt.len().saturating_sub(max_length - taken)..];
    let mut example = form.text(0, prompt, specials).example;
    feed(&mut example, generated);
    Ok(example)
}
