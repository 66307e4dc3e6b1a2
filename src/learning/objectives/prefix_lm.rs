//! A continuation from a prompt that is seen in both directions (Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>,
//! section 3.2.1).

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials,
    causal_lm::{continuation, needs},
    definition::{
        Definition, Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
    },
    windows::{Window, cut},
};
use crate::{
    data::text::Special,
    network::{batch::Example, model::AttentionPattern},
    spec::{Problem, Section},
    support::random::Key,
};

/// The objective.
pub static DEFINITION: Definition = Definition {
    name: "prefix_lm",
    section: Section::Generative,
    about: "A continuation from a prompt that is seen in both directions",
    role: ObjectiveRole::Alone,
    attention: AttentionPattern::Prefix,
    assumed: true,
    teaches: Some(AnswerForm::Prefix),
    measure: Some(HeldOutMetric::Perplexity),
    head: None,
    version: 1,
    settings: SettingsType::of::<PrefixLm>(),
};

/// A prompt is cut from the text; the loss is on the continuation.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixLm {
    /// The shortest prompt, as a share of the text
    #[serde(default = "min_prefix")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_prefix: f64,
    /// The longest prompt, as a share of the text
    #[serde(default = "max_prefix")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_prefix: f64,
}

fn min_prefix() -> f64 {
    0.1
}

fn max_prefix() -> f64 {
    0.9
}

impl ObjectiveSettings for PrefixLm {
    fn check(&self) -> Vec<Problem> {
        let Self { min_prefix, max_prefix } = self;
        let message = format!("the shortest prompt ({min_prefix}) is longer than the longest ({max_prefix})");
        (min_prefix > max_prefix).then(|| Problem::of_value("min_prefix", message)).into_iter().collect()
    }

    fn needs(&self, form: AnswerForm) -> Vec<Special> {
        needs(form)
    }

    fn predicted(&self) -> f64 {
        1.0 - self.min_prefix
    }

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        Ok(Box::new(Prompts { spec: self.clone(), max_length }))
    }
}

/// Texts of at most so many tokens, begun by a prompt.
struct Prompts {
    spec: PrefixLm,
    max_length: usize,
}

impl Examples for Prompts {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), corpus.room(self.max_length))
    }

    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example> {
        let (form, key) = (source.corpus.form, draw.own.with("prompt"));
        Ok(example(source.id, source.text(), source.ends(), &self.spec, form, source.specials(), key))
    }
}

/// A prompt and its continuation; the prompt's share of the text is uniform between the two bounds, and at least one
/// token is left to predict. Around them stands what [`super::causal_lm::example`] has, and `ends` means the same.
pub fn example(
    id: u64,
    text: &[u32],
    ends: bool,
    spec: &PrefixLm,
    form: AnswerForm,
    specials: &Specials,
    key: Key,
) -> Example {
    continuation(id, text, prompt_length(text.len(), spec, key), ends, form, specials)
}

fn prompt_length(text: usize, spec: &PrefixLm, key: Key) -> usize {
    let share = spec.min_prefix + (spec.max_prefix - spec.min_prefix) * key.f64();
    ((share * text as f64).round() as usize).min(text.saturating_sub(1))
}
