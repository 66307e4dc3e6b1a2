//! Train or take a tokenizer, and encode corpora.

use anyhow::{Result, bail};

use crate::{
    data,
    engine::{
        executor::{Event, Job, Paused},
        store::Metrics,
    },
    spec::{Tokenize, Tokenizer},
};

/// Writes `tokenizer.json` and the token shards.
pub(super) fn tokenize(job: &Job<'_>, spec: &Tokenize) -> Result<Metrics> {
    let files = |field: &str| job.files.get(field).cloned().unwrap_or_default();
    let existing = match &spec.tokenizer {
        Tokenizer::File(_) => files("tokenizer.file").into_iter().next(),
        Tokenizer::Stage(_) => Some(super::input(job, "tokenizer.stage")?.path.clone()),
        Tokenizer::Bpe(_) | Tokenizer::Wordpiece(_) | Tokenizer::Unigram(_) => None,
    };
    match data::tokenize(spec, &files, existing.as_deref(), &job.state, job.out, &mut Encoding { job })? {
        Some(metrics) => Ok(metrics.into_iter().collect()),
        None => bail!(Paused::at("stopped; finished shards are kept")),
    }
}

/// Passes on how far encoding is.
struct Encoding<'a> {
    job: &'a Job<'a>,
}

impl data::Steps for Encoding<'_> {
    fn encoded(&mut self, documents: u64) -> bool {
        self.job.tell(Event::Progress { done: documents, total: 0, note: "documents", remaining: None });
        self.job.is_stopped()
    }

    fn note(&mut self, note: &str) {
        self.job.tell(Event::Note(note));
    }
}
