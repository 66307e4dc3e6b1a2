//! A batch's examples, each divided into a source for the encoder and a target for the decoder.
//!
//! The tokens that an example's first token sees, its prefix, are the source. The target begins with a token of its own
//! in place of the source's last one, so that in either form the hidden state there predicts what comes after the
//! prefix:
//!
//! ```text
//! example   a  b  c  d  e      a, b and c see [0, 3), d sees [0, 4), e sees [0, 5)
//! source    a  b  c
//! target          >  d  e
//! predicts        d  e  …
//! ```

use std::ops::Range;

use burn::tensor::Device;

use crate::network::{
    batch::Batch,
    kernels::{AttentionSpans, RowIds},
    model::pass::Pass,
};

/// The tokens of both sides, laid out in as many rows as the batch.
pub(super) struct Sides {
    /// What the encoder reads; tokens of a source see all of it.
    pub(super) source: Batch,
    /// What the decoder writes; each token sees those before it.
    pub(super) target: Batch,
    /// Of each target token the source that it reads.
    from: Vec<u32>,
    to: Vec<u32>,
    /// For each token of the batch its place in the source's and then the target's tokens.
    places: Vec<u32>,
}

/// A token of one side.
struct Token {
    /// Its place in the batch.
    place: usize,
    token: u32,
    position: u32,
    /// Which tokens it sees of its own side's row.
    sees: Range<usize>,
    /// Which tokens of the source's row it reads.
    reads: Range<usize>,
}

impl Sides {
    /// Divides the examples of a pass; targets begin with the token `start`.
    pub(super) fn new(pass: &Pass, start: u32) -> Self {
        let AttentionSpans { rows, width, .. } = pass.spans;
        let (sources, targets): (Vec<_>, Vec<_>) =
            (0..rows).map(|row| divide(pass, row * width..(row + 1) * width, start)).unzip();
        let (source, target) = (lay_out(pass, &sources), lay_out(pass, &targets));

        // A place between the examples sees nothing, and its hidden state is anyone's.
        let (from, to) = (vec![0; target.tokens.len()], vec![0; target.tokens.len()]);
        let places = vec![0; pass.tokens.host.len()];
        let mut sides = Self { source, target, from, to, places };
        for (_, at, token) in each(&sources, sides.source.width) {
            sides.places[token.place] = at as u32;
        }
        for (row, at, token) in each(&targets, sides.target.width) {
            sides.places[token.place] = (sides.source.tokens.len() + at) as u32;
            sides.from[at] = (row * sides.source.width + token.reads.start) as u32;
            sides.to[at] = (row * sides.source.width + token.reads.end) as u32;
        }
        sides
    }

    /// Which of the source's tokens each of the target's reads.
    pub(super) fn reads(&self, device: &Device) -> AttentionSpans {
        let Batch { rows, width, .. } = self.target;
        AttentionSpans::among(&self.from, &self.to, rows, [width, self.source.width], device)
            .unwrap_or_else(|error| unreachable!("sources are in their rows: {error}"))
    }

    /// Where the batch's tokens are among the source's and then the target's.
    pub(super) fn places(&self, device: &Device) -> RowIds {
        RowIds::new(&self.places[..], device)
    }
}

/// Sources and targets of the examples in a row's `places`.
fn divide(pass: &Pass, places: Range<usize>, start: u32) -> (Vec<Token>, Vec<Token>) {
    let (mut source, mut target) = (Vec::new(), Vec::new());
    // Of the example so far: its prefix in the batch, and where its source and its target begin.
    let (mut prefix, mut reads, mut begin) = (0..0, 0..0, 0);
    for place in places {
        let seen = pass.spans.seen(place);
        if seen.is_empty() {
            continue;
        }
        if seen.start == place {
            reads = source.len()..source.len() + seen.len();
            begin = target.len();
            prefix = seen;
        }
        let (token, position) = (pass.tokens.host[place], pass.positions.host[place]);
        if place < prefix.end {
            source.push(Token { place, token, position, sees: reads.clone(), reads: reads.clone() });
        }
        if place + 1 >= prefix.end {
            let token = if place < prefix.end { start } else { token };
            let position = (place + 1 - prefix.end) as u32;
            target.push(Token { place, token, position, sees: begin..target.len() + 1, reads: reads.clone() });
        }
    }
    (source, target)
}

/// Rows of a side's tokens, as wide as the longest.
fn lay_out(pass: &Pass, side: &[Vec<Token>]) -> Batch {
    let (rows, width) = (side.len(), side.iter().map(Vec::len).max().unwrap_or(0));
    let size = rows * width;
    let mut batch = Batch {
        rows,
        width,
        tokens: vec![0; size],
        positions: vec![0; size],
        block_positions: vec![0; size],
        span_starts: vec![0; size],
        span_ends: vec![0; size],
        dropout_keys: vec![0; size],
        ..Batch::default()
    };
    for (row, at, token) in each(side, width) {
        batch.tokens[at] = token.token;
        batch.positions[at] = token.position;
        batch.span_starts[at] = (row * width + token.sees.start) as u32;
        batch.span_ends[at] = (row * width + token.sees.end) as u32;
        batch.dropout_keys[at] = pass.dropout_key(token.place);
    }
    batch
}

/// A side's tokens with their rows and their places in a layout of this width.
fn each(side: &[Vec<Token>], width: usize) -> impl Iterator<Item = (usize, usize, &Token)> {
    side.iter()
        .enumerate()
        .flat_map(move |(row, tokens)| (row * width..).zip(tokens).map(move |(at, token)| (row, at, token)))
}
