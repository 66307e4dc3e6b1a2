//! Beam search: several texts are followed at a time, and the likeliest as a whole is taken. As `_beam_search` in
//! `generation/utils.py` of transformers 5.23 has it, so that the texts are the same: which candidates are looked at, how
//! long texts are compared with short ones, and when no better one is waited for.

use anyhow::{Result, ensure};

use super::{
    Beginning, FinishReason, NextToken, Vocabulary,
    rules::log_softmax,
    sampling,
    settings::{Beams, EarlyStopping, GenerationSettings},
};
use crate::{
    learning::objectives::form::feed,
    network::{batch::Example, model::KvCache},
    support::{
        math,
        random::{Categorical, Key},
    },
};

/// A text that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its new tokens, without the one that ends it.
    pub tokens: Vec<u32>,
    /// Its logarithmic probability over the power of its length.
    pub score: f32,
    /// Why it ended.
    pub end: FinishReason,
}

/// What is taken off a text's score so that it's never chosen; what has less isn't compared any more.
const NEVER: f32 = -1e9;

/// A text in the making.
struct Running {
    example: Example,
    /// Sum of the logarithmic probabilities of its tokens.
    score: f32,
    cache: KvCache,
}

impl Running {
    fn copy(&self, score: f32) -> Self {
        Self { example: self.example.clone(), score, cache: self.cache.clone() }
    }
}

/// What a text may become by a token.
struct Candidate {
    score: f32,
    from: usize,
    token: u32,
}

/// A text that ended, or the place of one.
struct Ended {
    tokens: Vec<u32>,
    score: f32,
    /// None for a place where none is yet.
    end: Option<FinishReason>,
}

/// Finds the likeliest texts after a sequence of at most `max_length`, the best first; as many as the settings want.
/// `each` is asked of new tokens whether there's a reason to end with them.
///
/// # Errors
/// If the sequence doesn't fit the model, or what `each` gives.
pub fn search(
    model: &dyn NextToken,
    cache: &mut KvCache,
    example: &Example,
    max_length: usize,
    vocabulary: &Vocabulary,
    settings: &GenerationSettings,
    each: &mut dyn FnMut(&[u32]) -> Result<Option<FinishReason>>,
) -> Result<Vec<Hypothesis>> {
    let beginning = Beginning::new(model, example);
    let most = beginning.most(settings);
    // A token can be read in each place of the context, and the one after the last is still written.
    let steps = most.min((max_length + 1).saturating_sub(example.tokens.len()));
    let full = if steps < most { FinishReason::MaxLength } else { FinishReason::MaxTokens };
    let first = Running { example: example.clone(), score: 0.0, cache: std::mem::take(cache) };
    let ended = || Ended { tokens: Vec::new(), score: NEVER, end: None };
    let ended = (0..settings.beams.num_beams).map(|_| ended()).collect();
    let mut search = Search { model, beginning, vocabulary, settings, most, running: vec![first], ended };
    for step in 0..steps {
        let last = (step + 1 == steps).then_some(full);
        if !search.step(step, last, each)? {
            break;
        }
    }
    if let Some(first) = search.running.first_mut() {
        *cache = std::mem::take(&mut first.cache);
    }
    let found = search.ended.into_iter().take(settings.beams.num_return_sequences);
    let found = found.map(|Ended { mut tokens, score, end }| {
        let end = end.unwrap_or(full);
        if end == FinishReason::Token {
            tokens.pop();
        }
        Hypothesis { tokens, score, end }
    });
    Ok(found.collect())
}

struct Search<'a> {
    model: &'a dyn NextToken,
    beginning: Beginning,
    vocabulary: &'a Vocabulary,
    settings: &'a GenerationSettings,
    /// How many tokens a text may have.
    most: usize,
    /// The best first.
    running: Vec<Running>,
    /// As many as there are beams, the best first.
    ended: Vec<Ended>,
}

impl Search<'_> {
    /// Adds a token to each text in the making; `last` is why they all end with it, if they do. Returns whether it goes on.
    fn step(
        &mut self,
        step: usize,
        last: Option<FinishReason>,
        each: &mut dyn FnMut(&[u32]) -> Result<Option<FinishReason>>,
    ) -> Result<bool> {
        let Beams { num_beams, length_penalty, early_stopping, .. } = self.settings.beams;
        let kept = num_beams * (self.vocabulary.ends.len() + 1).max(2);
        let scores = self.scores(step)?;
        let candidates = match self.settings.sampling.draws() {
            true => drawn(&scores, kept, Key::new(self.settings.seed).with("generate").at(step as u64)),
            false => likeliest(&scores, kept),
        };
        ensure!(!candidates.is_empty(), "no token may come next");

        let mut texts = Vec::with_capacity(candidates.len());
        for &Candidate { from, token, .. } in &candidates {
            let written = &self.running[from].example.tokens[self.beginning.source.len()..];
            let tokens = [written, &[token]].concat();
            let end = match each(&tokens)? {
                _ if self.vocabulary.ends.contains(&token) => Some(FinishReason::Token),
                None => last,
                Some(FinishReason::Interrupted) => {
                    self.ended.insert(0, Ended { tokens, score: 0.0, end: Some(FinishReason::Interrupted) });
                    return Ok(false);
                }
                end => end,
            };
            texts.push((tokens, end));
        }
        let all_end = texts.iter().all(|(_, end)| end.is_some());
        self.go_on(&candidates, &texts);

        // The first that end now take their places among those that have.
        let closed = self.is_full() && early_stopping == EarlyStopping::Yes;
        let over = |length: usize| math::pow(length as f64, length_penalty) as f32;
        for (Candidate { score, .. }, (tokens, end)) in candidates.iter().zip(texts).take(num_beams) {
            if end.is_some() {
                let score = score / over(step + 1) + if closed { NEVER } else { 0.0 };
                self.ended.push(Ended { tokens, score, end });
            }
        }
        best(&mut self.ended, num_beams, |ended| ended.score);

        let length = if early_stopping == EarlyStopping::Never && length_penalty > 0.0 { self.most } else { step + 1 };
        let possible = self.running.first().map_or(NEVER, |first| first.score / over(length));
        let worst = if self.is_full() { self.ended.last().map_or(NEVER, |ended| ended.score) } else { NEVER };
        Ok(possible > worst && !(self.is_full() && early_stopping == EarlyStopping::Yes) && !all_end)
    }

    /// The score of each text with each token behind it.
    fn scores(&mut self, step: usize) -> Result<Vec<Vec<f32>>> {
        let Self { model, beginning, vocabulary, settings, .. } = self;
        let mut all = Vec::with_capacity(settings.beams.num_beams);
        for Running { example, score: before, cache } in &mut self.running {
            let mut scores = model.next_logits(example, cache)?;
            sampling::check_numbers(&scores)?;
            log_softmax(&mut scores);
            beginning.rule(&mut scores, example, vocabulary, settings);
            if settings.sampling.draws() {
                filter(&mut scores, settings, vocabulary.ends.len());
            }
            settings.rules.renormalize(&mut scores);
            scores.iter_mut().for_each(|score| *score += *before);
            all.push(scores);
        }
        if step == 0 {
            // The others are copies of the first, of which nothing is taken as long as that has enough.
            for _ in 1..settings.beams.num_beams {
                all.push(all[0].iter().map(|score| score + NEVER).collect());
                self.running.push(self.running[0].copy(NEVER));
            }
        }
        Ok(all)
    }

    /// Takes the best candidates as the texts in the making; those that have ended come behind all that haven't.
    fn go_on(&mut self, candidates: &[Candidate], texts: &[(Vec<u32>, Option<FinishReason>)]) {
        let scored = candidates.iter().zip(texts);
        let scored = scored.map(|(candidate, (_, end))| candidate.score + if end.is_some() { NEVER } else { 0.0 });
        let mut next: Vec<(usize, f32)> = scored.enumerate().collect();
        best(&mut next, self.settings.beams.num_beams, |&(_, score)| score);
        let next = next.into_iter().map(|(at, score)| {
            let Candidate { from, token, .. } = candidates[at];
            let mut text = self.running[from].copy(score);
            feed(&mut text.example, &[token]);
            text
        });
        self.running = next.collect();
    }

    fn is_full(&self) -> bool {
        self.ended.iter().all(|ended| ended.end.is_some())
    }
}

/// Leaves what sampling leaves of logarithmic probabilities; enough to go on where all ends are chosen.
fn filter(scores: &mut [f32], settings: &GenerationSettings, ends: usize) {
    let left = settings.sampling.left(scores, ends.max(1) + 1);
    scores.fill(f32::NEG_INFINITY);
    for (id, score) in left {
        scores[id as usize] = score as f32;
    }
}

/// The `kept` best of all, the best first.
fn likeliest(scores: &[Vec<f32>], kept: usize) -> Vec<Candidate> {
    let mut all = candidates(scores);
    best(&mut all, kept, |candidate| candidate.score);
    all
}

/// As many as `kept`, drawn by their probabilities one after another, none twice.
fn drawn(scores: &[Vec<f32>], kept: usize, key: Key) -> Vec<Candidate> {
    let mut all = candidates(scores);
    let largest = all.iter().fold(f32::NEG_INFINITY, |largest, candidate| largest.max(candidate.score));
    let weight = |candidate: &Candidate| math::exp(f64::from(candidate.score - largest));
    let mut found = Vec::with_capacity(kept);
    for draw in 0..kept as u64 {
        let Some(distribution) = Categorical::new(all.iter().map(weight)) else { break };
        found.push(all.remove(distribution.pick(key.at(draw).f64())));
    }
    found
}

/// All that are possible, in the order of beams and tokens.
fn candidates(scores: &[Vec<f32>]) -> Vec<Candidate> {
    let of_beam = |(from, scores): (usize, &Vec<f32>)| {
        let possible = (0..).zip(scores.iter().copied()).filter(|(_, score)| *score > f32::NEG_INFINITY);
        possible.map(|(token, score)| Candidate { score, from, token }).collect::<Vec<_>>()
    };
    scores.iter().enumerate().flat_map(of_beam).collect()
}

/// Leaves the best, sorted; of equal ones the first.
fn best<T>(all: &mut Vec<T>, kept: usize, score: impl Fn(&T) -> f32) {
    if kept < all.len() {
        // Sorting all would take most of the time of a step.
        let mut scores: Vec<f32> = all.iter().map(&score).collect();
        let bound = *scores.select_nth_unstable_by(kept.saturating_sub(1), |a, b| b.total_cmp(a)).1;
        all.retain(|one| score(one) >= bound);
    }
    all.sort_by(|a, b| score(b).total_cmp(&score(a)));
    all.truncate(kept);
}
