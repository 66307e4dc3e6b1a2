//! The key-value cache for generation: a sequence that grows by a token costs the computation of one token.

use anyhow::{Context, Result, ensure};

use super::{
    kv_form::KvForm,
    network::Network,
    pass::{Pass, PassMode},
    past::{CacheRoom, KeptStates, Past},
};
use crate::{
    network::{
        batch::{Example, Layout, lay_out},
        kernels::KeyValue,
    },
    support::random::Key,
};

/// Fewest tokens that room is made for.
const LEAST: usize = 64;

/// The keys and values of one sequence.
///
/// It holds for the tokens that a sequence has in common with the one before it: a longer one continues where the other
/// ended, and another one is read from where they part. What a token's keys depend on is compared, so that a token
/// that now sees further than before is read again with all that follow.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// The tokens that have keys and values.
    seen: Example,
    /// For each attention in the order of the calls its keys and values, `[prefix + capacity, kv_heads * size]`; of tokens
    /// that haven't been seen they're anything finite.
    layers: Vec<Option<KeyValue>>,
    /// Tokens that there's room for.
    capacity: usize,
    form: KvForm,
    /// What an encoder made of the sequence's beginning.
    states: Option<KeptStates>,
}

impl KvCache {
    /// An empty one in f32, which makes room for this many tokens at once when it's first used.
    pub fn with_capacity(tokens: usize) -> Self {
        Self { capacity: tokens, ..Self::default() }
    }

    /// An empty one with as much room, which holds keys and values so.
    pub fn held_as(self, form: KvForm) -> Self {
        Self { form, capacity: self.capacity, ..Self::default() }
    }

    /// Tokens of the last sequence.
    pub fn len(&self) -> usize {
        self.seen.tokens.len()
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.seen.tokens.is_empty()
    }

    /// How many tokens at the beginning of a sequence have the same keys and values as before.
    fn shared(&self, example: &Example) -> usize {
        let same = |at: &usize| {
            self.seen.tokens[*at] == example.tokens[*at]
                && self.seen.positions[*at] == example.positions[*at]
                && self.seen.block_positions[*at] == example.block_positions[*at]
                && self.seen.segments.get(*at) == example.segments.get(*at)
                && self.seen.span_ends[*at] == example.span_ends[*at]
        };
        let mut shared = (0..self.len().min(example.tokens.len())).take_while(same).count();
        // A token that sees past the shared ones depends on what is there.
        while let Some(first) = example.span_ends[..shared].iter().position(|&seen| seen as usize > shared) {
            shared = first;
        }
        shared
    }
}

impl Network {
    /// Logits `[vocabulary]` after the last token of a sequence. Only the tokens that the cache doesn't know are
    /// computed.
    ///
    /// # Errors
    /// An empty sequence, or one that doesn't fit the model.
    pub fn next_logits(&self, example: &Example, cache: &mut KvCache) -> Result<Vec<f32>> {
        let mut example = Example { targets: Vec::new(), choices: Vec::new(), ..example.clone() };
        let length = example.tokens.len();
        ensure!(length > 0, "there is no token that another could follow");
        if self.architecture().is_causal() {
            example.span_ends = (1..=length as u32).collect();
        }
        let unchanged = cache.shared(&example);
        // The last token is always read: its hidden state is what is asked for.
        let known = if self.architecture().is_incremental() { unchanged.min(length - 1) } else { 0 };
        if cache.capacity < length {
            cache.capacity = (2 * cache.capacity).max(length).max(LEAST);
        }
        cache.seen = Example::default();
        let batch = lay_out(&[rest(&example, known)], Layout::Ragged, Key::new(0));
        self.check(&batch)?;
        let prefix = self.parameters().adapters.prefix.as_ref().map_or(0, |prefix| prefix.tokens);
        let room = CacheRoom { capacity: cache.capacity, form: cache.form, prefix };
        let past = Past::new(&mut cache.layers, &mut cache.states, &example, known, room, unchanged);
        let pass = Pass::after(self.parameters(), &batch, &batch.span_ends, PassMode::Evaluate, Some(past))?;
        let hidden = self.architecture().hidden(&pass);
        let last = (length - known - 1) as u32;
        let logits = self.logits_rows(&pass, &hidden, vec![last])?.pop().context("the model gave no answer")?;
        drop(pass);
        cache.seen = example;
        Ok(logits)
    }
}

/// The tokens of a sequence from `start` on; they see what they saw.
fn rest(example: &Example, start: usize) -> Example {
    let rest = |values: &[u32]| values.get(start..).unwrap_or_default().to_vec();
    Example {
        tokens: rest(&example.tokens),
        positions: rest(&example.positions),
        block_positions: rest(&example.block_positions),
        segments: rest(&example.segments),
        span_ends: rest(&example.span_ends),
        ..Example::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seen: &Example, example: &Example) -> usize {
        KvCache { seen: seen.clone(), ..KvCache::default() }.shared(example)
    }

    #[test]
    fn longer_sequence_shares_all_of_the_shorter() {
        for prefix in [0, 2, 3] {
            let seen = Example::sequence(0, vec![5, 6, 7], prefix);
            let longer = Example::sequence(0, vec![5, 6, 7, 8, 9], prefix);
            assert_eq!(after(&seen, &longer), 3);
            assert_eq!(after(&longer, &seen), 3);
        }
        assert_eq!(after(&Example::default(), &Example::sequence(0, vec![5], 0)), 0);
    }

    #[test]
    fn sequences_share_nothing_after_the_first_difference() {
        let seen = Example::sequence(0, vec![5, 6, 7, 8], 0);
        assert_eq!(after(&seen, &Example::sequence(0, vec![5, 6, 9, 8], 0)), 2);
        let mut moved = seen.clone();
        moved.block_positions[1] = 1;
        assert_eq!(after(&seen, &moved), 1);
    }

    #[test]
    fn token_that_sees_a_changed_one_is_read_again() {
        // The context of three is seen in both directions, and its last token changes.
        let seen = Example::sequence(0, vec![5, 6, 7, 8], 3);
        assert_eq!(after(&seen, &Example::sequence(0, vec![5, 6, 9, 8], 3)), 0);
        // What is behind the context may change.
        assert_eq!(after(&seen, &Example::sequence(0, vec![5, 6, 7, 9], 3)), 3);
        // A longer context is another one.
        assert_eq!(after(&seen, &Example::sequence(0, vec![5, 6, 7, 8], 4)), 0);
    }
}
