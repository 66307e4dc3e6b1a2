//! Attention by blocks of queries: no matrix of scores but that of a block.

use std::{ops::Range, sync::Arc};

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Kernel,
    buffer::{room, tensor},
    elements,
    math::exp,
    matrix::{By, Matrix, MatrixMut, Shared, Store, multiply},
    rows, shape,
    simd::{map_sum, max, simd, sum2},
};
use crate::kernels::{
    Dropout,
    dropout::dropped,
    visible::{Group, Host},
};

/// Queries of a block: its scores stay in the second-level cache.
const BLOCK: usize = 64;

/// See [`crate::kernels::attention`].
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Attention {
    pub(in crate::kernels) visible: Arc<Host>,
    pub(in crate::kernels) heads: usize,
    pub(in crate::kernels) dropout: Option<Dropout>,
}

/// One head's view of the rows `[query | key | value]`.
#[derive(Clone, Copy)]
struct Head<'a> {
    qkv: &'a [f32],
    hidden: usize,
    size: usize,
    head: usize,
}

#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl<'a> Head<'a> {
    fn matrix(&self, part: Part, tokens: &Range<usize>) -> Matrix<'a> {
        let start = tokens.start * 3 * self.hidden + self.column(part);
        Matrix::new(&self.qkv[start..], tokens.len(), self.size, 3 * self.hidden)
    }

    fn column(&self, part: Part) -> usize {
        part as usize * self.hidden + self.head * self.size
    }

    /// What scores are multiplied by.
    fn scale(&self) -> f32 {
        (self.size as f32).powf(-0.5)
    }
}

impl Attention {
    fn head<'a>(&self, qkv: &'a [f32], hidden: usize, head: usize) -> Head<'a> {
        Head { qkv, hidden, size: hidden / self.heads, head }
    }

    /// Blocks of a group's queries with the keys that they see.
    fn blocks(&self, group: &Group) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let queries = group.queries.clone();
        queries.clone().step_by(BLOCK).map(move |start| {
            let block = start..queries.end.min(start + BLOCK);
            let seen = || block.clone().map(|q| self.keys(q)).filter(|keys| !keys.is_empty());
            let first = seen().map(|keys| keys.start).min().unwrap_or(0);
            let end = seen().map(|keys| keys.end).max().unwrap_or(0);
            (block, first..end)
        })
    }

    fn keys(&self, query: usize) -> Range<usize> {
        self.visible.from[query] as usize..self.visible.to[query] as usize
    }

    /// The keys a query sees, counted from a block's first one.
    fn columns(&self, query: usize, keys: &Range<usize>) -> Range<usize> {
        let seen = self.keys(query);
        if seen.is_empty() { 0..0 } else { seen.start - keys.start..seen.end - keys.start }
    }

    /// Every head of every group: what one thread does at a time.
    fn tasks(&self) -> impl IndexedParallelIterator<Item = (&Group, usize)> {
        let groups = &self.visible.groups;
        (0..groups.len() * self.heads).into_par_iter().map(|i| (&groups[i / self.heads], i % self.heads))
    }

    fn dropped(&self, query: usize, head: usize) -> Option<(u32, u32)> {
        self.dropout.as_ref().map(|d| (d.stream(query, head as u32), d.threshold()))
    }

    fn kept_scale(&self) -> f32 {
        self.dropout.as_ref().map_or(1.0, Dropout::scale)
    }
}

impl Kernel<1> for Attention {
    type Saved = FlexTensor;

    fn forward(&self, [qkv]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        let [tokens, width] = shape(&qkv);
        let hidden = width / 3;
        let mut out = room(tokens * hidden);
        for rest in outside(self.visible.groups.iter().map(|g| g.queries.clone()), tokens) {
            out[rest.start * hidden..rest.end * hidden].fill(0.0);
        }
        let shared = Shared::new(&mut out, hidden);
        self.tasks().for_each_init(Vec::new, |scores, (group, head)| {
            let head = self.head(elements(&qkv), hidden, head);
            for (queries, keys) in self.blocks(group) {
                // SAFETY: no other task has this head of these queries, and blocks of a task come one after the other.
                #[expect(unsafe_code)]
                let out = unsafe { shared.tile(queries.start, queries.len(), head.head * head.size, head.size) };
                self.attend(head, queries, keys, scores, out);
            }
        });
        (tensor(out, [tokens, hidden]), qkv)
    }

    fn backward(&self, qkv: FlexTensor, gradient: FlexTensor, wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        if wanted != [true] {
            return [None];
        }
        let [tokens, width] = shape(&qkv);
        let hidden = width / 3;
        let mut slopes = room(tokens * width);
        for rest in outside(self.visible.groups.iter().map(|g| g.queries.clone()), tokens) {
            rest.for_each(|token| slopes[token * width..][..hidden].fill(0.0));
        }
        for rest in outside(self.visible.groups.iter().map(|g| g.keys.clone()), tokens) {
            rest.for_each(|token| slopes[token * width + hidden..][..2 * hidden].fill(0.0));
        }
        let shared = Shared::new(&mut slopes, width);
        let (qkv, gradient) = (elements(&qkv), elements(&gradient));
        self.tasks().for_each_init(<(Vec<f32>, Vec<f32>)>::default, |scratch, (group, head)| {
            let head = self.head(qkv, hidden, head);
            self.group_slopes(head, group, gradient, scratch, shared);
        });
        [Some(tensor(slopes, [tokens, width]))]
    }
}

impl Attention {
    /// Results of a block of queries.
    fn attend(&self, head: Head, queries: Range<usize>, keys: Range<usize>, scores: &mut Vec<f32>, mut out: MatrixMut) {
        let scores = first(scores, queries.len() * keys.len());
        score(head, &queries, &keys, scores);
        let mut scales = [0.0; BLOCK];
        for (i, query) in queries.clone().enumerate() {
            let row = &mut scores[i * keys.len()..][..keys.len()];
            scales[i] = self.kept_scale() * softmax(row, self.columns(query, &keys), self.dropped(query, head.head));
        }
        let probabilities = Matrix::new(scores, queries.len(), keys.len(), keys.len());
        multiply(out.reborrow(), Store::Replace, 1.0, probabilities, head.matrix(Part::Value, &keys), By::One);
        for (i, scale) in scales.into_iter().enumerate().take(queries.len()) {
            rows::scale(out.row(i), scale);
        }
    }

    /// Gradients of a group's queries, keys and values.
    fn group_slopes(
        &self,
        head: Head,
        group: &Group,
        gradient: &[f32],
        (scores, slopes): &mut (Vec<f32>, Vec<f32>),
        shared: Shared,
    ) {
        let tile = |part: Part, tokens: &Range<usize>| {
            // SAFETY: no other task has this head of these queries or these keys; below, no two tiles of the same part
            // live at the same time.
            #[expect(unsafe_code)]
            unsafe {
                shared.tile(tokens.start, tokens.len(), head.column(part), head.size)
            }
        };
        let mut store = Store::Replace;
        for (queries, keys) in self.blocks(group) {
            if store == Store::Replace && keys != group.keys {
                tile(Part::Key, &group.keys).fill(0.0);
                tile(Part::Value, &group.keys).fill(0.0);
                store = Store::Add;
            }
            let (n, m) = (queries.len(), keys.len());
            let (scores, slopes) = (first(scores, n * m), first(slopes, n * m));
            score(head, &queries, &keys, scores);
            let start = queries.start * head.hidden + head.head * head.size;
            let gradient = Matrix::new(&gradient[start..], n, head.size, head.hidden);
            let values = head.matrix(Part::Value, &keys);
            multiply(MatrixMut::new(slopes, n, m, m), Store::Replace, self.kept_scale(), gradient, values.t(), By::One);
            for (i, query) in queries.clone().enumerate() {
                let (scores, slopes) = (&mut scores[i * m..][..m], &mut slopes[i * m..][..m]);
                let columns = self.columns(query, &keys);
                score_slopes(scores, slopes, columns, self.dropped(query, head.head));
            }
            let (kept, slopes) = (Matrix::new(scores, n, m, m), Matrix::new(slopes, n, m, m));
            let (queried, keyed) = (head.matrix(Part::Query, &queries), head.matrix(Part::Key, &keys));
            multiply(tile(Part::Value, &keys), store, self.kept_scale(), kept.t(), gradient, By::One);
            multiply(tile(Part::Key, &keys), store, head.scale(), slopes.t(), queried, By::One);
            multiply(tile(Part::Query, &queries), Store::Replace, head.scale(), slopes, keyed, By::One);
            store = Store::Add;
        }
    }
}

/// Scores of a block: each query times each key.
fn score(head: Head, queries: &Range<usize>, keys: &Range<usize>, scores: &mut [f32]) {
    let (queried, keyed) = (head.matrix(Part::Query, queries), head.matrix(Part::Key, keys));
    let place = MatrixMut::new(scores, queries.len(), keys.len(), keys.len());
    multiply(place, Store::Replace, head.scale(), queried, keyed.t(), By::One);
}

simd! {
    /// Turns scores into probabilities times their sum, 0 where not seen or dropped; gives 1 / sum.
    fn softmax(row: &mut [f32], seen: Range<usize>, dropout: Option<(u32, u32)>) -> f32 {
        let Some((row, scale)) = exponentials(row, seen) else { return 0.0 };
        if let Some((stream, threshold)) = dropout {
            for (i, p) in row.iter_mut().enumerate() {
                *p = if dropped(stream, i as u32, threshold) { 0.0 } else { *p };
            }
        }
        scale
    }
}

/// Exponentials of what is seen of a row, up to a factor, and 1 / their sum. Sets the rest to 0.
#[inline(always)]
fn exponentials(row: &mut [f32], seen: Range<usize>) -> Option<(&mut [f32], f32)> {
    row[..seen.start].fill(0.0);
    row[seen.end..].fill(0.0);
    if seen.is_empty() {
        return None;
    }
    let row = &mut row[seen];
    let top = max(row);
    let total = map_sum(row, |x| exp(x - top));
    Some((row, 1.0 / total))
}

simd! {
    /// From scores and the gradients of the (kept) probabilities: the kept probabilities and the scores' gradients.
    fn score_slopes(
        scores: &mut [f32],
        slopes: &mut [f32],
        seen: Range<usize>,
        dropout: Option<(u32, u32)>,
    ) {
        slopes[..seen.start].fill(0.0);
        slopes[seen.end..].fill(0.0);
        let slopes = &mut slopes[seen.clone()];
        let Some((scores, scale)) = exponentials(scores, seen) else { return };
        for p in scores.iter_mut() {
            *p *= scale;
        }
        if let Some((stream, threshold)) = dropout {
            // Until the last loop dropped probabilities are kept as negative numbers.
            for (i, (p, d)) in scores.iter_mut().zip(slopes.iter_mut()).enumerate() {
                let dropped = dropped(stream, i as u32, threshold);
                *p = if dropped { -*p } else { *p };
                *d = if dropped { 0.0 } else { *d };
            }
        }
        let mean = sum2(scores, slopes, |p, d| p * d);
        for (p, d) in scores.iter_mut().zip(slopes.iter_mut()) {
            *d = p.abs() * (*d - mean);
            *p = if *p > 0.0 { *p } else { 0.0 };
        }
    }
}

/// At least `n` numbers of scratch memory.
fn first(scratch: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if scratch.len() < n {
        scratch.resize(n, 0.0);
    }
    &mut scratch[..n]
}

/// What is in `0..end` and in none of the ranges, which are in order.
fn outside(ranges: impl Iterator<Item = Range<usize>>, end: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for range in ranges.chain([end..end]) {
        gaps.push(at..range.start);
        at = range.end;
    }
    gaps.retain(|gap| !gap.is_empty());
    gaps
}
