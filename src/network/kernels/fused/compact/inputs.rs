//! What few rows are multiplied as.

use std::array;

use rayon::prelude::*;

use super::held::{CODES, Rows};
use crate::network::kernels::{
    compact::{ActivationForm, GROUP},
    simd::{rounded, simd},
};

/// Groups that loops over codes of four bits and activations of eight take at a time.
pub(super) const BLOCK: usize = 8;

/// A block of activations in eight bits.
pub(super) struct Block {
    /// Groups two by two: the first half of each, and then the second half of each.
    pub(super) pairs: [[[i8; 2 * CODES]; 2]; BLOCK / 2],
    /// As [`Input`] has them, but those of the pairs' first groups before those of their second ones.
    pub(super) steps: [f32; BLOCK],
    pub(super) offsets: [f32; BLOCK],
}

/// What is multiplied, in the forms that loops want: rows as wide as whole blocks of groups of columns.
pub(super) struct Inputs {
    width: usize,
    values: Vec<f32>,
    scaled: Vec<[i16; GROUP]>,
    blocks: Vec<Block>,
    steps: Vec<f32>,
    offsets: Vec<f32>,
}

/// A row of it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) values: &'a [f32],
    /// For codes of four bits, groups as integers: those of even columns, and then those of odd ones.
    pub(super) scaled: &'a [[i16; GROUP]],
    /// What a group's integer of 1 stands for.
    pub(super) steps: &'a [f32],
    /// -8 times what all of a group stand for, since codes begin at 0 and not at -8.
    pub(super) offsets: &'a [f32],
    /// Where activations have eight bits, all of that in blocks.
    pub(super) blocks: &'a [Block],
}

impl Inputs {
    pub(super) fn new(x: &[f32], matrix: Rows, activations: ActivationForm) -> Self {
        let columns = matrix.columns();
        let width = columns.next_multiple_of(BLOCK * GROUP);
        let mut values = vec![0.0; x.len() / columns * width];
        for (to, from) in values.chunks_exact_mut(width).zip(x.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        let (scaled, blocks) = (Vec::new(), Vec::new());
        let mut inputs = Self { width, values, scaled, steps: Vec::new(), offsets: Vec::new(), blocks };
        if matches!(matrix, Rows::Int4 { .. }) {
            match activations {
                ActivationForm::F32 => inputs.add_groups(),
                ActivationForm::Int8 => inputs.add_blocks(),
            }
        }
        inputs
    }

    /// Groups in 16 bits.
    fn add_groups(&mut self) {
        for group in self.values.as_chunks().0 {
            let (integers, step) = scaled(group, 32767.0);
            self.scaled.push(array::from_fn(|at| integers[at % CODES * 2 + at / CODES] as i16));
            self.steps.push(step);
            self.offsets.push(offset(&integers, step));
        }
    }

    /// Groups in eight bits.
    fn add_blocks(&mut self) {
        for block in self.values.as_chunks_mut::<GROUP>().0.as_chunks_mut::<BLOCK>().0 {
            let groups = block.each_ref().map(|group| scaled(group, MOST));
            for (group, (integers, step)) in block.iter_mut().zip(&groups) {
                *group = integers.map(|integer| integer as f32 * step);
            }
            let ordered: [_; BLOCK] = array::from_fn(|place| &groups[2 * place % BLOCK + 2 * place / BLOCK]);
            let of_pair = |pair: usize, half: usize, at: usize| {
                let (integers, _) = &groups[2 * pair + at / CODES];
                integers[half * CODES + at % CODES] as i8
            };
            self.blocks.push(Block {
                pairs: array::from_fn(|pair| array::from_fn(|half| array::from_fn(|at| of_pair(pair, half, at)))),
                steps: ordered.map(|(_, step)| *step),
                offsets: ordered.map(|(integers, step)| offset(integers, *step)),
            });
        }
    }

    pub(super) fn row(&self, row: usize) -> Input<'_> {
        // Of what is kept for so many columns.
        let of = |count: usize, columns: usize| match count {
            0 => 0..0,
            _ => row * self.width / columns..(row + 1) * self.width / columns,
        };
        Input {
            values: &self.values[row * self.width..][..self.width],
            scaled: &self.scaled[of(self.scaled.len(), GROUP)],
            steps: &self.steps[of(self.steps.len(), GROUP)],
            offsets: &self.offsets[of(self.offsets.len(), GROUP)],
            blocks: &self.blocks[of(self.blocks.len(), BLOCK * GROUP)],
        }
    }
}

/// What activations of eight bits are at most.
const MOST: f32 = 127.0;

/// Activations, rows of so many columns, as eight bits in groups of 32 columns have them.
pub(super) fn rounded_to_int8(x: &[f32], columns: usize) -> Vec<f32> {
    let mut all = x.to_vec();
    all.par_chunks_mut(columns).for_each(round_row);
    all
}

simd! {
    fn round_row(row: &mut [f32]) {
        let (groups, rest) = row.as_chunks_mut::<GROUP>();
        for group in groups {
            let (integers, step) = scaled(group, MOST);
            *group = integers.map(|integer| integer as f32 * step);
        }
        let mut last = [0.0; GROUP];
        last[..rest.len()].copy_from_slice(rest);
        let (integers, step) = scaled(&last, MOST);
        rest.iter_mut().zip(integers).for_each(|(x, integer)| *x = integer as f32 * step);
    }
}

/// A group as integers of which none is larger than `most`, and what 1 stands for.
#[inline(always)]
fn scaled(group: &[f32; GROUP], most: f32) -> ([i32; GROUP], f32) {
    // Sizes compare as their bits do, and what isn't a finite number is larger than all that are.
    let largest = group.iter().fold(0, |largest, value| value.abs().to_bits().max(largest));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        // What isn't a number isn't one afterwards.
        return ([0; GROUP], f32::NAN);
    }
    // Nothing is left of a group of next to nothing.
    let inverse = most / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (group.map(|value| rounded(value * inverse)), largest / most)
}

/// What a group's codes give too much, by beginning at 0.
fn offset(integers: &[i32; GROUP], step: f32) -> f32 {
    -8.0 * integers.iter().sum::<i32>() as f32 * step
}
