//! Masked language modelling (Devlin et al. 2019): some tokens are hidden and have to be guessed.

use std::{ops::Range, sync::Arc};

use super::{Specials, words::Words};
use crate::{
    network::batch::{Example, Target},
    spec,
    support::random::{Key, Stream},
};

/// `[CLS] text [SEP]`, with attention in both directions and nothing to learn yet.
pub fn plain(id: u64, text: &[u32], specials: &Specials) -> Example {
    let tokens = [&[specials.cls], text, &[specials.sep]].concat();
    let length = tokens.len();
    Example::sequence(id, tokens, length)
}

/// How tokens are hidden.
#[derive(Clone, Debug)]
pub struct Masking {
    /// The recipe's settings.
    pub spec: spec::MaskedLm,
    /// What makes a word, where whole words are hidden.
    pub words: Option<Arc<Words>>,
}

impl Masking {
    /// Hides tokens of an example: of those with text in them the share `probability`, but at least one. Of the hidden
    /// ones the share `mask` is shown as `[MASK]`, the share `random` as any token but a special one, and the rest as
    /// it is. Special tokens are never hidden. Of whole words each token is shown in its own way, and a word that would
    /// exceed the number is passed over.
    pub fn mask(&self, example: &mut Example, specials: &Specials, key: Key) {
        let spec = &self.spec;
        let units = units(&example.tokens, self.words.as_deref(), specials);
        let maskable: usize = units.iter().map(ExactSizeIterator::len).sum();
        let wanted = ((spec.probability * maskable as f64).round() as usize).max(1);

        let mut stream = key.stream();
        let mut hidden = choose(units, wanted, &mut stream);
        hidden.sort_unstable();
        for at in hidden {
            let token = example.tokens[at];
            example.targets.push(Target { at: at as u32, token });
            let share = stream.f64();
            if share < spec.mask {
                example.tokens[at] = specials.mask;
            } else if share < spec.mask + spec.random {
                example.tokens[at] = ordinary(specials, &mut stream);
            }
        }
    }
}

/// What is hidden together, special tokens left out.
fn units(tokens: &[u32], words: Option<&Words>, specials: &Specials) -> Vec<Range<usize>> {
    let all = match words {
        Some(words) => words.split(tokens),
        None => (0..tokens.len()).map(|at| at..at + 1).collect(),
    };
    // A special token can only be the head of a word: a `##` piece after `[CLS]`, where the window begins within a word.
    let text = all.into_iter().map(|unit| unit.start + usize::from(specials.contains(tokens[unit.start]))..unit.end);
    text.filter(|unit| !unit.is_empty()).collect()
}

/// Takes units in random order as long as they don't exceed the number; one at least.
fn choose(mut units: Vec<Range<usize>>, wanted: usize, stream: &mut Stream) -> Vec<usize> {
    stream.shuffle(&mut units);
    let mut hidden = Vec::with_capacity(wanted);
    for unit in &units {
        if hidden.len() + unit.len() <= wanted {
            hidden.extend(unit.clone());
        }
    }
    if hidden.is_empty() {
        hidden.extend(units.into_iter().min_by_key(ExactSizeIterator::len).into_iter().flatten());
    }
    hidden
}

/// A uniformly random token that is not special (`[MASK]` where there is no other).
fn ordinary(specials: &Specials, stream: &mut Stream) -> u32 {
    let ids = specials.ids();
    let Some(choices) = specials.vocab_size.checked_sub(ids.len()).filter(|&choices| choices > 0) else {
        return specials.mask;
    };
    // The n-th id that isn't special: each special id up to it moves it on by one.
    ids.iter().fold(stream.below(choices) as u32, |id, &special| if special <= id { id + 1 } else { id })
}
