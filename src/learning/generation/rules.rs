//! What may come next beside what the model says: the processors of scores that transformers applies before anything is
//! drawn, in its order (`_get_logits_processor` in `generation/utils.py` of 5.23, and `logits_process.py`).

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use crate::support::math;

/// Rules of what may come next, under transformers' names; by default none.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What is added to the score of a sequence's last token where those before it stand.
    pub sequence_bias: Vec<(Vec<u32>, f64)>,
    /// Tokens of the prompt (of the source, where an encoder reads it) are made likelier by this; 1 changes nothing.
    pub encoder_repetition_penalty: f64,
    /// Tokens that were there already are made less likely: positive scores are divided by this, negative ones
    /// multiplied (Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>). 1 changes nothing.
    pub repetition_penalty: f64,
    /// So many tokens in a row occur but once; 0 for any number of times.
    pub no_repeat_ngram_size: usize,
    /// So many tokens in a row of the prompt (of the source) don't occur; 0 if they may.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences that aren't written.
    pub bad_words: Vec<Vec<u32>>,
    /// The least length of a text with its prompt (of the target, where an encoder reads the source).
    pub min_length: usize,
    /// What a target begins with, where nothing stands before it but one token.
    pub forced_bos: Option<u32>,
    /// What a text ends with that reaches its greatest length; nothing for none.
    pub forced_eos: Vec<u32>,
    /// Whether numbers that aren't any are taken for 0, and infinite ones for the largest.
    pub remove_invalid_values: bool,
    /// From so many new tokens on, ends are made likelier by a power of this factor.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens that are never written.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that aren't written first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Whether what is left are probabilities again: beams are compared by them.
    pub renormalize_logits: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            sequence_bias: Vec::new(),
            encoder_repetition_penalty: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words: Vec::new(),
            min_length: 0,
            forced_bos: None,
            forced_eos: Vec::new(),
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            renormalize_logits: false,
        }
    }
}

/// A text in the making.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What stands before the next token: the prompt and what was written, or of an encoder's reader only the target.
    pub ids: &'a [u32],
    /// How many of these were there before anything was written.
    pub prompt: usize,
    /// The prompt, or what an encoder has read.
    pub source: &'a [u32],
    /// The length at which a text ends, in `ids`.
    pub max_length: usize,
    /// The least number of new tokens.
    pub min_tokens: usize,
    /// Tokens that end a text.
    pub ends: &'a [u32],
}

impl Rules {
    /// # Errors
    /// Numbers that mean nothing, and tokens that a vocabulary of this size doesn't have.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        for (what, value) in [
            ("repetition penalty", self.repetition_penalty),
            ("encoder's repetition penalty", self.encoder_repetition_penalty),
        ] {
            let fine = value.is_finite() && value > 0.0;
            ensure!(fine, "a {what} of {value} isn't possible; it's above 0, and 1 changes nothing");
        }
        let named = self.bad_words.iter().flatten().chain(self.sequence_bias.iter().flat_map(|(ids, _)| ids));
        let named = named.chain(&self.forced_bos).chain(&self.forced_eos);
        if let Some(id) = named.copied().find(|&id| id as usize >= vocabulary) {
            bail!("a rule of what may be written names token {id}, but the model's vocabulary has {vocabulary}");
        }
        Ok(())
    }

    /// Whether nothing is ruled.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes the scores of what may come next, but for [`Self::renormalize`].
    pub fn apply(&self, scores: &mut [f32], place: &Place<'_>) {
        let Place { ids, prompt, source, max_length, min_tokens, ends } = *place;
        self.add_biases(scores, ids);
        if self.encoder_repetition_penalty != 1.0 {
            penalize(scores, source, 1.0 / self.encoder_repetition_penalty);
        }
        if self.repetition_penalty != 1.0 {
            penalize(scores, ids, self.repetition_penalty);
        }
        if self.no_repeat_ngram_size > 0 {
            forbid(scores, followers(ids, ids, self.no_repeat_ngram_size));
        }
        if self.encoder_no_repeat_ngram_size > 0 {
            forbid(scores, followers(source, ids, self.encoder_no_repeat_ngram_size));
        }
        let bad = self.bad_words.iter().filter(|word| !matches!(word[..], [only] if ends.contains(&only)));
        forbid(scores, bad.filter_map(|word| completes(word, ids)));
        if ids.len() < self.min_length || ids.len() < prompt + min_tokens {
            forbid(scores, ends.iter().copied());
        }
        if let Some(first) = self.forced_bos.filter(|_| ids.len() == 1) {
            force(scores, &[first]);
        }
        if !self.forced_eos.is_empty() && ids.len() + 1 == max_length {
            force(scores, &self.forced_eos);
        }
        if self.remove_invalid_values {
            for score in scores.iter_mut() {
                *score = if score.is_nan() { 0.0 } else { score.clamp(f32::MIN, f32::MAX) };
            }
        }
        if let Some((start, factor)) = self.exponential_decay_length_penalty
            && ids.len() > prompt + start
        {
            let power = factor.powi((ids.len() - prompt - start) as i32) - 1.0;
            // Each once, whatever the list has.
            for id in ends.iter().copied().collect::<BTreeSet<_>>() {
                if let Some(score) = scores.get_mut(id as usize).filter(|score| score.is_finite()) {
                    *score += (f64::from(score.abs()) * power) as f32;
                }
            }
        }
        forbid(scores, self.suppress_tokens.iter().copied());
        let forced = usize::from(prompt <= 1 && self.forced_bos.is_some());
        if ids.len() == prompt + forced {
            forbid(scores, self.begin_suppress_tokens.iter().copied());
        }
    }

    /// Makes logarithms of probabilities of scores, if that's wanted.
    pub fn renormalize(&self, scores: &mut [f32]) {
        if self.renormalize_logits {
            log_softmax(scores);
        }
    }

    fn add_biases(&self, scores: &mut [f32], ids: &[u32]) {
        for (sequence, bias) in &self.sequence_bias {
            if let Some(score) = completes(sequence, ids).and_then(|id| scores.get_mut(id as usize)) {
                *score += *bias as f32;
            }
        }
    }
}

/// The last token of a sequence, if the tokens before it stand at the end of `ids`.
fn completes(sequence: &[u32], ids: &[u32]) -> Option<u32> {
    let (last, before) = sequence.split_last()?;
    ids.ends_with(before).then_some(*last)
}

/// What follows in `text` wherever the last `size - 1` of `ids` stand in it.
fn followers<'t>(text: &'t [u32], ids: &'t [u32], size: usize) -> impl Iterator<Item = u32> + 't {
    let last = ids.len().checked_sub(size - 1).map(|start| &ids[start..]);
    text.windows(size).filter(move |window| Some(&window[..size - 1]) == last).map(move |window| window[size - 1])
}

fn forbid(scores: &mut [f32], ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Leaves these tokens alone, all as likely.
fn force(scores: &mut [f32], ids: &[u32]) {
    scores.fill(f32::NEG_INFINITY);
    for &id in ids {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = 0.0;
        }
    }
}

fn penalize(scores: &mut [f32], ids: &[u32], penalty: f64) {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(score) = scores.get_mut(id as usize) {
            let old = f64::from(*score);
            *score = if old < 0.0 { old * penalty } else { old / penalty } as f32;
        }
    }
}

/// The logarithms of the probabilities that scores stand for.
pub(super) fn log_softmax(scores: &mut [f32]) {
    let largest = scores.iter().fold(f32::NEG_INFINITY, |largest, &score| largest.max(score));
    if largest == f32::NEG_INFINITY {
        return;
    }
    let total: f64 = scores.iter().map(|&score| math::exp(f64::from(score - largest))).sum();
    let total = math::ln(total);
    for score in scores {
        *score = (f64::from(*score - largest) - total) as f32;
    }
}
