//! A batch in parts, for devices that can't hold all of it at a time.

use std::ops::Range;

use super::{Batch, Choice, Span, Target};

impl Batch {
    /// The batch in parts of at most `most` token places each, and of one row or example at least. Rows stay whole;
    /// where there is only one, its examples do. Parts from which nothing is learned are left out.
    pub fn parts(self, most: usize) -> Vec<Self> {
        if self.places() <= most {
            return vec![self];
        }
        let mut pieces: Vec<Range<usize>> = if self.rows > 1 {
            (0..self.rows).map(|row| row * self.width..(row + 1) * self.width).collect()
        } else {
            let spans = self.examples.iter().map(|span| span.start as usize..(span.start + span.length) as usize);
            spans.collect()
        };
        pieces.sort_by_key(|piece| piece.start);
        let mut parts: Vec<Range<usize>> = Vec::new();
        for piece in pieces {
            match parts.last_mut() {
                Some(part) if piece.end - part.start <= most => part.end = piece.end,
                _ => parts.push(piece),
            }
        }
        parts.into_iter().map(|part| self.part(part)).filter(Self::teaches).collect()
    }

    /// Token places, used or not.
    pub fn places(&self) -> usize {
        self.rows * self.width
    }

    fn teaches(&self) -> bool {
        !(self.targets.is_empty() && self.choices.is_empty() && self.pairs.is_empty() && self.classes.is_empty())
    }

    /// What lies in some places, which no row or example straddles.
    fn part(&self, places: Range<usize>) -> Self {
        let first = places.start as u32;
        let inside = |at: u32| places.contains(&(at as usize));
        let values = |values: &[u32]| values.get(places.clone()).unwrap_or_default().to_vec();
        let moved = |values: &[u32]| values[places.clone()].iter().map(|at| at - first).collect();
        let chosen: Vec<usize> = (0..self.examples.len()).filter(|&i| inside(self.examples[i].start)).collect();
        let labels = |labels: &[u32]| chosen.iter().filter_map(|&i| labels.get(i).copied()).collect();
        let (rows, width) = if self.rows > 1 { (places.len() / self.width, self.width) } else { (1, places.len()) };
        let targets = self.targets.iter().filter(|target| inside(target.at));
        let choices = self.choices.iter().filter(|choice| inside(choice.at));
        Self {
            rows,
            width,
            tokens: values(&self.tokens),
            positions: values(&self.positions),
            block_positions: values(&self.block_positions),
            segments: values(&self.segments),
            visible_from: moved(&self.visible_from),
            visible_to: moved(&self.visible_to),
            dropout_keys: values(&self.dropout_keys),
            examples: chosen.iter().map(|&i| self.examples[i]).map(|s| Span { start: s.start - first, ..s }).collect(),
            targets: targets.map(|target| Target { at: target.at - first, ..*target }).collect(),
            choices: choices.map(|choice| Choice { at: choice.at - first, ..*choice }).collect(),
            pairs: labels(&self.pairs),
            classes: labels(&self.classes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Example, Layout, lay_out, random::Key};

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
        assert!(parts.iter().all(|part| part.visible_to.iter().all(|&to| to as usize <= part.places())));
    }
}
