//! Text generation as transformers has it: what may come next, choosing it, deciding when to stop, and streaming text as it
//! grows.
//!
//! [`extend`] is the loop that writes token by token and [`search`] the one with beams; [`Rules`] and [`Sampling`] say which
//! token comes next, [`TextStream`] decodes tokens into text, and [`GenerationDefaults`] are what a checkpoint says of all this.

mod beams;
mod config;
mod rules;
mod sampling;
mod settings;
mod stream;

use anyhow::Result;

pub use beams::{Hypothesis, search};
pub use config::GenerationDefaults;
pub use rules::{Place, Rules};
pub use sampling::Sampling;
pub use settings::{Beams, EarlyStopping, GenerationSettings};
pub use stream::{TextPiece, TextStream};

use crate::{
    learning::objectives::form::feed,
    network::{
        batch::Example,
        model::{KvCache, Network},
    },
    support::random::Key,
};

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
    /// Leaves the scores of tokens that are text or end one.
    fn restrict(&self, scores: &mut [f32]) {
        for &id in self.forbidden.iter().filter(|id| !self.ends.contains(id)) {
            if let Some(score) = scores.get_mut(id as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        if let Some(unknown) = scores.get_mut(self.size..) {
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

/// What says how likely each token is to come next.
pub trait NextToken {
    /// Logits `[vocabulary]` after the last token of a sequence.
    ///
    /// # Errors
    /// A sequence that doesn't fit.
    fn next_logits(&self, example: &Example, cache: &mut KvCache) -> Result<Vec<f32>>;

    /// The token that a target begins with, where a decoder writes what an encoder has read.
    fn target_start(&self) -> Option<u32> {
        None
    }
}

impl NextToken for Network {
    fn next_logits(&self, example: &Example, cache: &mut KvCache) -> Result<Vec<f32>> {
        self.next_logits(example, cache)
    }

    fn target_start(&self) -> Option<u32> {
        self.architecture().target_start()
    }
}

/// What a text goes on from, in transformers' terms.
struct Beginning {
    /// The prompt's sequence.
    source: Vec<u32>,
    /// The token that a target begins with, where the prompt isn't a part of it.
    start: Option<u32>,
}

impl Beginning {
    fn new(model: &dyn NextToken, example: &Example) -> Self {
        Self { source: example.tokens.clone(), start: model.target_start() }
    }

    /// Length of what stands there before anything is written.
    fn length(&self) -> usize {
        self.start.map_or(self.source.len(), |_| 1)
    }

    /// What stands before the next token: of a target its beginning and what was written, or else the whole sequence.
    fn ids(&self, example: &Example) -> Vec<u32> {
        let written = &example.tokens[self.source.len().min(example.tokens.len())..];
        match self.start {
            Some(start) => [&[start], written].concat(),
            None => [&self.source, written].concat(),
        }
    }

    /// How many tokens may be written.
    fn most(&self, settings: &GenerationSettings) -> usize {
        let length = settings.max_length.map_or(usize::MAX, |length| length.saturating_sub(self.length()));
        settings.max_tokens.min(length)
    }

    /// The rules' part in the scores of what comes next.
    fn rule(&self, scores: &mut [f32], example: &Example, vocabulary: &Vocabulary, settings: &GenerationSettings) {
        vocabulary.restrict(scores);
        let ids = self.ids(example);
        settings.rules.apply(
            scores,
            &Place {
                ids: &ids,
                prompt: self.length(),
                source: &self.source,
                max_length: self.length().saturating_add(self.most(settings)),
                min_tokens: settings.min_tokens,
                ends: &vocabulary.ends,
            },
        );
    }
}

/// Generates tokens after a sequence of at most `max_length` until there's a reason to stop; `each` gets every token, and
/// may return such a reason.
///
/// # Errors
/// If the sequence doesn't fit the model, or what `each` gives.
pub fn extend(
    model: &dyn NextToken,
    cache: &mut KvCache,
    example: &mut Example,
    max_length: usize,
    vocabulary: &Vocabulary,
    settings: &GenerationSettings,
    each: &mut dyn FnMut(u32) -> Result<Option<FinishReason>>,
) -> Result<FinishReason> {
    let key = Key::new(settings.seed).with("generate");
    let beginning = Beginning::new(model, example);
    for step in 0..beginning.most(settings) {
        if example.tokens.len() > max_length {
            return Ok(FinishReason::MaxLength);
        }
        let mut scores = model.next_logits(example, cache)?;
        beginning.rule(&mut scores, example, vocabulary, settings);
        let token = settings.sampling.choose(&scores, key.at(step as u64).f64())?;
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

/// The tokens that may come next after a sequence with their probabilities, the likeliest first: what the next one is drawn
/// from.
///
/// # Errors
/// If the sequence doesn't fit the model, or nothing may come next.
pub fn distribution(
    model: &dyn NextToken,
    cache: &mut KvCache,
    example: &Example,
    vocabulary: &Vocabulary,
    settings: &GenerationSettings,
) -> Result<Vec<(u32, f64)>> {
    let mut scores = model.next_logits(example, cache)?;
    Beginning::new(model, example).rule(&mut scores, example, vocabulary, settings);
    settings.sampling.distribution(&scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn tokens_that_are_no_text_are_never_chosen() {
        let vocabulary = Vocabulary { ends: vec![1], forbidden: vec![0, 1, 2], size: 4 };
        let mut scores = [5.0; 6];
        vocabulary.restrict(&mut scores);
        assert_eq!(scores, [NO, 5.0, NO, 5.0, NO, NO]);
    }

    #[test]
    fn vocabularies_larger_than_the_model_are_fine() {
        let vocabulary = Vocabulary { ends: vec![8], forbidden: vec![9], size: 10 };
        let mut scores = [5.0; 3];
        vocabulary.restrict(&mut scores);
        assert_eq!(scores, [5.0; 3]);
    }
}
