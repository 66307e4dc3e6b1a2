//! Train or take a tokenizer, and encode corpora.

use anyhow::Result;

use crate::{
    data,
    executor::{Event, Job},
    recipe::spec::{Tokenize, Tokenizer},
    store::Metrics,
};

/// Writes `tokenizer.json` and the token shards.
pub(super) fn tokenize(job: &Job<'_>, spec: &Tokenize) -> Result<Metrics> {
    let files = |field: &str| job.files.get(field).cloned().unwrap_or_default();
    let existing = match &spec.tokenizer {
        Tokenizer::File(_) => files("tokenizer.file").into_iter().next(),
        Tokenizer::Stage(_) => Some(super::input(job, "tokenizer.stage")?.path.clone()),
        Tokenizer::Bpe(_) | Tokenizer::Wordpiece(_) | Tokenizer::Unigram(_) => None,
    };
    let mut progress = |done: u64| job.tell(Event::Progress { done, total: 0, note: "documents", remaining: None });
    let metrics = data::tokenize(spec, &files, existing.as_deref(), job.out, &mut progress)?;
    Ok(metrics.into_iter().collect())
}
