//! Sentence-pair tasks on two segments: does B follow A (Devlin et al. 2019), or do they stand in their order (Lan et al. 2020)?

use std::ops::Range;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Corpus, Specials, TokenizedDocument, TokenizedText,
    definition::{Draw, ExampleSource, Examples},
    windows::{Window, cut_for_pairs, pieces, sentences},
};
use crate::{
    data::text::Special,
    network::batch::{Example, Remark},
    support::random::{Key, Stream},
};

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

/// The special tokens that pairs take.
pub(super) const NEEDS: [Special; 2] = [Special::Cls, Special::Sep];

/// Makes sentence pairs out of a corpus.
pub(super) struct PairExamples {
    task: PairTask,
    room: usize,
}

impl PairExamples {
    /// With examples of at most `max_length` tokens.
    pub(super) fn new(task: PairTask, max_length: usize) -> Self {
        Self { task, room: max_length.saturating_sub(FRAME).max(2) }
    }
}

impl Examples for PairExamples {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut_for_pairs(corpus.text.as_ref(), self.room, self.task == PairTask::NextSentence)
    }

    fn check(&self, name: &str, windows: &[Window]) -> Result<()> {
        match self.task {
            PairTask::NextSentence => {
                let mut documents: Vec<u32> = windows.iter().map(|window| window.document).collect();
                documents.dedup();
                ensure!(documents.len() > 1, "{name} needs two documents or more, so that B can come from another one");
            }
            PairTask::SentenceOrder => {
                ensure!(!windows.is_empty(), "{name} needs documents of two sentences or more; the corpus has none")
            }
        }
        Ok(())
    }

    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example> {
        let ExampleSource { id, corpus, window, .. } = *source;
        let text = corpus.text.as_ref();
        example(id, text, window, self.room, self.task, &corpus.specials, draw.own.with("pair"))
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

/// `[CLS] A [SEP] B [SEP]`, positions running through, attention in both directions; `pair` is 0 where B follows A.
/// The segment is 0 up to the first `[SEP]`, and 1 from then on.
pub fn lay_out(id: u64, a: &[u32], b: &[u32], pair: u32, specials: &Specials) -> Example {
    let tokens = [&[specials.cls], a, &[specials.sep], b, &[specials.sep]].concat();
    let length = tokens.len();
    let second = a.len() + 2;
    let segments = (0..length).map(|at| u32::from(at >= second)).collect();
    Example { pair: Some(pair), segments, ..Example::sequence(id, tokens, length) }
}

/// Makes a pair out of a window of at most `room` tokens, as [`super::windows::cut_for_pairs`] gives them.
///
/// The window is split at a random sentence boundary (at the middle of an overlong sentence where it has none). For
/// `next_sentence`, a window that can't be split, and half of the others, have as B sentences from a random place in
/// another document instead, until the room is full.
///
/// # Errors
///
/// Where a document can't be read.
pub fn example(
    id: u64,
    text: &dyn TokenizedText,
    window: Window,
    room: usize,
    task: PairTask,
    specials: &Specials,
    key: Key,
) -> Result<Example> {
    let document = text.document(window.document as usize)?;
    let mut stream = key.stream();
    let boundary = boundary(&document, window.range(), room, &mut stream);
    let (a, b) = document.tokens[window.range()].split_at(boundary);
    let changed = stream.below(2) == 1;
    Ok(match task {
        PairTask::SentenceOrder if changed => lay_out(id, b, a, 1, specials),
        PairTask::NextSentence if changed || b.is_empty() => {
            let b = elsewhere(text, window.document, room.saturating_sub(a.len()), &mut stream)?;
            lay_out(id, a, &b, 1, specials)
        }
        _ => lay_out(id, a, b, 0, specials),
    })
}

/// Where to split a window, counted from its start; its whole length where it's one piece.
fn boundary(document: &TokenizedDocument<'_>, range: Range<usize>, room: usize, stream: &mut Stream) -> usize {
    let sentences = sentences(document, range.clone());
    let parts = if sentences.len() > 1 { sentences } else { pieces(&sentences, room / 2) };
    match parts.len() {
        0 | 1 => range.len(),
        parts_len => parts[stream.below(parts_len - 1)].end - range.start,
    }
}

/// Text from a random sentence of another document on, as much as there is room for.
fn elsewhere(text: &dyn TokenizedText, document: u32, room: usize, stream: &mut Stream) -> Result<Vec<u32>> {
    // Empty documents have nothing to give: go on to the next one, around to the one before this.
    let others = text.documents().saturating_sub(1);
    let first = stream.below(others);
    for step in 0..others {
        let index = (first + step) % others;
        let other = text.document(index + usize::from(index >= document as usize))?;
        let starts = sentences(&other, 0..usize::MAX);
        if !starts.is_empty() {
            let start = starts[stream.below(starts.len())].start;
            let end = other.tokens.len().min(start + room);
            return Ok(other.tokens[start..end].to_vec());
        }
    }
    Ok(Vec::new())
}
