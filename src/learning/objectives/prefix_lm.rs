//! A continuation from a prompt that is seen in both directions (Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>,
//! section 3.2.1).

use super::{Form, Specials, causal_lm::continuation};
use crate::{network::batch::Example, spec, support::random::Key};

/// A prompt and its continuation; the prompt's share of the text is uniform between the two bounds, and at least one
/// token is left to predict. Around them stands what [`super::causal_lm::example`] has, and `ends` means the same.
pub fn example(
    id: u64,
    text: &[u32],
    ends: bool,
    spec: &spec::PrefixLm,
    form: Form,
    specials: &Specials,
    key: Key,
) -> Example {
    continuation(id, text, prompt_length(text.len(), spec, key), ends, form, specials)
}

fn prompt_length(text: usize, spec: &spec::PrefixLm, key: Key) -> usize {
    let share = spec.min_prefix + (spec.max_prefix - spec.min_prefix) * key.f64();
    ((share * text as f64).round() as usize).min(text.saturating_sub(1))
}
