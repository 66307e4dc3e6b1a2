//! Span corruption (Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>, section 3.1.4) as a prefix LM: the R-denoiser
//! of UL2 (Tay et al. 2022, <https://arxiv.org/abs/2205.05131>, section 3.1) for models that read and write one
//! sequence.
//!
//! ```text
//! text      20 21 22 23 24 25 26          21 22 and 25 are corrupted
//! prompt    [CLS] 20 [MASK] 23 24 [MASK] 26
//! answer    [MASK] 21 22 [MASK] 25 <eop>
//! ```
//!
//! The prompt is seen in both directions, the answer token by token, and the loss is on the answer: on what fills the
//! blanks, and on the sentinels that say where one ends and the next begins, as in T5.
//!
//! **Sentinels.** T5 has a hundred, `<extra_id_0>` to `<extra_id_99>`, a different one for each blank of a text. Our
//! vocabularies have none of these, and byte-level or foreign ones can't be relied on to have free entries, so `[MASK]`
//! stands for every blank; the n-th of the answer is the n-th of the prompt. Nothing is lost by that, for T5's come in
//! the order of the text too; but a model can't be asked for one blank out of several, and T5's checkpoints are not
//! continued by it.
//!
//! **Generation.** What is learned is to fill blanks, not to continue a text: a model that learned nothing else doesn't
//! write (Lester et al. 2021, <https://arxiv.org/abs/2104.08691>, section 2.2, find that T5 without further training
//! answers with sentinels). A mix with `prefix_lm`, UL2's S-denoiser, does.

use std::ops::Range;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials,
    causal_lm::needs,
    definition::{
        Definition, Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
    },
    windows::{Window, cut},
};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Target},
        model::AttentionPattern,
    },
    spec::{Problem, Section},
    support::random::Stream,
};

/// The objective.
pub static DEFINITION: Definition = Definition {
    name: "span_corruption",
    section: Section::Generative,
    about: "T5's span corruption: blanks in a text, filled one after the other behind it",
    role: ObjectiveRole::Alone,
    attention: AttentionPattern::Prefix,
    assumed: false,
    teaches: None,
    measure: Some(HeldOutMetric::Perplexity),
    head: None,
    version: 1,
    settings: SettingsType::of::<SpanCorruption>(),
};

/// Spans of a text are replaced by `[MASK]` each, and predicted after it, each behind a `[MASK]` of its own. It teaches to
/// fill blanks, and not to continue a text.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpanCorruption {
    /// Share of the tokens that is corrupted
    #[serde(default = "ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Mean length of a span
    #[serde(default = "mean_span")]
    #[schemars(range(min = 1.0))]
    pub mean_span: f64,
}

fn ratio() -> f64 {
    0.15
}

fn mean_span() -> f64 {
    3.0
}

impl ObjectiveSettings for SpanCorruption {
    fn check(&self) -> Vec<Problem> {
        let message = match self.ratio {
            0.0 => "with 0, there is nothing to predict",
            1.0 => "with 1, nothing is left to predict it from",
            _ => return Vec::new(),
        };
        vec![Problem::of_value("ratio", message)]
    }

    fn needs(&self, form: AnswerForm) -> Vec<Special> {
        [needs(form), vec![Special::Mask]].concat()
    }

    fn predicted(&self) -> f64 {
        self.ratio * (1.0 + 1.0 / self.mean_span)
    }

    fn examples(&self, corpus: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        let beginning = corpus.frame() - 1;
        let least = beginning + self.length(1);
        ensure!(
            max_length >= least,
            "span_corruption needs sequences of {least} tokens or more, and max_length is {max_length}"
        );
        Ok(Box::new(Spans { spec: self.clone(), beginning, max_length }))
    }
}

impl SpanCorruption {
    /// How many tokens of a text are corrupted, and in how many spans. As in T5, the tokens are the text's share, and the
    /// spans as many as give the mean length; at least one of each, and something is left between two spans.
    pub fn amounts(&self, text: usize) -> (usize, usize) {
        let share = |of: usize, factor: f64| (of as f64 * factor).round() as usize;
        let tokens = share(text, self.ratio).clamp(1, text.saturating_sub(1).max(1));
        let most = tokens.min(text.saturating_sub(tokens) + 1);
        (tokens, share(tokens, 1.0 / self.mean_span).clamp(1, most))
    }

    /// Tokens that a text takes as prompt and answer: two sentinels a span beside its own.
    fn length(&self, text: usize) -> usize {
        text + 2 * self.amounts(text).1
    }

    /// Draws the spans of a text, in its order and with something between each two. All ways to divide what is
    /// corrupted among the spans are equally likely, and all ways to divide the rest among the gaps.
    pub fn spans(&self, text: usize, stream: &mut Stream) -> Vec<Range<usize>> {
        let (tokens, spans) = self.amounts(text);
        let tokens = tokens.min(text);
        let lengths = divide(tokens, spans.min(tokens), stream);
        // The first gap and the last may be empty: they're drawn with a token more each.
        let gaps = divide(text - tokens + 2, lengths.len() + 1, stream);
        let mut start = 0;
        let place = |(index, length): (usize, usize)| {
            start += gaps[index] - usize::from(index == 0);
            let span = start..start + length;
            start = span.end;
            span
        };
        lengths.into_iter().enumerate().map(place).collect()
    }
}

/// A number as a sum of so many positive ones, all sums equally likely.
fn divide(number: usize, parts: usize, stream: &mut Stream) -> Vec<usize> {
    let mut cuts: Vec<usize> = (1..number).collect();
    stream.shuffle(&mut cuts);
    cuts.truncate(parts.saturating_sub(1));
    cuts.extend([0, number]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Corrupted texts of at most so many tokens.
struct Spans {
    spec: SpanCorruption,
    /// Tokens before the text.
    beginning: usize,
    max_length: usize,
}

impl Examples for Spans {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        let room = self.max_length - self.beginning;
        let room = (1..=room).rev().find(|&text| self.spec.length(text) <= room).unwrap_or(1);
        cut(corpus.text.as_ref(), room)
    }

    fn length(&self, _: &Corpus, window: Window) -> usize {
        self.beginning + self.spec.length(window.length())
    }

    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example> {
        let spans = self.spec.spans(source.text().len(), &mut draw.own.with("spans").stream());
        Ok(corrupt(source.id, source.text(), &spans, source.corpus.form, source.specials()))
    }
}

/// The example of a text whose spans, in its order, are corrupted: each is replaced by a sentinel, and follows behind the
/// text after another; what ends an answer is the last target.
pub fn corrupt(id: u64, text: &[u32], spans: &[Range<usize>], form: AnswerForm, specials: &Specials) -> Example {
    let mut tokens = form.beginning(specials);
    let mut answer = Vec::new();
    let mut end = 0;
    for span in spans {
        tokens.extend(&text[end..span.start]);
        tokens.push(specials.mask);
        answer.push(specials.mask);
        answer.extend(&text[span.clone()]);
        end = span.end;
    }
    tokens.extend(&text[end..]);
    tokens.extend(form.behind(specials));
    let prompt = tokens.len();
    tokens.extend(&answer);
    answer.push(form.end(specials));
    let targets = (prompt as u32 - 1..).zip(answer).map(|(at, token)| Target { at, token }).collect();
    Example { targets, ..Example::sequence(id, tokens, prompt) }
}
