//! Splitting: a batch into micro-batches that fit into a device's memory, and a step into shares for several devices.

use std::{borrow::Cow, ops::Range};

use super::{Batch, Choice, SlotRange, Step, Target};

/// A batch of a step, or the part of it that one device computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Portion<'a> {
    /// The number of the batch within the step.
    pub number: usize,
    /// Its rows or examples, all or some.
    pub batch: Cow<'a, Batch>,
}

impl Step {
    /// The step in `count` shares of about as many token slots each: rows that follow one another, or examples where a
    /// batch has one row. Together they are the step's batches, but for parts without targets. Where there
    /// are fewer rows than shares, some are empty.
    pub fn shares(&self, count: usize) -> Vec<Vec<Portion<'_>>> {
        let total: usize = self.batches.iter().map(Batch::slots).sum();
        let mut shares = vec![Vec::new(); count];
        let mut first = 0;
        for (number, batch) in self.batches.iter().enumerate() {
            // By where its middle lies among all slots.
            let share = |slots: &Range<usize>| (2 * first + slots.start + slots.end) * count / (2 * total.max(1));
            let pieces = batch.pieces();
            let runs: Vec<&[Range<usize>]> = pieces.chunk_by(|one, next| share(one) == share(next)).collect();
            if runs.len() > 1 && batch.has_targets() {
                for run in runs {
                    let part = batch.part(run[0].start..run[run.len() - 1].end);
                    if part.has_targets() {
                        shares[share(&run[0])].push(Portion { number, batch: Cow::Owned(part) });
                    }
                }
            } else {
                let all = 0..batch.slots();
                shares[share(pieces.first().unwrap_or(&all))].push(Portion { number, batch: Cow::Borrowed(batch) });
            }
            first += batch.slots();
        }
        shares
    }
}

impl Batch {
    /// The batch in parts of at most `most` token slots each, and of one row or example at least. Rows stay whole;
    /// where there is only one, its examples do. Parts without targets are left out.
    pub fn parts(self, most: usize) -> Vec<Self> {
        if self.slots() <= most {
            return vec![self];
        }
        let mut parts: Vec<Range<usize>> = Vec::new();
        for piece in self.pieces() {
            match parts.last_mut() {
                Some(part) if piece.end - part.start <= most => part.end = piece.end,
                _ => parts.push(piece),
            }
        }
        parts.into_iter().map(|part| self.part(part)).filter(Self::has_targets).collect()
    }

    /// Token slots, used or not.
    pub fn slots(&self) -> usize {
        self.rows * self.width
    }

    /// The slots of what stays whole: of rows, or of examples where there is only one row.
    fn pieces(&self) -> Vec<Range<usize>> {
        if self.rows > 1 {
            return (0..self.rows).map(|row| row * self.width..(row + 1) * self.width).collect();
        }
        let spans = self.examples.iter().map(|span| span.start as usize..(span.start + span.length) as usize);
        let mut pieces: Vec<Range<usize>> = spans.collect();
        pieces.sort_by_key(|piece| piece.start);
        pieces
    }

    fn has_targets(&self) -> bool {
        let labels = [&self.pairs, &self.classes].iter().all(|labels| labels.is_empty());
        !(self.targets.is_empty() && self.choices.is_empty() && labels && self.wanted.is_empty())
    }

    /// What lies in some slots, which no row or example straddles.
    fn part(&self, slots: Range<usize>) -> Self {
        let first = slots.start as u32;
        let inside = |at: u32| slots.contains(&(at as usize));
        let values = |values: &[u32]| values.get(slots.clone()).unwrap_or_default().to_vec();
        let moved = |values: &[u32]| values[slots.clone()].iter().map(|at| at - first).collect();
        let chosen: Vec<usize> = (0..self.examples.len()).filter(|&i| inside(self.examples[i].start)).collect();
        let labels = |labels: &[u32]| chosen.iter().filter_map(|&i| labels.get(i).copied()).collect();
        let weights = chosen.iter().filter_map(|&i| self.weights.get(i).copied()).collect();
        let (rows, width) = if self.rows > 1 { (slots.len() / self.width, self.width) } else { (1, slots.len()) };
        let targets = self.targets.iter().filter(|target| inside(target.at));
        let choices = self.choices.iter().filter(|choice| inside(choice.at));
        Self {
            rows,
            width,
            tokens: values(&self.tokens),
            positions: values(&self.positions),
            block_positions: values(&self.block_positions),
            segments: values(&self.segments),
            span_starts: moved(&self.span_starts),
            span_ends: moved(&self.span_ends),
            dropout_keys: values(&self.dropout_keys),
            examples: chosen
                .iter()
                .map(|&i| self.examples[i])
                .map(|s| SlotRange { start: s.start - first, ..s })
                .collect(),
            targets: targets.map(|target| Target { at: target.at - first, ..*target }).collect(),
            choices: choices.map(|choice| Choice { at: choice.at - first, ..*choice }).collect(),
            pairs: labels(&self.pairs),
            classes: labels(&self.classes),
            weights,
            wanted: chosen.iter().filter_map(|&i| self.wanted.get(i).cloned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::batch::{Example, Layout, lay_out},
        support::random::Key,
    };

    fn examples() -> Vec<Example> {
        let example = |id: u64| {
            let tokens: Vec<u32> = (0..3 + id as u32).map(|at| 10 * id as u32 + at).collect();
            let targets = vec![Target { at: id as u32, token: 7 }];
            Example { targets, pair: Some(id as u32 % 2), ..Example::sequence(id, tokens, 0) }
        };
        (0..4).map(example).collect()
    }

    #[test]
    fn parts_are_what_their_examples_would_be_laid_out_as() {
        let (all, key) = (examples(), Key::new(5));
        let whole = lay_out(&all, Layout::Ragged, key);
        // Of 3, 4, 5 and 6 tokens.
        let expected = [&all[..2], &all[2..3], &all[3..]].map(|part| lay_out(part, Layout::Ragged, key));
        assert_eq!(whole.clone().parts(7), expected);
        assert!(whole.clone().parts(18) == vec![whole.clone()]);
        assert_eq!(whole.parts(1).len(), 4);
    }

    #[test]
    fn rows_stay_whole() {
        let (all, key) = (examples(), Key::new(5));
        let layout = Layout::Rows { width: 8, packing: true };
        let whole = lay_out(&all, layout, key);
        assert_eq!((whole.rows, whole.width), (3, 8));
        let parts = whole.clone().parts(16);
        assert_eq!(parts.iter().map(|part| (part.rows, part.width)).collect::<Vec<_>>(), [(2, 8), (1, 8)]);
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.tokens.clone()).collect();
        assert_eq!(tokens, whole.tokens);
        let pairs: usize = parts.iter().map(|part| part.pairs.len()).sum();
        assert_eq!(pairs, 4);
        assert!(parts.iter().all(|part| part.span_ends.iter().all(|&to| to as usize <= part.slots())));
    }

    /// Slots of a step's shares, a part each.
    fn dealt(batches: Vec<Batch>, count: usize) -> Vec<Vec<usize>> {
        let step = Step { batches, objective: String::new(), pair_weight: 1.0 };
        let slots = |share: &Vec<Portion>| share.iter().map(|portion| portion.batch.slots()).collect();
        step.shares(count).iter().map(slots).collect()
    }

    #[test]
    fn shares_are_even_and_together_the_step() {
        let (all, key) = (examples(), Key::new(5));
        let ragged = |examples: &[Example]| lay_out(examples, Layout::Ragged, key);
        // Of 3, 4, 5 and 6 tokens: the middle lies within the third, which is in the second half.
        assert_eq!(dealt(vec![ragged(&all)], 1), [[18]]);
        assert_eq!(dealt(vec![ragged(&all)], 2), [[7], [11]]);
        assert_eq!(dealt(vec![ragged(&all[..2])], 3), [vec![3], vec![], vec![4]]);
        // Batches stay whole where they can: of three on two devices, the second one is divided.
        let three = vec![ragged(&all[..2]); 3];
        assert_eq!(dealt(three.clone(), 2), [[7, 3], [4, 7]]);
        assert_eq!(dealt(three.clone(), 3), [[7], [7], [7]]);
        // What has no targets is still there, as on one device.
        let idle = Batch { targets: Vec::new(), pairs: Vec::new(), ..ragged(&all) };
        assert_eq!(dealt(vec![idle], 2), [vec![18], vec![]]);

        let step = Step { batches: three, objective: String::new(), pair_weight: 1.0 };
        let dealt = step.shares(2);
        let numbers: Vec<usize> = dealt.iter().flatten().map(|portion| portion.number).collect();
        assert_eq!(numbers, [0, 1, 1, 2]);
        let tokens: Vec<u32> = dealt.iter().flatten().flat_map(|portion| portion.batch.tokens.clone()).collect();
        assert_eq!(tokens, step.batches.iter().flat_map(|batch| batch.tokens.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn shares_of_rows_have_whole_rows() {
        let layout = Layout::Rows { width: 8, packing: false };
        let batch = lay_out(&examples(), layout, Key::new(5));
        assert_eq!(dealt(vec![batch.clone()], 2), [[16], [16]]);
        assert_eq!(dealt(vec![batch.clone()], 3), [vec![8], vec![16], vec![8]]);
        assert_eq!(dealt(vec![batch], 8).iter().map(Vec::len).sum::<usize>(), 4);
    }
}
