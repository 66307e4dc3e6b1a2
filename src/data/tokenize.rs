//! The work of a `tokenize` stage: a tokenizer, and corpora encoded with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::documents::{Document, documents};
use super::shards::ShardWriter;
use crate::recipe::spec;
use crate::text::Tokenizer;

/// Bytes of text that are encoded at once.
const BATCH: usize = 1 << 20;

/// Trains or loads the tokenizer, encodes the corpora, and writes `tokenizer.json` and token shards into `out`, a
/// directory that exists.
///
/// `files` gives the files of a source by its place in the specification, `corpus.0.path` or `train_on.0.path`;
/// `existing` is the tokenizer (a file, or a directory that has a `tokenizer.json`) where the specification names one.
/// `progress` is told the documents encoded so far.
///
/// Returns the metrics `documents`, `sentences`, `tokens`, `characters`, `vocab_size`, `unknown_share` (of the tokens)
/// and `tokens_per_character`.
///
/// # Errors
/// If a file can't be read, with its name and the row; if there is nothing to train on; if the output can't be written.
pub fn tokenize(
    spec: &spec::Tokenize,
    files: &dyn Fn(&str) -> Vec<PathBuf>,
    existing: Option<&Path>,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<BTreeMap<String, Value>> {
    let tokenizer = match (&spec.tokenizer, existing) {
        (spec::Tokenizer::File(_) | spec::Tokenizer::Stage(_), Some(path)) => Tokenizer::load(path)?,
        (spec::Tokenizer::File(_) | spec::Tokenizer::Stage(_), None) => bail!("the tokenizer's file isn't known"),
        (new, _) => {
            let sources = if spec.train_on.is_empty() {
                sources("corpus", &spec.corpus)
            } else {
                sources("train_on", &spec.train_on)
            };
            let sentences = all_documents(sources, files).flat_map(|document| match document {
                Ok(document) => document.sentences.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            });
            Tokenizer::train(new, sentences).context("failed to train the tokenizer")?
        }
    };
    tokenizer.save(&out.join("tokenizer.json"))?;

    let mut encoder =
        Encoder { shards: ShardWriter::new(out, tokenizer.vocab_size()), tokenizer, counts: Counts::default() };
    let mut batch = Vec::new();
    let mut bytes = 0;
    for document in all_documents(sources("corpus", &spec.corpus), files) {
        let document = document?;
        bytes += document.sentences.iter().map(String::len).sum::<usize>();
        batch.push(document);
        if bytes >= BATCH {
            bytes = 0;
            encoder.encode(&std::mem::take(&mut batch))?;
            progress(encoder.counts.documents);
        }
    }
    encoder.encode(&batch)?;
    progress(encoder.counts.documents);
    encoder.shards.finish()?;
    Ok(encoder.counts.metrics(encoder.tokenizer.vocab_size()))
}

/// Sources with their places in the specification.
fn sources<'a>(field: &str, sources: &'a [spec::Source]) -> Vec<(String, &'a spec::Source)> {
    sources.iter().enumerate().map(|(index, source)| (format!("{field}.{index}.path"), source)).collect()
}

fn all_documents<'a>(
    sources: Vec<(String, &'a spec::Source)>,
    files: &'a dyn Fn(&str) -> Vec<PathBuf>,
) -> impl Iterator<Item = Result<Document>> + 'a {
    let files =
        sources.into_iter().flat_map(|(pointer, source)| files(&pointer).into_iter().map(move |file| (source, file)));
    files.flat_map(|(source, file)| match documents(source, &file) {
        Ok(documents) => documents,
        Err(error) => Box::new(std::iter::once(Err(error))),
    })
}

struct Encoder {
    tokenizer: Tokenizer,
    shards: ShardWriter,
    counts: Counts,
}

impl Encoder {
    fn encode(&mut self, documents: &[Document]) -> Result<()> {
        let sentences: Vec<&str> =
            documents.iter().flat_map(|document| &document.sentences).map(String::as_str).collect();
        let mut encoded = self.tokenizer.encode_batch(&sentences)?.into_iter();
        for document in documents {
            // A sentence may come to nothing, such as one of control characters only.
            let mut ids: Vec<Vec<u32>> = encoded.by_ref().take(document.sentences.len()).collect();
            ids.retain(|sentence| !sentence.is_empty());
            if ids.is_empty() {
                continue;
            }
            self.shards.push(&ids, document.hash())?;
            let unknown = |sentence: &Vec<u32>| sentence.iter().filter(|&&id| id == self.tokenizer.special.unk).count();
            self.counts.documents += 1;
            self.counts.sentences += ids.len() as u64;
            self.counts.tokens += ids.iter().map(Vec::len).sum::<usize>() as u64;
            self.counts.unknown += ids.iter().map(unknown).sum::<usize>() as u64;
            self.counts.characters += document.sentences.iter().map(|text| text.chars().count()).sum::<usize>() as u64;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Counts {
    documents: u64,
    sentences: u64,
    tokens: u64,
    unknown: u64,
    characters: u64,
}

impl Counts {
    fn metrics(&self, vocab_size: usize) -> BTreeMap<String, Value> {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let metrics = [
            ("documents", json!(self.documents)),
            ("sentences", json!(self.sentences)),
            ("tokens", json!(self.tokens)),
            ("characters", json!(self.characters)),
            ("vocab_size", json!(vocab_size)),
            ("unknown_share", json!(share(self.unknown, self.tokens))),
            ("tokens_per_character", json!(share(self.tokens, self.characters))),
        ];
        metrics.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
