//! Which row of the table an n-gram has.

use super::NgramSettings;
use crate::{
    network::model::pass::{Along, Pass},
    support::random::Key,
};

/// The row of tokens that end no n-gram: those at the beginning of a text.
const NONE: u32 = 0;

/// A pass's tokens behind those that a cache holds, as far as n-grams go by them.
#[derive(Debug, Default)]
pub(super) struct Text {
    tokens: Vec<u32>,
    /// For each token how many before it belong to its text without a gap. It sees all of them.
    before: Vec<u32>,
    /// How many the cache holds.
    cached: usize,
}

impl Text {
    /// Of a pass.
    pub(super) fn of(pass: &Pass) -> Self {
        let mut text = Self::default();
        let mut last = None;
        if let Some(past) = &pass.past {
            let sequence = past.sequence();
            text.cached = past.length();
            for at in 0..text.cached {
                let place = [sequence.positions[at], sequence.block_positions[at]];
                text.push(sequence.tokens[at], last.is_some_and(|last| follows(last, place)));
                last = Some(place);
            }
        }
        // A prefix of P-tuning moves the positions on.
        let shift = pass.parameters.adapters.prefix.as_ref().map_or(0, |prefix| prefix.shift);
        let (positions, blocks) = (pass.ids(Along::Positions), pass.ids(Along::BlockPositions));
        for (at, &token) in pass.tokens.host.iter().enumerate() {
            let place = [positions.host[at] - shift, blocks.host[at]];
            let (key, seen) = (text.cached + at, pass.spans.seen(at));
            let inside = seen.start < key && key < seen.end;
            text.push(token, inside && last.is_some_and(|last| follows(last, place)));
            last = Some(place);
        }
        text
    }

    fn push(&mut self, token: u32, follows: bool) {
        let before = if follows { self.before.last().map_or(0, |before| before + 1) } else { 0 };
        self.tokens.push(token);
        self.before.push(before);
    }

    /// For each order, the row of each token of the pass.
    pub(super) fn rows(&self, settings: &NgramSettings) -> Vec<Vec<u32>> {
        let row = |order: usize, at: usize| {
            if (self.before[at] as usize) + 1 < order {
                return NONE;
            }
            let tokens = self.tokens[at + 1 - order..=at].iter();
            let hash = tokens.fold(Key::new(order as u64), |key, &token| key.at(token.into()));
            1 + hash.below(settings.buckets - 1) as u32
        };
        let rows = |&order: &usize| (self.cached..self.tokens.len()).map(|at| row(order, at)).collect();
        settings.orders.iter().map(rows).collect()
    }
}

/// Whether one place of a text is the next after another: by its position, or within a span of GLM's by the second one.
fn follows([last, last_block]: [u32; 2], [position, block]: [u32; 2]) -> bool {
    (position == last + 1 && block == last_block) || (position == last && block == last_block + 1)
}
