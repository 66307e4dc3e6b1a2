//! Batch layout: the slot of each token, packed, padded or ragged, and its attention span there.

use std::{borrow::Borrow, cmp::Reverse};

use super::{Batch, Choice, Example, SlotRange, Target};
use crate::support::random::Key;

/// How the examples of a batch are laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// One row, examples one after the other without padding; for backends whose attention takes any span of keys.
    Ragged,
    /// Padded rows of equal width; for backends that need a rectangle.
    Rows {
        /// Slots per row; grows to the longest example where that is longer.
        width: usize,
        /// Put several examples into a row. Without it each example has a row to itself, and rows are no
        /// wider than the longest example needs.
        packing: bool,
    },
}

/// Without packing, widths are multiples of this, so that a GPU doesn't see a new shape with every batch.
const WIDTH_MULTIPLE: usize = 8;

/// Lays out examples. The spans of `Batch::examples` follow the order of the examples, wherever they lie.
///
/// Each token's dropout key is a hash of `dropout` (the caller's: seed and step), the example's id and the token's
/// index within the example. It doesn't depend on the layout.
pub fn lay_out<E: Borrow<Example>>(examples: &[E], layout: Layout, dropout: Key) -> Batch {
    let examples: Vec<&Example> = examples.iter().map(Borrow::borrow).collect();
    let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
    let arrangement = arrange(&lengths, layout);
    let size = arrangement.rows * arrangement.width;

    let mut batch = Batch {
        rows: arrangement.rows,
        width: arrangement.width,
        tokens: vec![0; size],
        positions: vec![0; size],
        block_positions: vec![0; size],
        // An unused slot has the empty span at itself.
        span_starts: (0..size as u32).collect(),
        span_ends: (0..size as u32).collect(),
        dropout_keys: vec![0; size],
        segments: if examples.iter().all(|example| example.segments.is_empty()) { Vec::new() } else { vec![0; size] },
        ..Batch::default()
    };

    for (example, &start) in examples.iter().zip(&arrangement.starts) {
        let (length, offset) = (example.tokens.len(), start as u32);
        batch.tokens[start..start + length].copy_from_slice(&example.tokens);
        batch.positions[start..start + length].copy_from_slice(&example.positions);
        batch.block_positions[start..start + length].copy_from_slice(&example.block_positions);
        if !example.segments.is_empty() {
            batch.segments[start..start + length].copy_from_slice(&example.segments);
        }
        batch.span_starts[start..start + length].fill(offset);
        let key = dropout.at(example.id);
        for (index, &end) in example.span_ends.iter().enumerate() {
            batch.span_ends[start + index] = offset + end;
            batch.dropout_keys[start + index] = (key.at(index as u64).u64() >> 32) as u32;
        }
        batch.examples.push(SlotRange { start: offset, length: length as u32 });
        batch.targets.extend(example.targets.iter().map(|target| Target { at: offset + target.at, ..*target }));
        batch.choices.extend(example.choices.iter().map(|choice| Choice { at: offset + choice.at, ..*choice }));
    }
    batch.pairs = examples.iter().map(|example| example.pair).collect::<Option<_>>().unwrap_or_default();
    batch.classes = examples.iter().map(|example| example.class).collect::<Option<_>>().unwrap_or_default();
    batch.weights = examples.iter().map(|example| example.weight).collect::<Option<_>>().unwrap_or_default();
    if examples.iter().any(|example| !example.wanted.is_empty()) {
        batch.wanted = examples.iter().map(|example| example.wanted.clone()).collect();
    }
    batch
}

impl Batch {
    /// The examples that were laid out, in their order, with places counted from their own start again. Only their ids
    /// are lost: all are 0.
    pub fn take_apart(&self) -> Vec<Example> {
        let apart = |(index, slots): (usize, &SlotRange)| {
            let (first, end) = (slots.start, slots.start + slots.length);
            let range = first as usize..end as usize;
            let values = |values: &[u32]| values.get(range.clone()).unwrap_or_default().to_vec();
            let inside = |at: u32| (first..end).contains(&at);
            let targets = self.targets.iter().filter(|target| inside(target.at));
            let choices = self.choices.iter().filter(|choice| inside(choice.at));
            Example {
                id: 0,
                tokens: values(&self.tokens),
                positions: values(&self.positions),
                block_positions: values(&self.block_positions),
                segments: values(&self.segments),
                span_ends: values(&self.span_ends).into_iter().map(|to| to - first).collect(),
                targets: targets.map(|target| Target { at: target.at - first, ..*target }).collect(),
                choices: choices.map(|choice| Choice { at: choice.at - first, ..*choice }).collect(),
                pair: self.pairs.get(index).copied(),
                class: self.classes.get(index).copied(),
                weight: self.weights.get(index).copied(),
                wanted: self.wanted.get(index).cloned().unwrap_or_default(),
            }
        };
        self.examples.iter().enumerate().map(apart).collect()
    }
}

/// The first slot of each example, and the rectangle around them.
struct Arrangement {
    rows: usize,
    width: usize,
    starts: Vec<usize>,
}

fn arrange(lengths: &[usize], layout: Layout) -> Arrangement {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    match layout {
        Layout::Ragged => {
            let starts = lengths.iter().scan(0, |end, length| {
                let start = *end;
                *end += length;
                Some(start)
            });
            let rows = usize::from(!lengths.is_empty());
            Arrangement { rows, width: lengths.iter().sum(), starts: starts.collect() }
        }
        Layout::Rows { width, packing: false } => {
            let width = longest.next_multiple_of(WIDTH_MULTIPLE).min(width.max(longest));
            Arrangement { rows: lengths.len(), width, starts: (0..lengths.len()).map(|row| row * width).collect() }
        }
        Layout::Rows { width, packing: true } => first_fit(lengths, width.max(longest)),
    }
}

/// Each example goes into the first row that has room for it, the longest examples first (which leaves fewer gaps).
fn first_fit(lengths: &[usize], width: usize) -> Arrangement {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&index| Reverse(lengths[index]));
    let mut used: Vec<usize> = Vec::new();
    let mut starts = vec![0; lengths.len()];
    for index in longest_first {
        let length = lengths[index];
        let row = used.iter().position(|taken| taken + length <= width).unwrap_or(used.len());
        if row == used.len() {
            used.push(0);
        }
        starts[index] = row * width + used[row];
        used[row] += length;
    }
    Arrangement { rows: used.len(), width, starts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_taken_apart_into_what_was_laid_out() {
        let example = |id: u32| {
            let tokens: Vec<u32> = (0..3 + id).map(|at| 10 * id + at).collect();
            let segments = tokens.iter().map(|token| token % 2).collect();
            let targets = vec![Target { at: 0, token: 7 + id }, Target { at: 2, token: 5 }];
            let choices = vec![Choice { at: 1 + id, node: id, gold: 1 }];
            Example {
                segments,
                targets,
                choices,
                pair: Some(id % 2),
                class: Some(id),
                weight: Some(id as f32),
                ..Example::sequence(0, tokens, 2)
            }
        };
        let examples: Vec<Example> = (0..4).map(example).collect();
        let packed = Layout::Rows { width: 9, packing: true };
        for layout in [Layout::Ragged, packed, Layout::Rows { width: 16, packing: false }] {
            let batch = lay_out(&examples, layout, Key::new(3));
            assert_eq!(batch.take_apart(), examples, "{layout:?}");
        }
        let plain = Example { class: None, weight: None, segments: Vec::new(), ..example(2) };
        assert_eq!(lay_out(std::slice::from_ref(&plain), packed, Key::new(3)).take_apart(), [plain]);
    }
}
