//! Examples that are only to be judged, batch by batch.

use anyhow::Result;

use crate::{
    network::batch::{Batch, Example, Layout, lay_out},
    stages::estimate::JUDGED_TOKENS,
    support::random::Key,
};

/// Called with how many examples of how many are done; its error ends the work.
pub(in crate::stages) type OnProgress<'a> = &'a dyn Fn(usize, usize) -> Result<()>;

/// Lays out examples, each with something to know it by, and hands the batches to `judge` with what lies in them: those
/// of like length together, so that rectangles have little padding. `on_progress` is called after each.
///
/// # Errors
/// Those of `judge` and `on_progress`.
pub(in crate::stages) fn in_batches<T>(
    mut examples: Vec<(T, &Example)>,
    layout: Layout,
    on_progress: OnProgress<'_>,
    mut judge: impl FnMut(&[(T, &Example)], &Batch) -> Result<()>,
) -> Result<()> {
    examples.sort_by_key(|(_, example)| example.tokens.len());
    let all = examples.len();
    let mut rest = examples.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|(_, example)| {
            tokens += example.tokens.len();
            tokens <= JUDGED_TOKENS
        });
        let (part, others) = rest.split_at(fit.count().max(1));
        rest = others;
        let examples: Vec<&Example> = part.iter().map(|(_, example)| *example).collect();
        judge(part, &lay_out(&examples, layout, Key::new(0)))?;
        on_progress(all - rest.len(), all)?;
    }
    Ok(())
}
