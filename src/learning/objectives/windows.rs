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

/// Like [`cut`], for judgements on pairs: sentences are cut at half of the room, and each window has two pieces or more
/// where its document has. A piece left alone at the end takes the one before it along, which is then in two windows.
/// Documents of one sentence give windows only with `single`.
///
/// # Errors
///
/// Where a document can't be read.
pub fn cut_for_pairs(text: &dyn TokenizedText, room: usize, single: bool) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for_each_document(text, |index, document| {
        let sentences = sentences(document, 0..usize::MAX);
        if sentences.len() == 1 && !single {
            return;
        }
        // Two halves fit together, so that only the last piece can be left alone.
        let pieces = pieces(&sentences, room / 2);
        for run in gather(&pieces, room) {
            let start = if run.len() == 1 { run.start.saturating_sub(1) } else { run.start };
            windows.push(window(index, &pieces[start..run.end]));
        }
    })?;
    Ok(windows)
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
