//! Next-token prediction.

use super::Specials;
use crate::batch::{Example, Target};

/// `[CLS] text`, each token seeing those before it. From `[CLS]` on, each position has the token after it to predict;
/// where the text `ends` there (and isn't merely cut), the last one has `<eop>`.
pub fn example(id: u64, text: &[u32], ends: bool, specials: &Specials) -> Example {
    continuation(id, text, 0, ends, specials)
}

/// The same with a prompt of this many tokens after `[CLS]`, seen in both directions and not predicted.
pub(super) fn continuation(id: u64, text: &[u32], prompt: usize, ends: bool, specials: &Specials) -> Example {
    let prompt = prompt.min(text.len());
    let following = text.iter().copied().chain(ends.then_some(specials.eop));
    let targets = (0..).zip(following).skip(prompt).map(|(at, token)| Target { at, token }).collect();
    let tokens = [&[specials.cls], text].concat();
    Example { targets, ..Example::sequence(id, tokens, prompt + 1) }
}
