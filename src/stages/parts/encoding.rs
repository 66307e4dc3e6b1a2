//! The work of a `tokenize` stage: a tokenizer, and corpora encoded with it, shard by shard, so that a stage that was
//! stopped resumes behind the shards that it finished.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::origin::TOKENIZER;
use crate::{
    data::{Document, Documents, SHARD, ShardWriter, documents, text::Tokenizer},
    engine::store::{FileRecord, State},
    spec,
    stages::Field,
};

/// The field with the files of a corpus.
pub(in crate::stages) const CORPUS: Field = Field("corpus.*.path");
/// The field with the files that a new tokenizer is trained on, where these aren't the corpora.
pub(in crate::stages) const TRAIN_ON: Field = Field("train_on.*.path");

/// Bytes of text that are encoded at once.
const BATCH: usize = 1 << 20;

/// What [`tokenize`] asks for and tells on the way.
pub trait Steps {
    /// Told the documents encoded so far; whether to stop, and continue another time.
    fn encoded(&mut self, documents: u64) -> bool;

    /// Told what a person should read.
    fn note(&mut self, note: &str);
}

/// Trains or loads the tokenizer, encodes the corpora, and writes `tokenizer.json` and token shards into `out`, a
/// directory that exists. They are made in `state`: the tokenizer and every finished shard are kept there, and aren't
/// made again when a run that was stopped is repeated.
///
/// `files` gives the files of a source by its place in the specification, `corpus.0.path` or `train_on.0.path`;
/// `existing` is the tokenizer (a file, or a directory that has a `tokenizer.json`) where the specification names one.
///
/// Returns the metrics `documents`, `sentences`, `tokens`, `characters`, `vocab_size`, `unknown_share` (of the tokens)
/// and `tokens_per_character`; `None` where `steps` had it stop.
///
/// # Errors
/// If a file can't be read, with its name and the row; if there is nothing to train on; if the output can't be written.
pub fn tokenize(
    spec: &spec::Tokenize,
    files: &dyn Fn(&str) -> Vec<PathBuf>,
    existing: Option<&Path>,
    state: &State,
    out: &Path,
    steps: &mut dyn Steps,
) -> Result<Option<BTreeMap<String, Value>>> {
    tokenize_into(SHARD, spec, files, existing, state, out, steps)
}

/// As [`tokenize`], into shards of `most` tokens.
fn tokenize_into(
    most: usize,
    spec: &spec::Tokenize,
    files: &dyn Fn(&str) -> Vec<PathBuf>,
    existing: Option<&Path>,
    state: &State,
    out: &Path,
    steps: &mut dyn Steps,
) -> Result<Option<BTreeMap<String, Value>>> {
    let done = match state.read::<Done>() {
        Ok(done) => done.unwrap_or_default(),
        Err(error) => {
            steps.note(&format!("what was kept of a stopped run is thrown away: {error:#}"));
            state.clear()?;
            Done::default()
        }
    };
    let mut kept = state.files()?;
    let file = state.place(TOKENIZER)?;
    let tokenizer = if kept.is_empty() {
        let tokenizer = tokenizer(spec, files, existing)?;
        tokenizer.save(&file)?;
        kept.push(state.seal(TOKENIZER)?);
        state.keep(kept.clone(), &done)?;
        tokenizer
    } else {
        let shards = kept.len() - 1;
        steps.note(&format!("continues with what a stopped run has finished: the tokenizer and {shards} shards"));
        Tokenizer::load(&file)?
    };

    let shards = ShardWriter::after(kept.len() - 1, most, state.dir(), tokenizer.vocab_size());
    let mut encoder = Encoder { shards, tokenizer, done: done.clone() };
    let mut batch = Vec::new();
    let mut bytes = 0;
    for document in all_documents(sources(CORPUS, &spec.corpus), files, done.place) {
        let (place, document) = document?;
        bytes += document.text.len();
        batch.push((place, document));
        if bytes >= BATCH {
            bytes = 0;
            encoder.encode(&std::mem::take(&mut batch), state, &mut kept)?;
            if steps.encoded(encoder.done.counts.documents) {
                return Ok(None);
            }
        }
    }
    encoder.encode(&batch, state, &mut kept)?;
    steps.encoded(encoder.done.counts.documents);
    encoder.shards.finish()?;
    for name in encoder.shards.finished().chain([TOKENIZER.to_owned()]) {
        // Not moved: what the state vouches for stays until the artifact is there.
        let (from, to) = (state.dir().join(&name), out.join(&name));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(Some(encoder.done.counts.metrics(encoder.tokenizer.vocab_size())))
}

/// The tokenizer that the specification names, or a new one.
fn tokenizer(
    spec: &spec::Tokenize,
    files: &dyn Fn(&str) -> Vec<PathBuf>,
    existing: Option<&Path>,
) -> Result<Tokenizer> {
    match (&spec.tokenizer, existing) {
        (spec::Tokenizer::File(_) | spec::Tokenizer::Stage(_), Some(path)) => Tokenizer::load(path),
        (spec::Tokenizer::File(_) | spec::Tokenizer::Stage(_), None) => bail!("the tokenizer's file isn't known"),
        (new, _) => {
            let sources = if spec.train_on.is_empty() {
                sources(CORPUS, &spec.corpus)
            } else {
                sources(TRAIN_ON, &spec.train_on)
            };
            let documents = all_documents(sources, files, Place::default());
            let texts = documents.map(|document| document.map(|(_, document)| document.text));
            Tokenizer::train(new, texts).context("failed to train the tokenizer")
        }
    }
}

/// Sources with their places in the specification.
fn sources(field: Field, sources: &[spec::Source]) -> Vec<(String, &spec::Source)> {
    sources.iter().enumerate().map(|(index, source)| (field.at(index), source)).collect()
}

/// All documents from a place on, each with the place behind it.
fn all_documents<'a>(
    sources: Vec<(String, &'a spec::Source)>,
    files: &'a dyn Fn(&str) -> Vec<PathBuf>,
    from: Place,
) -> impl Iterator<Item = Result<(Place, Document)>> + 'a {
    let files =
        sources.into_iter().flat_map(|(pointer, source)| files(&pointer).into_iter().map(move |file| (source, file)));
    files.enumerate().skip(from.file).flat_map(move |(file, (source, path))| {
        let read: Documents = match documents(source, &path) {
            Ok(documents) => documents,
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        let before = if file == from.file { from.documents } else { 0 };
        let place = move |index: usize| Place { file, documents: index + 1 };
        read.enumerate().skip(before).map(move |(index, document)| document.map(|document| (place(index), document)))
    })
}

/// How far the corpora are encoded: all files before one, and some documents of that one.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Place {
    file: usize,
    documents: usize,
}

/// What finished shards hold.
#[derive(Clone, Default, Deserialize, Serialize)]
struct Done {
    place: Place,
    counts: Counts,
}

struct Encoder {
    tokenizer: Tokenizer,
    shards: ShardWriter,
    done: Done,
}

impl Encoder {
    /// Encodes documents; whenever that finishes a shard, it's put to the files that `state` keeps.
    fn encode(&mut self, documents: &[(Place, Document)], state: &State, kept: &mut Vec<FileRecord>) -> Result<()> {
        let encode = |(_, document): &(Place, Document)| {
            self.tokenizer.encode_sentences(&document.text, &document.sentence_ends())
        };
        let encoded: Vec<Vec<Vec<u32>>> = documents.par_iter().map(encode).collect::<Result<_>>()?;
        for ((place, document), ids) in documents.iter().zip(encoded) {
            self.done.place = *place;
            // A document may come to nothing, such as one of control characters only.
            if ids.is_empty() {
                continue;
            }
            self.shards.push(&ids, document.hash())?;
            let unknown = |sentence: &Vec<u32>| sentence.iter().filter(|&&id| id == self.tokenizer.special.unk).count();
            let counts = &mut self.done.counts;
            counts.documents += 1;
            counts.sentences += ids.len() as u64;
            counts.tokens += ids.iter().map(Vec::len).sum::<usize>() as u64;
            counts.unknown += ids.iter().map(unknown).sum::<usize>() as u64;
            counts.characters += document.text.chars().count() as u64;
            // A shard ends with a document, so everything up to here is in finished ones.
            let new: Vec<String> = self.shards.finished().skip(kept.len() - 1).collect();
            if !new.is_empty() {
                kept.extend(new.iter().map(|name| state.seal(name)).collect::<Result<Vec<_>>>()?);
                state.keep(kept.clone(), &self.done)?;
            }
        }
        Ok(())
    }
}

/// The names of the metrics that [`tokenize`] returns.
pub(in crate::stages) fn metric_names() -> Vec<String> {
    Counts::default().metrics(0).into_keys().collect()
}

#[derive(Clone, Default, Deserialize, Serialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what it's told, and stops after so many documents.
    #[derive(Default)]
    struct Told {
        stop: Option<u64>,
        notes: Vec<String>,
    }

    impl Steps for Told {
        fn encoded(&mut self, documents: u64) -> bool {
            self.stop.is_some_and(|stop| documents >= stop)
        }

        fn note(&mut self, note: &str) {
            self.notes.push(note.to_owned());
        }
    }

    /// 3.5 million characters, a token each, in two files and a few rows.
    struct Stage {
        folder: tempfile::TempDir,
        spec: spec::Tokenize,
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let document = format!("{}\n\n", "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少".repeat(50));
            std::fs::write(folder.path().join("a.txt"), document.repeat(1_500)).unwrap();
            std::fs::write(folder.path().join("b.txt"), format!("\u{1}\n\n{document}").repeat(2_000)).unwrap();
            std::fs::write(folder.path().join("c.tsv"), "text\n黄河入海流！\n").unwrap();
            let spec = json!({
                "tokenizer": {"wordpiece": {"vocab_size": 200}},
                "train_on": [{"path": "c.tsv"}],
                "corpus": [{"path": "*.txt"}, {"path": "c.tsv"}],
            });
            Self { folder, spec: serde_json::from_value(spec).unwrap() }
        }

        /// In shards of one row group; `None` if it was stopped.
        fn run(&self, state: &State, told: &mut Told) -> (tempfile::TempDir, Option<BTreeMap<String, Value>>) {
            let files = |pointer: &str| -> Vec<PathBuf> {
                let names: &[&str] = if pointer == "corpus.0.path" { &["a.txt", "b.txt"] } else { &["c.tsv"] };
                names.iter().map(|name| self.folder.path().join(name)).collect()
            };
            let out = tempfile::tempdir().unwrap();
            let metrics = tokenize_into(1, &self.spec, &files, None, state, out.path(), told).unwrap();
            (out, metrics)
        }
    }

    fn assert_same(a: &Path, b: &Path) {
        for name in
            ["tokenizer.json"].into_iter().map(str::to_owned).chain((0..4).map(|n| format!("tokens-{n:05}.parquet")))
        {
            let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
            assert!(read(a) == read(b), "{name} differs");
        }
    }

    #[test]
    fn stopped_tokenization_resumes_after_its_finished_shards() {
        let stage = Stage::new();
        let folder = tempfile::tempdir().unwrap();
        let (whole, expected) = stage.run(&State::new(folder.path().join("whole"), "key"), &mut Told::default());
        assert_eq!(expected.as_ref().unwrap()["documents"], 3_501);

        let state = State::new(folder.path().join("state"), "key");
        let stopped = stage.run(&state, &mut Told { stop: Some(2_500), ..Told::default() });
        assert_eq!(stopped.1, None);
        let kept: Vec<String> = state.files().unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(kept, ["tokenizer.json", "tokens-00000.parquet", "tokens-00001.parquet"]);
        // As a process leaves it that is killed within the third.
        std::fs::write(state.dir().join("tokens-00002.parquet"), "PAR1").unwrap();
        let written = |shard: &str| std::fs::metadata(state.dir().join(shard)).unwrap().modified().unwrap();
        let before = [written("tokens-00000.parquet"), written("tokens-00001.parquet")];

        let mut told = Told::default();
        let (out, metrics) = stage.run(&state, &mut told);
        assert_eq!(metrics, expected);
        assert_eq!(told.notes, ["continues with what a stopped run has finished: the tokenizer and 2 shards"]);
        assert_eq!([written("tokens-00000.parquet"), written("tokens-00001.parquet")], before);
        assert_same(out.path(), whole.path());
    }

    #[test]
    fn damaged_shards_of_a_stopped_run_are_thrown_away() {
        let stage = Stage::new();
        let folder = tempfile::tempdir().unwrap();
        let (whole, expected) = stage.run(&State::new(folder.path().join("whole"), "key"), &mut Told::default());
        let state = State::new(folder.path().join("state"), "key");
        stage.run(&state, &mut Told { stop: Some(2_500), ..Told::default() });
        let shard = state.dir().join("tokens-00001.parquet");
        let length = std::fs::metadata(&shard).unwrap().len();
        std::fs::File::options().write(true).open(&shard).unwrap().set_len(length - 1).unwrap();

        let mut told = Told::default();
        let (out, metrics) = stage.run(&state, &mut told);
        assert_eq!(metrics, expected);
        assert_eq!(told.notes.len(), 1);
        assert!(told.notes[0].starts_with("what was kept of a stopped run is thrown away: "), "{:?}", told.notes);
        assert_same(out.path(), whole.path());
    }
}
