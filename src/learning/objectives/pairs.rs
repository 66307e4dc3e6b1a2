//! Sentence-pair tasks on two segments: does B follow A (Devlin et al. 2019), or do they stand in their order (Lan et al. 2020)?
//!
//! Nothing but what the segments say may tell the label. So their lengths are drawn before it, out of what the window (and
//! for `next_sentence` the one that a strange B would come from) can give in any case; and both segments are cut by one
//! rule: they begin at a sentence's start and end after so many tokens, wherever that is. BERT's own code has a strange B
//! fill the room and a true one end with a sentence, so that the length alone tells three of four labels.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus, Specials, TokenizedDocument, TokenizedText,
    definition::{
        Definition, Draw, ExampleSource, Examples, HeadKind, HeldOutMetric, ObjectiveRole, ObjectiveSettings,
        SettingsType,
    },
    windows::{PairWindow, Window, cut_for_pairs, pair_starts},
};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Remark},
        model::AttentionPattern,
    },
    spec::Section,
    support::random::{Key, Stream},
};

/// `next_sentence`.
pub(super) static NEXT_SENTENCE: Definition =
    definition::<false>("next_sentence", "Tell whether B follows A or comes from another document");

/// `sentence_order`.
pub(super) static SENTENCE_ORDER: Definition =
    definition::<true>("sentence_order", "Tell whether A and B stand in their order or were exchanged");

const fn definition<const EXCHANGES: bool>(name: &'static str, about: &'static str) -> Definition {
    Definition {
        name,
        section: Section::Entry,
        about,
        role: ObjectiveRole::Pairs,
        attention: AttentionPattern::Bidirectional,
        assumed: false,
        teaches: None,
        measure: Some(HeldOutMetric::PairAccuracy),
        head: Some(HeadKind::Pair),
        // 2 draws lengths before labels.
        version: 2,
        settings: SettingsType::of::<Pairs<EXCHANGES>>(),
    }
}

/// A judgement on a pair of text segments.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SentencePair {
    /// Factor of this loss beside the masked one
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

fn one() -> f64 {
    1.0
}

// The settings of one of the tasks. Its schema is that of the settings within, which comments of its own would change.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(transparent)]
struct Pairs<const EXCHANGES: bool>(SentencePair);

impl<const EXCHANGES: bool> ObjectiveSettings for Pairs<EXCHANGES> {
    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        vec![Special::Cls, Special::Sep]
    }

    fn predicted(&self) -> f64 {
        0.0
    }

    fn pair_weight(&self) -> Option<f64> {
        Some(self.0.loss_weight)
    }

    fn examples(&self, corpus: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        let task = if EXCHANGES { PairTask::SentenceOrder } else { PairTask::NextSentence };
        Ok(Box::new(PairExamples::new(task, corpus.text.as_ref(), max_length)?))
    }
}

/// Tokens of a pair that aren't text: `[CLS]`, `[SEP]`, `[SEP]`.
pub const FRAME: usize = 3;

/// What is predicted about a pair of segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairTask {
    /// Half of the time B comes from another document.
    NextSentence,
    /// Half of the time A and B are exchanged.
    SentenceOrder,
}

/// Makes sentence pairs out of a corpus.
pub struct PairExamples {
    task: PairTask,
    room: usize,
    /// In the order of the documents.
    windows: Vec<PairWindow>,
}

impl PairExamples {
    /// Finds the places of pairs in a text, whose examples have at most `max_length` tokens.
    ///
    /// # Errors
    /// Where a document can't be read.
    pub fn new(task: PairTask, text: &dyn TokenizedText, max_length: usize) -> Result<Self> {
        let room = max_length.saturating_sub(FRAME).max(2);
        Ok(Self { task, room, windows: cut_for_pairs(text, room)? })
    }

    /// Makes a pair out of one of its windows.
    ///
    /// # Errors
    /// Where a document can't be read.
    pub fn pair(
        &self,
        id: u64,
        text: &dyn TokenizedText,
        window: Window,
        specials: &Specials,
        key: Key,
    ) -> Result<Example> {
        let own = self.known(window)?;
        let mut stream = key.stream();
        let other = match self.task {
            PairTask::NextSentence => Some(self.elsewhere(window.document, &mut stream)?),
            PairTask::SentenceOrder => None,
        };
        // What both can give, though only one is asked.
        let text_tokens = other.map_or(own.text, |other| other.text.min(own.text)) as usize;
        let lengths = split(text_tokens, &mut stream);
        let changed = stream.below(2) == 1;

        let document = text.document(window.document as usize)?;
        let [a, b] = segments(&document, window, self.room, lengths)?;
        let [a, b] = [&document.tokens[a], &document.tokens[b]];
        Ok(match (changed, other) {
            (false, _) => lay_out(id, a, b, 0, specials),
            (true, None) => lay_out(id, b, a, 1, specials),
            (true, Some(other)) => {
                let document = text.document(other.window.document as usize)?;
                let [_, b] = segments(&document, other.window, self.room, lengths)?;
                lay_out(id, a, &document.tokens[b], 1, specials)
            }
        })
    }

    /// What is known of a window.
    fn known(&self, window: Window) -> Result<PairWindow> {
        let place = |known: &PairWindow| (known.window.document, known.window.start);
        let found = self.windows.binary_search_by_key(&(window.document, window.start), place);
        found.ok().map(|at| self.windows[at]).context("this is no window of pairs")
    }

    /// A random window of another document.
    fn elsewhere(&self, document: u32, stream: &mut Stream) -> Result<PairWindow> {
        let first = self.windows.partition_point(|known| known.window.document < document);
        let own = self.windows[first..].partition_point(|known| known.window.document == document);
        ensure!(own < self.windows.len(), "there is no pair in another document");
        let at = stream.below(self.windows.len() - own);
        Ok(self.windows[if at < first { at } else { at + own }])
    }
}

impl Examples for PairExamples {
    fn windows(&self, _: &Corpus) -> Result<Vec<Window>> {
        Ok(self.windows.iter().map(|known| known.window).collect())
    }

    fn check(&self, name: &str, windows: &[Window]) -> Result<()> {
        ensure!(!windows.is_empty(), "{name} needs documents of two sentences or more; the corpus has none");
        if self.task == PairTask::NextSentence {
            let has_others = windows.iter().any(|window| window.document != windows[0].document);
            ensure!(
                has_others,
                "{name} needs two documents or more, of two sentences or more each, so that B can come from another one"
            );
        }
        Ok(())
    }

    fn length(&self, _: &Corpus, window: Window) -> usize {
        self.known(window).map_or(window.length(), |known| known.text as usize) + FRAME
    }

    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example> {
        let ExampleSource { id, corpus, window, .. } = *source;
        self.pair(id, corpus.text.as_ref(), window, &corpus.specials, draw.own.with("pair"))
    }

    fn remarks(&self, _: &ExampleSource<'_>, _: Draw, example: &Example) -> Vec<Remark> {
        let text = match (self.task, example.pair) {
            (_, None) => return Vec::new(),
            (PairTask::NextSentence, Some(0)) => "B follows A",
            (PairTask::NextSentence, Some(_)) => "B comes from another document",
            (PairTask::SentenceOrder, Some(0)) => "A and B stand in their order",
            (PairTask::SentenceOrder, Some(_)) => "A and B were exchanged",
        };
        vec![Remark { name: Remark::PAIR, text: text.to_owned() }]
    }
}

/// Draws the lengths of two segments that are so long together, each as likely as the other way round; the shorter one has a
/// quarter at least.
fn split(text: usize, stream: &mut Stream) -> [usize; 2] {
    let least = text.div_ceil(4);
    let a = least + stream.below(text + 1 - 2 * least);
    [a, text - a]
}

/// Where segments of these lengths lie: the first at the window's start, the second at the next start of a sentence after
/// it.
fn segments(
    document: &TokenizedDocument<'_>,
    window: Window,
    room: usize,
    [a, b]: [usize; 2],
) -> Result<[Range<usize>; 2]> {
    let starts = pair_starts(document, window, room);
    let first = window.start as usize;
    let second = starts.get(starts.partition_point(|&start| start < first + a));
    let second =
        *second.filter(|&start| start + b <= window.end as usize).context("the window is too short for a pair")?;
    Ok([first..first + a, second..second + b])
}

/// `[CLS] A [SEP] B [SEP]`, positions running through, attention in both directions; `pair` is 0 where B follows A.
/// The segment is 0 up to the first `[SEP]`, and 1 from then on.
pub fn lay_out(id: u64, a: &[u32], b: &[u32], pair: u32, specials: &Specials) -> Example {
    let tokens = [&[specials.cls], a, &[specials.sep], b, &[specials.sep]].concat();
    let length = tokens.len();
    let second = a.len() + 2;
    let segments = (0..length).map(|at| u32::from(at >= second)).collect();
    Example { pair: Some(pair), segments, ..Example::sequence(id, tokens, length) }
}
