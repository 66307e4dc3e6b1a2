//! How text is to be generated.

use anyhow::{Result, ensure};

use super::{rules::Rules, sampling::Sampling};

/// Settings of text generation.
#[derive(Clone, Debug)]
pub struct GenerationSettings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which may be chosen.
    pub rules: Rules,
    /// How many texts are followed at a time.
    pub beams: Beams,
    /// Seed of the choices.
    pub seed: u64,
    /// Maximum number of new tokens.
    pub max_tokens: usize,
    /// The most tokens of a text with its prompt (of the target, where an encoder reads the source), if that's limited.
    pub max_length: Option<usize>,
    /// Minimum number of new tokens; before that no end token is chosen.
    pub min_tokens: usize,
    /// Stop strings: they end the text, and aren't part of it.
    pub stop: Vec<String>,
}

impl GenerationSettings {
    /// Those of a seed and so many tokens, with nothing else wanted.
    pub fn new(sampling: Sampling, seed: u64, max_tokens: usize) -> Self {
        let (rules, beams, stop) = (Rules::default(), Beams::default(), Vec::new());
        Self { sampling, rules, beams, seed, max_tokens, max_length: None, min_tokens: 0, stop }
    }
}

/// How beams are followed, under transformers' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// How many; 1 for no search.
    pub num_beams: usize,
    /// The power of its length that a text's logarithmic probability is divided by: above 0 longer texts are favoured.
    pub length_penalty: f64,
    /// When no better text is waited for.
    pub early_stopping: EarlyStopping,
    /// How many texts are wanted of a prompt.
    pub num_return_sequences: usize,
}

/// When a search ends before the greatest length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EarlyStopping {
    /// When the likeliest text in the making, at its length of now, is no better than the worst that has ended.
    No,
    /// As soon as there are as many ended texts as beams.
    Yes,
    /// When none can be better.
    Never,
}

impl Default for Beams {
    fn default() -> Self {
        Self { num_beams: 1, length_penalty: 1.0, early_stopping: EarlyStopping::No, num_return_sequences: 1 }
    }
}

impl Beams {
    /// # Errors
    /// What can't be had together; `draws` tells whether tokens are drawn.
    pub fn check(&self, draws: bool) -> Result<()> {
        let Self { num_beams, length_penalty, num_return_sequences, .. } = *self;
        ensure!(num_beams > 0 && num_return_sequences > 0, "there is no search with 0 beams, or for 0 texts");
        ensure!(length_penalty.is_finite(), "a length penalty of {length_penalty} isn't possible; it's a number");
        let fine = if num_beams > 1 { num_return_sequences <= num_beams } else { draws || num_return_sequences == 1 };
        ensure!(
            fine,
            "{num_return_sequences} texts of a prompt can't be had of {}: they're drawn with a temperature above 0, or are \
             the best of at least as many beams",
            if num_beams > 1 { format!("{num_beams} beams") } else { "the likeliest tokens alone".to_owned() }
        );
        Ok(())
    }
}
