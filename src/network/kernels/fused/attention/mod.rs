//! Attention by blocks of queries: no matrix of scores but that of a block.

mod block;
mod cached;
mod parts;
mod problem;
mod softmax;

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

pub(super) use self::{cached::CachedAttention, problem::Attention};

use self::{
    block::{Head, Room, Scratch},
    parts::{Grads, Inputs, Keys, Part, PartMut},
};
use super::{
    buffer::{room, tensor},
    kernel::{Kernel, elements, shape},
    matrix::Shared,
    rows,
};
use crate::network::kernels::attention_spans::Example;

impl Attention {
    /// Every head of every example, or every key/value head of it: what one thread does at a time.
    fn tasks(&self, heads: usize) -> impl IndexedParallelIterator<Item = (&Example, usize)> {
        let examples = &self.spans.examples;
        (0..examples.len() * heads).into_par_iter().map(move |i| (&examples[i / heads], i % heads))
    }

    /// The queries of no example.
    fn idle_queries(&self) -> Vec<Range<usize>> {
        outside(self.spans.examples.iter().map(|e| e.queries.clone()), self.spans.from.len())
    }

    /// Results of all heads, `[queries, heads * size]`.
    fn run(&self, inputs: Inputs) -> FlexTensor {
        let (queries, hidden) = (self.spans.from.len(), self.heads * inputs.size);
        let mut out = room(queries * hidden);
        for idle in self.idle_queries() {
            out[idle.start * hidden..idle.end * hidden].fill(0.0);
        }
        let shared = Shared::new(&mut out, hidden);
        self.tasks(self.heads).for_each_init(Room::default, |room, (example, head)| {
            for block in self.blocks(example) {
                // SAFETY: no other task has this head of these queries, and blocks of a task come one after the other.
                #[expect(unsafe_code)]
                let out =
                    unsafe { shared.tile(block.queries.start, block.queries.len(), head * inputs.size, inputs.size) };
                self.attend(Head { inputs, head, kv_head: head / self.together() }, &block, room, out);
            }
        });
        tensor(out, [queries, hidden])
    }

    /// Gradients of queries, keys and values; `keys` is the number of the latter, the shared ones included.
    fn grads<'a>(&self, inputs: Inputs, keys: usize, gradient: &FlexTensor, grads: Grads<'a>) {
        let size = inputs.size;
        let tile = |part: PartMut<'a>, rows: Range<usize>, kv_head, size| {
            // SAFETY: these tiles come one after the other, and before or after those of the tasks.
            #[expect(unsafe_code)]
            unsafe {
                part.tile(&rows, kv_head, size)
            }
        };
        for idle in self.idle_queries() {
            tile(grads.query, idle, 0, self.heads * size).fill(0.0);
        }
        let seen = self.spans.examples.iter().map(|e| self.shared + e.keys.start..self.shared + e.keys.end);
        // The shared keys too are outside: to them all examples add.
        for idle in outside(seen, keys) {
            tile(grads.key, idle.clone(), 0, self.kv_heads * size).fill(0.0);
            tile(grads.value, idle, 0, self.kv_heads * size).fill(0.0);
        }
        let gradient = Part::new(elements(gradient), self.heads * size, 0);
        let sums: Vec<Vec<f32>> = self
            .tasks(self.kv_heads)
            .map_init(Scratch::default, |scratch, (example, kv_head)| {
                self.example_grads(inputs, kv_head, example, gradient, scratch, grads)
            })
            .collect();
        for (task, sums) in sums.iter().enumerate() {
            let (keys, values) = sums.split_at(self.shared * size);
            for (part, sums) in [(grads.key, keys), (grads.value, values)] {
                let mut total = tile(part, 0..self.shared, task % self.kv_heads, size);
                sums.chunks_exact(size.max(1)).enumerate().for_each(|(key, sum)| rows::add(total.row(key), sum));
            }
        }
    }
}

impl Kernel<1> for Attention {
    type Saved = FlexTensor;

    fn forward(&self, [qkv]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        (self.run(self.columns(&qkv)), qkv)
    }

    fn backward(&self, qkv: FlexTensor, gradient: FlexTensor, wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        if wanted != [true] {
            return [None];
        }
        let [tokens, width] = shape(&qkv);
        let mut all = room(tokens * width);
        let matrix = Shared::new(&mut all, width);
        let [query, key, value] = [0, 1, 2].map(|i| PartMut::new(matrix, i * width / 3));
        self.grads(self.columns(&qkv), tokens, &gradient, Grads { query, key, value });
        [Some(tensor(all, [tokens, width]))]
    }
}

impl Kernel<3> for Attention {
    type Saved = [FlexTensor; 3];

    fn forward(&self, inputs: [FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Self::Saved) {
        (self.run(self.matrices(&inputs)), inputs)
    }

    fn backward(&self, inputs: Self::Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        if wanted == [false; 3] {
            return [const { None }; 3];
        }
        let shapes = inputs.each_ref().map(shape);
        let [mut query, mut key, mut value] = shapes.map(|[rows, columns]| room(rows * columns));
        let grads = Grads {
            query: PartMut::new(Shared::new(&mut query, shapes[0][1]), 0),
            key: PartMut::new(Shared::new(&mut key, shapes[1][1]), 0),
            value: PartMut::new(Shared::new(&mut value, shapes[2][1]), 0),
        };
        self.grads(self.matrices(&inputs), shapes[1][0], &gradient, grads);
        [Some(tensor(query, shapes[0])), Some(tensor(key, shapes[1])), Some(tensor(value, shapes[2]))]
    }
}

impl Attention {
    /// A head's part of rows `[query | key | value]`.
    fn columns<'a>(&self, qkv: &'a FlexTensor) -> Inputs<'a> {
        let [_, width] = shape(qkv);
        let [query, key, value] = [0, 1, 2].map(|i| Part::new(elements(qkv), width, i * width / 3));
        Inputs { query, key: Keys::F32(key), value: Keys::F32(value), size: width / 3 / self.heads }
    }

    /// The same of three matrices.
    fn matrices<'a>(&self, inputs: &'a [FlexTensor; 3]) -> Inputs<'a> {
        let [query, key, value] = inputs.each_ref().map(|x| Part::new(elements(x), shape(x)[1], 0));
        let size = shape(&inputs[0])[1] / self.heads;
        Inputs { query, key: Keys::F32(key), value: Keys::F32(value), size }
    }
}

/// What is in `0..end` and in none of the ranges, which are in order.
fn outside(ranges: impl Iterator<Item = Range<usize>>, end: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for range in ranges.chain(std::iter::once(end..end)) {
        gaps.push(at..range.start);
        at = range.end;
    }
    gaps.retain(|gap| !gap.is_empty());
    gaps
}
