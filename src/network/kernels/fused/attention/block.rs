//! Attention of a block of queries, and its gradient.

use std::ops::Range;

use super::{
    parts::{Grads, Inputs, Part, PartMut, Widened},
    problem::{Attention, BLOCK},
    softmax::{Seen, score_grads, softmax},
};
use crate::{
    network::kernels::{
        Dropout,
        attention_spans::Example,
        fused::{
            matrix::{By, Matrix, MatrixMut, Store, multiply},
            rows,
        },
    },
    support::math,
};

/// A block's scores and their gradients.
pub(super) type Scratch = (Vec<f32>, Vec<f32>);

/// A block's scores, and its keys and values where they aren't held in f32.
#[derive(Default)]
pub(super) struct Room {
    scores: Vec<f32>,
    key: Widened,
    value: Widened,
}

/// Queries, and the keys from the first that one of them sees to the last, without the shared ones.
pub(super) struct Block {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

/// Columns of a block's scores, and the rows of keys and values that they belong to.
struct Segment {
    column: usize,
    keys: Range<usize>,
    shared: bool,
}

impl Segment {
    /// What becomes of sums over keys: a block's own come first.
    fn store(&self) -> Store {
        if self.shared { Store::Add } else { Store::Replace }
    }

    /// The segment's columns.
    fn of<'a>(&self, scores: &'a [f32], (queries, columns): (usize, usize)) -> Matrix<'a> {
        Matrix::new(&scores[self.column..], queries, self.keys.len(), columns)
    }

    /// The segment's columns, to be written.
    fn of_mut<'a>(&self, scores: &'a mut [f32], (queries, columns): (usize, usize)) -> MatrixMut<'a> {
        MatrixMut::new(&mut scores[self.column..], queries, self.keys.len(), columns)
    }
}

/// A query head and the key/value head it reads.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) head: usize,
    pub(super) kv_head: usize,
}

impl<'a> Head<'a> {
    fn queries(&self, rows: &Range<usize>) -> Matrix<'a> {
        self.inputs.query.head(rows, self.head, self.inputs.size)
    }

    fn keys<'w>(&self, segment: &Segment, widened: &'w mut Widened) -> Matrix<'w>
    where
        'a: 'w,
    {
        self.inputs.key.head(&segment.keys, self.kv_head, self.inputs.size, widened)
    }

    fn values<'w>(&self, segment: &Segment, widened: &'w mut Widened) -> Matrix<'w>
    where
        'a: 'w,
    {
        self.inputs.value.head(&segment.keys, self.kv_head, self.inputs.size, widened)
    }

    /// What scores are multiplied by.
    fn scale(&self) -> f32 {
        math::inverse_sqrt(self.inputs.size as f32)
    }
}

impl Attention {
    /// Blocks of an example's queries with the keys that they see.
    pub(super) fn blocks(&self, example: &Example) -> impl Iterator<Item = Block> {
        let queries = example.queries.clone();
        queries.clone().step_by(BLOCK).map(move |start| {
            let block = start..queries.end.min(start + BLOCK);
            let seen = || block.clone().map(|q| self.keys(q)).filter(|keys| !keys.is_empty());
            let first = seen().map(|keys| keys.start).min().unwrap_or(0);
            let end = seen().map(|keys| keys.end).max().unwrap_or(0);
            Block { queries: block, keys: first..end }
        })
    }

    fn keys(&self, query: usize) -> Range<usize> {
        self.spans.from[query] as usize..self.spans.to[query] as usize
    }

    /// Rows and columns of a block's scores.
    fn extent(&self, block: &Block) -> (usize, usize) {
        (block.queries.len(), self.shared + block.keys.len())
    }

    /// The columns that a query sees.
    fn seen(&self, query: usize, block: &Block) -> Seen {
        let seen = self.keys(query);
        let column = |key: usize| self.shared + key - block.keys.start;
        Seen::new(self.shared, if seen.is_empty() { 0..0 } else { column(seen.start)..column(seen.end) })
    }

    /// The block's own keys, and those that all share.
    fn segments(&self, block: &Block) -> impl Iterator<Item = Segment> {
        let keys = self.shared + block.keys.start..self.shared + block.keys.end;
        let own = Segment { column: self.shared, keys, shared: false };
        let shared = Segment { column: 0, keys: 0..self.shared, shared: true };
        std::iter::once(own).chain((self.shared > 0).then_some(shared))
    }

    fn dropped(&self, query: usize, head: usize) -> Option<(u32, u32)> {
        self.dropout.as_ref().map(|d| (d.stream(query, head as u32), d.threshold()))
    }

    fn kept_scale(&self) -> f32 {
        self.dropout.as_ref().map_or(1.0, Dropout::scale)
    }

    /// Each query times each key.
    fn score(&self, head: Head, block: &Block, scores: &mut [f32], widened: &mut Widened) {
        let queried = head.queries(&block.queries);
        for segment in self.segments(block) {
            let place = segment.of_mut(scores, self.extent(block));
            multiply(place, Store::Replace, head.scale(), queried, head.keys(&segment, widened).t(), By::One);
        }
    }

    /// Results of a block.
    pub(super) fn attend(&self, head: Head, block: &Block, room: &mut Room, mut out: MatrixMut) {
        let (n, m) = self.extent(block);
        let scores = first(&mut room.scores, n * m);
        self.score(head, block, scores, &mut room.key);
        let mut scales = [0.0; BLOCK];
        for (i, query) in block.queries.clone().enumerate() {
            let row = &mut scores[i * m..][..m];
            scales[i] = self.kept_scale() * softmax(row, &self.seen(query, block), self.dropped(query, head.head));
        }
        for segment in self.segments(block) {
            let probabilities = segment.of(scores, (n, m));
            let values = head.values(&segment, &mut room.value);
            multiply(out.reborrow(), segment.store(), 1.0, probabilities, values, By::One);
        }
        for (i, scale) in scales.into_iter().enumerate().take(n) {
            rows::scale(out.row(i), scale);
        }
    }

    /// Gradients of an example's queries in the heads that share a key/value head, and of its keys and values.
    ///
    /// Gives those of the shared keys and values, `[2, shared, size]`, because other examples add to them too.
    pub(super) fn example_grads<'a>(
        &self,
        inputs: Inputs,
        kv_head: usize,
        example: &Example,
        gradient: Part,
        scratch: &mut Scratch,
        grads: Grads<'a>,
    ) -> Vec<f32> {
        let (size, kept_scale) = (inputs.size, self.kept_scale());
        // What is learned from is in f32.
        let (key, value) = (&mut Widened::default(), &mut Widened::default());
        let mut sums = vec![0.0; 2 * self.shared * size];
        let (shared_key, shared_value) = sums.split_at_mut(self.shared * size);
        let tile = |part: PartMut<'a>, rows: &Range<usize>, head| {
            // SAFETY: no other task has this head of these queries or this key/value head of these keys; below, no two tiles of
            // the same part live at the same time.
            #[expect(unsafe_code)]
            unsafe {
                part.tile(rows, head, size)
            }
        };
        let mut store = Store::Replace;
        for head in (0..self.together()).map(|i| Head { inputs, head: kv_head * self.together() + i, kv_head }) {
            for block in self.blocks(example) {
                if store == Store::Replace && block.keys != example.keys {
                    let keys = self.shared + example.keys.start..self.shared + example.keys.end;
                    tile(grads.key, &keys, kv_head).fill(0.0);
                    tile(grads.value, &keys, kv_head).fill(0.0);
                    store = Store::Add;
                }
                let (n, m) = self.extent(&block);
                let (scores, d_scores) = (first(&mut scratch.0, n * m), first(&mut scratch.1, n * m));
                self.score(head, &block, scores, key);
                let gradient = gradient.head(&block.queries, head.head, size);
                for segment in self.segments(&block) {
                    let place = segment.of_mut(d_scores, (n, m));
                    multiply(place, Store::Replace, kept_scale, gradient, head.values(&segment, value).t(), By::One);
                }
                for (i, query) in block.queries.clone().enumerate() {
                    let (scores, d_scores) = (&mut scores[i * m..][..m], &mut d_scores[i * m..][..m]);
                    score_grads(scores, d_scores, &self.seen(query, &block), self.dropped(query, head.head));
                }
                for segment in self.segments(&block) {
                    let (kept, d_scores) = (segment.of(scores, (n, m)), segment.of(d_scores, (n, m)));
                    let d_query = tile(grads.query, &block.queries, head.head);
                    multiply(d_query, segment.store(), head.scale(), d_scores, head.keys(&segment, key), By::One);
                    let (store, d_key, d_value) = if segment.shared {
                        let sum = |sums| MatrixMut::new(sums, self.shared, size, size);
                        (Store::Add, sum(&mut *shared_key), sum(&mut *shared_value))
                    } else {
                        let sum = |part| tile(part, &segment.keys, kv_head);
                        (store, sum(grads.key), sum(grads.value))
                    };
                    multiply(d_value, store, kept_scale, kept.t(), gradient, By::One);
                    multiply(d_key, store, head.scale(), d_scores.t(), head.queries(&block.queries), By::One);
                }
                store = Store::Add;
            }
        }
        sums
    }
}

/// At least `n` elements of scratch memory.
fn first(scratch: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if scratch.len() < n {
        scratch.resize(n, 0.0);
    }
    &mut scratch[..n]
}
