//! Next-token prediction.

use super::{Form, Specials};
use crate::network::batch::{Example, Target};

/// A text behind what the family's [texts begin](Form::beginning) with, each token seeing those before it. Each token of
/// the text is to be predicted from the one before; where the text `ends` there (and isn't merely cut), so is
/// [what ends it](Form::end).
pub fn example(id: u64, text: &[u32], ends: bool, form: Form, specials: &Specials) -> Example {
    continuation(id, text, 0, ends, form, specials)
}

/// The same with a prompt of this many tokens of the text, seen in both directions and not predicted.
pub(super) fn continuation(
    id: u64,
    text: &[u32],
    prompt: usize,
    ends: bool,
    form: Form,
    specials: &Specials,
) -> Example {
    let prompt = prompt.min(text.len());
    let beginning = form.beginning(specials);
    let before = beginning.len() as u32 - 1;
    let following = text.iter().copied().chain(ends.then_some(form.end(specials)));
    let targets = (before..).zip(following).skip(prompt).map(|(at, token)| Target { at, token }).collect();
    let prefix = prompt + beginning.len();
    let tokens = [beginning, text.to_vec()].concat();
    Example { targets, ..Example::sequence(id, tokens, prefix) }
}
