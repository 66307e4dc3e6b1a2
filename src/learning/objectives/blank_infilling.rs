//! GLM's autoregressive blank infilling (Du et al. 2022, <https://arxiv.org/abs/2103.10360>, section 2).
//!
//! Part A is the text with each span replaced by one mask token. Part B has the spans in random order, each begun by
//! `<sop>` and ended, among the targets, by `<eop>`. Targets are aligned with inputs: the hidden state at `<sop>`
//! predicts the span's first token. A is seen by all, B by what comes after.

use std::ops::Range;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials, TokenizedDocument,
    definition::{
        Definition, Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
    },
    windows::{Window, cut, sentences},
};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Remark, Target},
        model::AttentionPattern,
    },
    spec::{Problem, Section},
    support::random::{Categorical, Key, Stream},
};

/// The objective.
pub static DEFINITION: Definition = Definition {
    name: "blank_infilling",
    section: Section::Generative,
    about: "GLM's autoregressive blank infilling",
    role: ObjectiveRole::Alone,
    attention: AttentionPattern::Infilling,
    assumed: true,
    teaches: Some(AnswerForm::Infilling),
    measure: Some(HeldOutMetric::Perplexity),
    head: None,
    version: 1,
    settings: SettingsType::of::<BlankInfilling>(),
};

/// Blank infilling with `[MASK]` spans, `[sMASK]` sentences and a `[gMASK]` document; each batch draws one of the three.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlankInfilling {
    /// Weight of short spans with lengths from a Poisson distribution
    #[serde(default = "span_weight")]
    #[schemars(range(min = 0.0))]
    pub span: f64,
    /// Weight of whole sentences
    #[serde(default = "sentence_weight")]
    #[schemars(range(min = 0.0))]
    pub sentence: f64,
    /// Weight of one long continuation
    #[serde(default = "sentence_weight")]
    #[schemars(range(min = 0.0))]
    pub document: f64,
    /// Share of the tokens that spans and sentences cover
    #[serde(default = "ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Mean length of a span
    #[serde(default = "mean_span")]
    #[schemars(range(min = 1.0))]
    pub mean_span: f64,
    /// The shortest continuation in document mode, as a share of the text
    #[serde(default = "min_generation")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_generation: f64,
}

fn span_weight() -> f64 {
    0.4
}

fn sentence_weight() -> f64 {
    0.3
}

fn ratio() -> f64 {
    0.15
}

fn mean_span() -> f64 {
    3.0
}

fn min_generation() -> f64 {
    0.25
}

impl ObjectiveSettings for BlankInfilling {
    fn check(&self) -> Vec<Problem> {
        let problem = Problem::of_key("", "`span`, `sentence` and `document` all have the weight 0")
            .hint("give one of them a weight above 0");
        (self.span + self.sentence + self.document == 0.0).then_some(problem).into_iter().collect()
    }

    /// Only the masks of those modes that have weight.
    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        let Self { span, sentence, document, .. } = *self;
        // In sentence mode too, some texts have spans blanked.
        let spans = span > 0.0 || sentence > 0.0;
        let masks = [(spans, Special::Mask), (sentence > 0.0, Special::Smask), (document > 0.0, Special::Gmask)];
        let masks = masks.into_iter().filter(|(used, _)| *used).map(|(_, mask)| mask);
        masks.chain([Special::Cls, Special::Sep, Special::Sop, Special::Eop]).collect()
    }

    fn predicted(&self) -> f64 {
        // Each blank is read and written, with a token to begin and one to end.
        if self.document > 0.0 { 1.0 } else { self.ratio * (1.0 + 1.0 / self.mean_span) }
    }

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        let blanks = Blanks::new(self, max_length);
        Ok(Box::new(blanks.context("blank_infilling needs a weight above 0 for span, sentence or document")?))
    }
}

impl Examples for Blanks {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), self.room())
    }

    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example> {
        let mode = self.mode(draw.batch.with("mode"));
        let ExampleSource { id, document, window, .. } = *source;
        Ok(Self::example(self, id, document, window.range(), mode, source.specials(), draw.own.with("blanks")))
    }

    fn remarks(&self, _: &ExampleSource<'_>, draw: Draw, _: &Example) -> Vec<Remark> {
        let text = match self.mode(draw.batch.with("mode")) {
            BlankMode::Span => "short spans",
            BlankMode::Sentence => "whole sentences, or short spans of a text that hasn't two",
            BlankMode::Document => "one long span, or all from a place on",
        };
        vec![Remark { name: "blanks", text: text.to_owned() }]
    }
}

/// Tokens of part A that aren't text: `[CLS]` and `[SEP]`.
const FRAME: usize = 2;
/// The longest short span, as in GLM's training code.
const LONGEST_SPAN: usize = 39;
/// How often document mode takes a suffix, rather than a span with text after it.
const SUFFIX: f64 = 0.5;

/// What is blanked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlankMode {
    /// Short spans, `[MASK]`.
    Span,
    /// Sentences, `[sMASK]`.
    Sentence,
    /// One long span, `[gMASK]`.
    Document,
}

/// The blanks to fill in a text, by the recipe's settings.
#[derive(Clone, Debug)]
pub struct Blanks {
    spec: BlankInfilling,
    modes: Categorical,
    lengths: Categorical,
    max_length: usize,
}

impl Blanks {
    /// Examples will be no longer than `max_length`. `None` where no mode has weight.
    pub fn new(spec: &BlankInfilling, max_length: usize) -> Option<Self> {
        let modes = Categorical::new([spec.span, spec.sentence, spec.document])?;
        let lengths = Categorical::poisson(spec.mean_span, LONGEST_SPAN)?;
        Some(Self { spec: spec.clone(), modes, lengths, max_length })
    }

    /// Tokens of text that leave enough room for the expected number of spans, each of which takes two places more
    /// than its tokens.
    pub fn room(&self) -> usize {
        let needed = |text: usize| {
            let spans = (self.spec.ratio * text as f64 / self.spec.mean_span.max(1.0)).ceil().max(1.0) as usize;
            text + FRAME + 2 * spans
        };
        (1..self.max_length).rev().find(|&text| needed(text) <= self.max_length).unwrap_or(1)
    }

    /// Draws the mode of a batch.
    pub fn mode(&self, key: Key) -> BlankMode {
        [BlankMode::Span, BlankMode::Sentence, BlankMode::Document][self.modes.pick(key.f64())]
    }

    /// Makes an example out of a part of a document. Where it `ends` the document, a blanked suffix is ended by
    /// `<eop>`. In sentence mode, a text without two whole sentences has spans blanked instead, since nothing would be
    /// left to tell them from.
    pub fn example(
        &self,
        id: u64,
        document: &TokenizedDocument<'_>,
        range: Range<usize>,
        mode: BlankMode,
        specials: &Specials,
        key: Key,
    ) -> Example {
        let mut stream = key.stream();
        let text = &document.tokens[range.clone()];
        let framed = [&[specials.cls], text, &[specials.sep]].concat();
        let (mut spans, mask) = match mode {
            BlankMode::Document if stream.f64() < SUFFIX => {
                let ends = range.end == document.tokens.len();
                let start = 1 + text.len() - self.long(text.len(), &mut stream);
                return suffix(id, &framed[..=text.len()], start, ends, specials);
            }
            BlankMode::Document => {
                let length = self.long(text.len(), &mut stream);
                let start = stream.below(text.len() - length + 1);
                (std::iter::once(start..start + length).collect(), specials.gmask)
            }
            BlankMode::Sentence => match self.sentences(document, &range, &mut stream) {
                Some(sentences) => (sentences, specials.smask),
                None => (self.spans(text.len(), &mut stream), specials.mask),
            },
            BlankMode::Span => (self.spans(text.len(), &mut stream), specials.mask),
        };
        for span in &mut spans {
            *span = span.start + 1..span.end + 1;
        }
        let mut order: Vec<usize> = (0..spans.len()).collect();
        stream.shuffle(&mut order);
        infill(id, &framed, &spans, &order, mask, specials)
    }

    /// The length of a long span: uniform from the least share of the text up to all of it but a token.
    fn long(&self, text: usize, stream: &mut Stream) -> usize {
        let most = text.saturating_sub(1).max(1);
        let least = ((self.spec.min_generation * text as f64) as usize).clamp(1, most);
        (least + stream.below(most - least + 1)).min(text)
    }

    /// How many tokens to cover, and with how many spans at most so that the example isn't too long.
    fn limits(&self, text: usize) -> (usize, usize) {
        let tokens = ((self.spec.ratio * text as f64) as usize).max(1);
        (tokens, (self.max_length.saturating_sub(text + FRAME) / 2).max(1))
    }

    /// Short spans in text order, at least one token apart: lengths are drawn until they cover the share, then placed
    /// uniformly.
    fn spans(&self, text: usize, stream: &mut Stream) -> Vec<Range<usize>> {
        let (wanted, most) = self.limits(text);
        let mut lengths: Vec<usize> = Vec::new();
        let mut covered = 0;
        while covered < wanted && lengths.len() < most {
            // The gaps to the spans before it take a token each.
            let left = text.saturating_sub(covered + lengths.len());
            if left == 0 {
                break;
            }
            let length = (self.lengths.pick(stream.f64()) + 1).min(left);
            lengths.push(length);
            covered += length;
        }
        let free = (text + 1).saturating_sub(covered + lengths.len());
        let mut places: Vec<usize> = lengths.iter().map(|_| stream.below(free + 1)).collect();
        places.sort_unstable();
        let mut moved = 0;
        let place = |(place, length): (usize, usize)| {
            let start = place + moved;
            moved += length + 1;
            start..start + length
        };
        places.into_iter().zip(lengths).map(place).collect()
    }

    /// Whole sentences in text order, taken at random until they cover the share; `None` where the text hasn't two.
    fn sentences(
        &self,
        document: &TokenizedDocument<'_>,
        range: &Range<usize>,
        stream: &mut Stream,
    ) -> Option<Vec<Range<usize>>> {
        let cut = |at: usize| at != 0 && at != document.tokens.len() && !document.ends_sentence(at);
        let mut candidates = sentences(document, range.clone());
        candidates.retain(|sentence| !cut(sentence.start) && !cut(sentence.end));
        if candidates.len() < 2 {
            return None;
        }
        stream.shuffle(&mut candidates);
        let (wanted, most) = self.limits(range.len());
        let mut taken = Vec::new();
        let mut covered = 0;
        for sentence in candidates {
            if covered >= wanted || taken.len() == most {
                break;
            }
            covered += sentence.len();
            taken.push(sentence.start - range.start..sentence.end - range.start);
        }
        taken.sort_unstable_by_key(|sentence| sentence.start);
        Some(taken)
    }
}

/// The example of a framed text whose `spans` (in text order, apart or touching) are blanked with the token `mask`, in
/// the `order` (indices into the spans) in which they're to be filled.
pub fn infill(
    id: u64,
    framed: &[u32],
    spans: &[Range<usize>],
    order: &[usize],
    mask: u32,
    specials: &Specials,
) -> Example {
    let mut tokens = Vec::with_capacity(framed.len() + 2 * spans.len());
    let mut masks = Vec::with_capacity(spans.len());
    let mut end = 0;
    for span in spans {
        tokens.extend(&framed[end..span.start]);
        masks.push(tokens.len() as u32);
        tokens.push(mask);
        end = span.end;
    }
    tokens.extend(&framed[end..]);
    let context = tokens.len();
    let mut example = Example::sequence(id, tokens, context);
    for &index in order {
        let span = &framed[spans[index].clone()];
        generate(&mut example, masks[index], span, Some(specials.eop), specials);
    }
    example
}

/// The example of a text, framed at its beginning only, whose tokens from `start` on are to be generated after
/// `[gMASK]`. Where the text `ends` there, `<eop>` is the last target.
pub fn suffix(id: u64, text: &[u32], start: usize, ends: bool, specials: &Specials) -> Example {
    let tokens = [&text[..start], &[specials.gmask]].concat();
    let mut example = Example::sequence(id, tokens, start + 1);
    generate(&mut example, start as u32, &text[start..], ends.then_some(specials.eop), specials);
    // Where a text holds several documents, what begins one isn't to be guessed.
    example.targets.retain(|target| target.token != specials.cls);
    example
}

/// Appends a block to part B, in the place of the mask at `mask`. Without an end, the last token is target only.
fn generate(example: &mut Example, mask: u32, span: &[u32], end: Option<u32>, specials: &Specials) {
    let first = example.tokens.len() as u32;
    let targets = span.iter().copied().chain(end);
    example.targets.extend((first..).zip(targets).map(|(at, token)| Target { at, token }));
    let inputs = if end.is_some() { span } else { &span[..span.len().saturating_sub(1)] };
    extend(example, mask, std::iter::once(specials.sop).chain(inputs.iter().copied()));
}

/// Appends a block's inputs, `<sop>` among them: each at the mask's position, with block positions from 1 on, and
/// visible to what comes after.
fn extend(example: &mut Example, mask: u32, inputs: impl IntoIterator<Item = u32>) {
    for (block_position, token) in (1..).zip(inputs) {
        example.tokens.push(token);
        example.positions.push(mask);
        example.block_positions.push(block_position);
        example.span_ends.push(example.tokens.len() as u32);
    }
}
