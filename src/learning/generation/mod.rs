//! Writing token by token: choosing the next one, when to end, and showing text as it grows.

mod config;
mod sampling;
mod stream;

use anyhow::Result;

pub use config::GenerationDefaults;
pub use sampling::Sampling;
pub use stream::{TextPiece, TextStream};

use crate::{
    learning::objectives::form::feed,
    network::{
        batch::Example,
        model::{KvCache, Network},
    },
    support::random::Key,
};

/// How an answer is written.
#[derive(Clone, Debug)]
pub struct GenerationSettings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the choices.
    pub seed: u64,
    /// Tokens to write at most.
    pub max_tokens: usize,
    /// Tokens to write at least; before that no token that ends a text is chosen.
    pub min_tokens: usize,
    /// Strings that end the text, and don't belong to it.
    pub stop: Vec<String>,
}

/// What tokens mean to a model that writes.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// Tokens that aren't text.
    pub forbidden: Vec<u32>,
    /// Tokens that the tokenizer knows; a model may have room for more.
    pub size: usize,
}

impl Vocabulary {
    /// Leaves the logits of tokens that may come next.
    fn restrict(&self, logits: &mut [f32], may_end: bool) {
        let ends = self.ends.iter().filter(|_| !may_end);
        for &id in self.forbidden.iter().filter(|id| !self.ends.contains(id)).chain(ends) {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(unknown) = logits.get_mut(self.size..) {
            unknown.fill(f32::NEG_INFINITY);
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FinishReason {
    /// The model ended it.
    Token,
    /// One of the stop strings came.
    Stop,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// It fills the longest sequence that the model reads.
    MaxLength,
    /// Whoever reads it has had enough.
    Interrupted,
}

impl FinishReason {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "end",
            Self::Stop => "stop",
            Self::MaxTokens => "max_tokens",
            Self::MaxLength => "max_length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Adds tokens to a sequence of at most `max_length` until there's a reason to end; `each` is given every one of them,
/// and may have such a reason.
///
/// # Errors
/// If the sequence doesn't fit the model, or what `each` gives.
pub fn extend(
    network: &Network,
    cache: &mut KvCache,
    example: &mut Example,
    max_length: usize,
    vocabulary: &Vocabulary,
    settings: &GenerationSettings,
    each: &mut dyn FnMut(u32) -> Result<Option<FinishReason>>,
) -> Result<FinishReason> {
    let key = Key::new(settings.seed).with("generate");
    for step in 0..settings.max_tokens {
        if example.tokens.len() > max_length {
            return Ok(FinishReason::MaxLength);
        }
        let mut logits = network.next_logits(example, cache)?;
        vocabulary.restrict(&mut logits, step >= settings.min_tokens);
        let token = settings.sampling.choose(logits, &example.tokens, key.at(step as u64).f64())?;
        if vocabulary.ends.contains(&token) {
            return Ok(FinishReason::Token);
        }
        feed(example, &[token]);
        if let Some(end) = each(token)? {
            return Ok(end);
        }
    }
    Ok(FinishReason::MaxTokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn tokens_that_are_no_text_are_never_chosen() {
        let vocabulary = Vocabulary { ends: vec![1], forbidden: vec![0, 1, 2], size: 4 };
        let mut logits = [5.0; 6];
        vocabulary.restrict(&mut logits, true);
        assert_eq!(logits, [NO, 5.0, NO, 5.0, NO, NO]);
        // Too early for an end.
        let mut logits = [5.0; 6];
        vocabulary.restrict(&mut logits, false);
        assert_eq!(logits, [NO, NO, NO, 5.0, NO, NO]);
    }

    #[test]
    fn vocabularies_larger_than_the_model_are_fine() {
        let vocabulary = Vocabulary { ends: vec![8], forbidden: vec![9], size: 10 };
        let mut logits = [5.0; 3];
        vocabulary.restrict(&mut logits, false);
        assert_eq!(logits, [5.0; 3]);
    }
}
