//! Masked language modelling (Devlin et al. 2019): some tokens are hidden and have to be guessed.

use std::ops::Range;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials,
    definition::{
        Definition, Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
    },
    form::plain,
    windows::{Window, cut},
    words::take_words,
};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Target},
        model::AttentionPattern,
    },
    spec::{Problem, Section},
    support::random::{Key, Stream},
};

/// The objective.
pub static DEFINITION: Definition = Definition {
    name: "masked_lm",
    section: Section::Entry,
    about: "Guess masked tokens",
    role: ObjectiveRole::Masks,
    attention: AttentionPattern::Bidirectional,
    assumed: true,
    teaches: None,
    measure: Some(HeldOutMetric::MaskedAccuracy),
    head: None,
    version: 1,
    settings: SettingsType::of::<MaskedLm>(),
};

/// Masked language modelling (Devlin et al. 2019).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedLm {
    /// Share of the tokens that is to be guessed
    #[serde(default = "probability")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Of those, the share shown as `[MASK]`
    #[serde(default = "mask")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mask: f64,
    /// Of those, the share shown as another token; the rest is shown as it is
    #[serde(default = "random")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub random: f64,
    /// Mask whole words, however many tokens they have: in Chinese those that jieba finds, elsewhere runs of letters and
    /// digits
    #[serde(default)]
    pub whole_word: bool,
}

fn probability() -> f64 {
    0.15
}

fn mask() -> f64 {
    0.8
}

fn random() -> f64 {
    0.1
}

impl ObjectiveSettings for MaskedLm {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        // As with 0.8 + 0.1 + 0.1, sums of decimals may be off by a hair.
        let sum = self.mask + self.random;
        if sum > 1.0 + 1e-9 {
            let sum = (sum * 1e6).round() / 1e6;
            let message = format!("`mask` and `random` are shares of the same tokens, and add up to {sum}");
            problems.push(Problem::of_value("random", message).hint("together they may be 1 at most"));
        }
        if self.probability == 0.0 {
            problems.push(Problem::of_value("probability", "with 0, no token is ever masked"));
        }
        problems
    }

    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        vec![Special::Cls, Special::Sep, Special::Mask]
    }

    fn predicted(&self) -> f64 {
        self.probability
    }

    fn masks_words(&self) -> bool {
        self.whole_word
    }

    fn revision(&self) -> u32 {
        // The second version of whole words has them from jieba.
        u32::from(self.whole_word)
    }

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        Ok(Box::new(Texts { max_length, masking: Masking { spec: self.clone() } }))
    }
}

/// Plain texts, masked.
struct Texts {
    max_length: usize,
    masking: Masking,
}

impl Examples for Texts {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), corpus.room(self.max_length))
    }

    fn example(&self, source: &ExampleSource<'_>, _: Draw) -> Result<Example> {
        Ok(plain(source.id, source.text(), source.specials()))
    }

    fn mask(&self, example: &mut Example, specials: &Specials, draw: Draw) {
        self.masking.mask(example, specials, draw.own.with("mask"));
    }
}

/// How tokens are hidden.
#[derive(Clone, Debug)]
pub struct Masking {
    /// The recipe's settings.
    pub spec: MaskedLm,
}

impl Masking {
    /// Hides tokens of an example: of those with text in them the share `probability`, but at least one. Of the hidden
    /// ones the share `mask` is shown as `[MASK]`, the share `random` as any token but a special one, and the rest as
    /// it is. Special tokens are never hidden. Where the tokens are marked, whole [words](super::words) are: each of their
    /// tokens is shown in its own way, and a word that would exceed the number is passed over.
    pub fn mask(&self, example: &mut Example, specials: &Specials, key: Key) {
        let spec = &self.spec;
        let units = units(&mut example.tokens, specials);
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
fn units(tokens: &mut [u32], specials: &Specials) -> Vec<Range<usize>> {
    let all = take_words(tokens);
    // A special token can only be the head of a word, where a window begins within one: `[CLS]` stands before its rest.
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
