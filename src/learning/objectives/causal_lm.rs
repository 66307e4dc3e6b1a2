//! Next-token prediction.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials,
    definition::{
        Definition, Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
    },
    windows::{Window, cut, slide},
};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Target},
        model::AttentionPattern,
    },
    spec::Section,
};

/// The objective.
pub static DEFINITION: Definition = Definition {
    name: "causal_lm",
    section: Section::Generative,
    about: "Every token from those before it",
    role: ObjectiveRole::Alone,
    attention: AttentionPattern::Causal,
    assumed: true,
    teaches: Some(AnswerForm::Causal),
    measure: Some(HeldOutMetric::Perplexity),
    head: None,
    version: 1,
    settings: SettingsType::of::<CausalLm>(),
};

/// Next-token prediction.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CausalLm {}

impl ObjectiveSettings for CausalLm {
    fn needs(&self, form: AnswerForm) -> Vec<Special> {
        needs(form)
    }

    fn predicted(&self) -> f64 {
        1.0
    }

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        Ok(Box::new(Texts { max_length }))
    }
}

/// The special tokens around a text that is learned token by token.
pub(super) fn needs(form: AnswerForm) -> Vec<Special> {
    match form {
        AnswerForm::Chatglm2 => vec![Special::Gmask, Special::Sop, Special::Sep],
        AnswerForm::Source => vec![Special::Sep],
        _ => vec![Special::Cls, Special::Eop],
    }
}

/// Texts of at most so many tokens.
struct Texts {
    max_length: usize,
}

impl Examples for Texts {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), corpus.room(self.max_length))
    }

    fn overlapping(&self, corpus: &Corpus, stride: usize) -> Result<Option<Vec<(Window, usize)>>> {
        slide(corpus.text.as_ref(), corpus.room(self.max_length), stride).map(Some)
    }

    fn example(&self, source: &ExampleSource<'_>, _: Draw) -> Result<Example> {
        Ok(example(source.id, source.text(), source.ends(), source.corpus.form, source.specials()))
    }
}

/// A text behind what the family's [texts begin](AnswerForm::beginning) with, each token seeing those before it. Each token of
/// the text is to be predicted from the one before; where the text `ends` there (and isn't merely cut), so is
/// [what ends it](AnswerForm::end).
pub fn example(id: u64, text: &[u32], ends: bool, form: AnswerForm, specials: &Specials) -> Example {
    continuation(id, text, 0, ends, form, specials)
}

/// The same with a prompt of this many tokens of the text, seen in both directions and not predicted.
pub(super) fn continuation(
    id: u64,
    text: &[u32],
    prompt: usize,
    ends: bool,
    form: AnswerForm,
    specials: &Specials,
) -> Example {
    let prompt = prompt.min(text.len());
    let (read, written) = text.split_at(prompt);
    let read = [&form.beginning(specials), read, &form.behind(specials)].concat();
    let (prefix, last) = (read.len(), read.len() as u32 - 1);
    let following = written.iter().copied().chain(ends.then_some(form.end(specials)));
    let targets = (last..).zip(following).map(|(at, token)| Target { at, token }).collect();
    let tokens = [&read, written].concat();
    Example { targets, ..Example::sequence(id, tokens, prefix) }
}
