//! `tokenize`: train or take a tokenizer, and encode corpora with it.

use anyhow::{Result, bail};

use crate::{
    engine::{
        executor::{Computed, Event, Job, Paused},
        store::Metrics,
    },
    recipe::{Checks, Draft},
    spec::{Product, Tokenize, Tokenizer},
    stages::{
        Devices, Facts, Field, Preflight, StageKind, check,
        facts::Vocabulary,
        parts::encoding::{self, CORPUS, TRAIN_ON},
    },
};

/// The field with an existing tokenizer.
const FILE: Field = Field("tokenizer.file");
/// The field with the stage whose tokenizer is taken.
const STAGE: Field = Field("tokenizer.stage");

impl StageKind for Tokenize {
    const NAME: &'static str = "tokenize";
    const ABOUT: &'static str = "Train or take a tokenizer and encode corpora with it";
    const PRODUCTS: &'static [Product] = &[Product::Tokens, Product::Tokenizer];
    const FIELDS: &'static [Field] = &[FILE, STAGE, CORPUS, TRAIN_ON];

    /// 2: documents are encoded as they stand in their files, as a whole, and tokenizers are trained on them so.
    fn version(&self) -> Result<u32> {
        let reads_texts = !self.corpus.is_empty() || !self.train_on.is_empty();
        Ok(if reads_texts { 2 } else { 1 })
    }

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        let trained = matches!(self.tokenizer, Tokenizer::Bpe(_) | Tokenizer::Wordpiece(_) | Tokenizer::Unigram(_));
        if trained && self.corpus.is_empty() && self.train_on.is_empty() {
            checks.report(
                checks.key(&stage.pointer("tokenizer")),
                "there is nothing to train the tokenizer on",
                "name texts under `corpus`, or under `train_on`".to_owned(),
            );
        }
        for (list, sources) in [("corpus", &self.corpus), ("train_on", &self.train_on)] {
            for (index, source) in sources.iter().enumerate() {
                check::corpus(checks, &stage.pointer(&format!("{list}.{index}")), source);
            }
        }
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        Some(encoding::metric_names())
    }

    fn facts(&self) -> Result<Facts> {
        let vocabulary = match &self.tokenizer {
            Tokenizer::Bpe(spec) => Vocabulary::Wanted(spec.vocab_size),
            Tokenizer::Wordpiece(spec) => Vocabulary::Wanted(spec.vocab_size),
            Tokenizer::Unigram(spec) => Vocabulary::Wanted(spec.vocab_size),
            Tokenizer::File(_) => Vocabulary::OfFile(FILE),
            Tokenizer::Stage(_) => Vocabulary::OfStage(STAGE),
        };
        Ok(Facts { vocabulary: Some(vocabulary), ..Facts::default() })
    }

    fn preflight(&self, preflight: &mut Preflight<'_>) -> Result<()> {
        for (field, sources) in [(CORPUS, &self.corpus), (TRAIN_ON, &self.train_on)] {
            for (index, source) in sources.iter().enumerate() {
                preflight.documents(&field.at(index), source)?;
            }
        }
        Ok(())
    }

    /// Writes `tokenizer.json` and the token shards.
    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let files = |pointer: &str| job.files.get(pointer).cloned().unwrap_or_default();
        let existing = match &self.tokenizer {
            Tokenizer::File(_) => FILE.file(job),
            Tokenizer::Stage(_) => Some(STAGE.needed(job)?.path.as_path()),
            Tokenizer::Bpe(_) | Tokenizer::Wordpiece(_) | Tokenizer::Unigram(_) => None,
        };
        match encoding::tokenize(self, &files, existing, &job.state, job.out, &mut Encoding { job })? {
            Some(metrics) => Ok(metrics.into_iter().collect::<Metrics>().into()),
            None => bail!(Paused::at("stopped; finished shards are kept")),
        }
    }
}

/// Passes on how far encoding is.
struct Encoding<'a> {
    job: &'a Job<'a>,
}

impl encoding::Steps for Encoding<'_> {
    fn encoded(&mut self, documents: u64) -> bool {
        self.job.report(Event::Progress { done: documents, total: 0, note: "documents", remaining: None });
        self.job.is_stopped()
    }

    fn note(&mut self, note: &str) {
        self.job.report(Event::Note(note));
    }
}
