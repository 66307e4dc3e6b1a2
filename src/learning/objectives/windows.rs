//! Documents cut into windows that fit into a sequence.

use std::ops::Range;

use anyhow::{Context, Result};

use super::{TokenizedDocument, TokenizedText};
use crate::network::batch::MadeOf;

/// A run of a document's tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// The document.
    pub document: u32,
    /// Its first token.
    pub start: u32,
    /// One past its last token.
    pub end: u32,
}

impl Window {
    /// How many tokens it has.
    pub fn length(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Its tokens' places in the document.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl From<Window> for MadeOf {
    fn from(Window { document, start, end }: Window) -> Self {
        Self::Text { document, tokens: start..end }
    }
}

/// The sentences of a document, or their parts that lie within a range of its tokens; without empty ones. Together they
/// cover the range. What this costs depends on the range, not on the document.
pub fn sentences(document: &TokenizedDocument<'_>, range: Range<usize>) -> Vec<Range<usize>> {
    let end = range.end.min(document.tokens.len());
    let mut start = range.start;
    let first = document.sentence_ends.partition_point(|&sentence| sentence as usize <= start);
    let ends = document.sentence_ends[first..].iter().map(|&sentence| sentence as usize);
    let mut parts = Vec::new();
    for end in ends.take_while(|&sentence| sentence < end).chain([end]) {
        if end > start {
            parts.push(start..end);
            start = end;
        }
    }
    parts
}

/// Cuts all documents into windows of at most `room` tokens: whole sentences are gathered until the next one doesn't
/// fit, and a sentence longer than the room is cut. Each token is in exactly one window.
///
/// # Errors
///
/// Where a document can't be read.
pub fn cut(text: &dyn TokenizedText, room: usize) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for_each_document(text, |index, document| {
        let pieces = pieces(&sentences(document, 0..usize::MAX), room);
        windows.extend(gather(&pieces, room).into_iter().map(|run| window(index, &pieces[run])));
    })?;
    Ok(windows)
}

/// Windows of at most `room` tokens that move on by `stride` tokens (by no more than they hold), each with the number of
/// its first tokens that were in the one before it: the context of the others. Each token is new in one window. It's how
/// Hugging Face's guide on the perplexity of models of fixed length goes through a text.
///
/// # Errors
///
/// Where a document can't be read.
pub fn slide(text: &dyn TokenizedText, room: usize, stride: usize) -> Result<Vec<(Window, usize)>> {
    let room = room.max(1);
    let stride = stride.clamp(1, room);
    let mut windows = Vec::new();
    for_each_document(text, |document, content| {
        let (mut start, mut seen) = (0, 0);
        while seen < content.tokens.len() {
            let end = content.tokens.len().min(start + room);
            windows.push((Window { document, start: start as u32, end: end as u32 }, seen - start));
            seen = end;
            start += stride;
        }
    })?;
    Ok(windows)
}

/// A window that pairs of segments are made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PairWindow {
    /// Where it lies.
    pub window: Window,
    /// Tokens that two segments out of it have together at most, however they're split.
    pub text: u32,
}

/// Cuts all documents into windows for pairs of segments, each beginning with a sentence, which have `room` tokens
/// together. Windows follow one another by that; what is left at a document's end gives shorter pairs. A sentence longer
/// than half of the room counts as several. What can't be split gives no window, nor does what is left if it's much shorter
/// than other pairs: in a handful of tokens the last one says what they are, a speaker's name or a title.
///
/// # Errors
///
/// Where a document can't be read.
pub fn cut_for_pairs(text: &dyn TokenizedText, room: usize) -> Result<Vec<PairWindow>> {
    let mut windows = Vec::new();
    for_each_document(text, |index, document| {
        let pieces = pieces(&sentences(document, 0..usize::MAX), room / 2);
        let mut first = 0;
        while first < pieces.len() {
            let full = (first + 1..=pieces.len()).find(|&end| pair_text(&pieces[first..end]) >= room);
            // A piece left alone at the end takes the one before it along.
            let start = if full.is_none() { first.min(pieces.len().saturating_sub(2)) } else { first };
            let end = full.unwrap_or(pieces.len());
            let text = pair_text(&pieces[start..end]).min(room);
            if text >= 2 {
                windows.push(PairWindow { window: window(index, &pieces[start..end]), text: text as u32 });
            }
            if end == pieces.len() {
                break;
            }
            let next = pieces[first].start + room;
            first += pieces[first..end].partition_point(|piece| piece.start < next);
        }
    })?;
    let longest = windows.iter().map(|window| window.text).max().unwrap_or(0);
    windows.retain(|window| window.text >= longest.div_ceil(2).min(SHORT));
    Ok(windows)
}

/// Tokens of pairs that are never too short.
const SHORT: u32 = 32;

/// Where segments may begin in a window for pairs.
pub(super) fn pair_starts(document: &TokenizedDocument<'_>, window: Window, room: usize) -> Vec<usize> {
    pieces(&sentences(document, window.range()), room / 2).into_iter().map(|piece| piece.start).collect()
}

/// How many tokens two segments have together that fit into these pieces whatever the split and the order of the pieces:
/// one at the start, the other at the first piece after it. At worst all but a token of the longest piece lies between.
fn pair_text(pieces: &[Range<usize>]) -> usize {
    let longest = pieces.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    pieces.iter().map(ExactSizeIterator::len).sum::<usize>() + 1 - longest.max(1)
}

/// Calls with each document and its index.
///
/// # Errors
///
/// Where a document can't be read.
pub(super) fn for_each_document(
    text: &dyn TokenizedText,
    mut with: impl FnMut(u32, &TokenizedDocument<'_>),
) -> Result<()> {
    for index in 0..text.documents() {
        with(index as u32, &text.document(index).with_context(|| format!("failed to read document {index}"))?);
    }
    Ok(())
}

/// Sentences as they are, but those longer than the room in pieces of it.
pub(super) fn pieces(sentences: &[Range<usize>], room: usize) -> Vec<Range<usize>> {
    let room = room.max(1);
    let cut = |sentence: &Range<usize>| {
        let end = sentence.end;
        sentence.clone().step_by(room).map(move |start| start..(start + room).min(end))
    };
    sentences.iter().flat_map(cut).collect()
}

/// Runs of pieces that together fit into the room.
fn gather(pieces: &[Range<usize>], room: usize) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for (index, piece) in pieces.iter().enumerate() {
        if piece.end - pieces[first].start > room {
            runs.push(first..index);
            first = index;
        }
    }
    if first < pieces.len() {
        runs.push(first..pieces.len());
    }
    runs
}

fn window(document: u32, pieces: &[Range<usize>]) -> Window {
    let start = pieces.first().map_or(0, |piece| piece.start);
    let end = pieces.last().map_or(0, |piece| piece.end);
    Window { document, start: start as u32, end: end as u32 }
}
