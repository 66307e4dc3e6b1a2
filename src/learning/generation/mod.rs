//! Text generation: sampling the next token, deciding when to stop, and streaming text as it grows.
//!
//! [`extend`] is the loop; [`Sampling`] chooses a token from logits, [`TextStream`] decodes tokens into text.

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

/// Settings of text generation.
#[derive(Clone, Debug)]
pub struct GenerationSettings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of the choices.
    pub seed: u64,
    /// Maximum number of new tokens.
    pub max_tokens: usize,
    /// Minimum number of new tokens; before that no end token is chosen.
    pub min_tokens: usize,
    /// Stop strings: they end the text, and aren't part of it.
    pub stop: Vec<String>,
}

/// Which tokens a model may generate.
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

/// Why generation stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FinishReason {
    /// The model generated an end token.
    Token,
    /// A stop string was generated.
    Stop,
    /// The maximum number of new tokens was reached.
    MaxTokens,
    /// The model's context is full.
    MaxLength,
    /// Interrupted by the caller.
    Interrupted,
}

impl FinishReason {
    /// Its name in JSON.
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

/// Generates tokens after a sequence of at most `max_length` until there's a reason to stop; `each` gets every token, and
/// may return such a reason.
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
