//! The tokenize stage's work: shards that say what the documents said, the same bytes at every run.

use crate::common;
use std::path::{Path, PathBuf};

use pipe::data::text::Tokenizer;
use pipe::engine::store::State;
use pipe::spec::Tokenize;
use pipe::{
    data::{Corpus, Ids, ShardWriter, documents},
    stages::{Steps, tokenize},
    support::text_hash,
};
use serde_json::json;

fn ends(corpus: &Corpus, document: usize) -> Vec<Vec<u32>> {
    corpus.document(document).unwrap().sentences().map(|sentence| corpus.ids(sentence)).collect()
}

#[test]
fn shards_give_back_documents_sentences_and_hashes() {
    let directory = tempfile::tempdir().unwrap();
    let mut shards = ShardWriter::new(directory.path(), 1 << 16);
    shards.push(&[vec![1, 2], vec![65_535]], 7).unwrap();
    shards.push(&[vec![4, 5, 6]], u64::MAX).unwrap();
    shards.finish().unwrap();
    let corpus = Corpus::load(directory.path()).unwrap();
    assert_eq!(corpus.all_ids(), &Ids::U16(vec![1, 2, 65_535, 4, 5, 6]));
    assert_eq!((corpus.len(), corpus.token_count(), corpus.sentence_count()), (2, 6, 3));
    assert_eq!(ends(&corpus, 0), [vec![1, 2], vec![65_535]]);
    assert_eq!(ends(&corpus, 1), [[4, 5, 6]]);
    assert_eq!(corpus.document(1).unwrap().tokens(), 3..6);
    assert_eq!(corpus.documents().map(|document| document.ids().len()).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(corpus.hashes(), [7, u64::MAX]);
    assert!(corpus.document(2).is_none());
}

#[test]
fn large_vocabularies_take_wide_integers() {
    let directory = tempfile::tempdir().unwrap();
    let mut shards = ShardWriter::new(directory.path(), (1 << 16) + 1);
    shards.push(&[vec![65_536]], 1).unwrap();
    shards.finish().unwrap();
    assert_eq!(Corpus::load(directory.path()).unwrap().all_ids(), &Ids::U32(vec![65_536]));
}

#[test]
fn large_corpora_take_several_shards() {
    let directory = tempfile::tempdir().unwrap();
    let mut shards = ShardWriter::new(directory.path(), 256);
    let sentence = vec![7_u32; 1 << 20];
    for document in 0..34 {
        shards.push(std::slice::from_ref(&sentence), document).unwrap();
    }
    shards.finish().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["tokens-00000.parquet", "tokens-00001.parquet"]);
    let corpus = Corpus::load(directory.path()).unwrap();
    assert_eq!(corpus.hashes(), (0..34).collect::<Vec<u64>>());
    assert_eq!(corpus.token_count(), 34 << 20);
}

#[test]
fn no_documents_make_an_empty_corpus() {
    let directory = tempfile::tempdir().unwrap();
    ShardWriter::new(directory.path(), 100).finish().unwrap();
    assert!(Corpus::load(directory.path()).unwrap().is_empty());
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut shards = ShardWriter::new(directory.path(), 100);
    shards.push(&[vec![70_000]], 1).unwrap();
    assert_eq!(shards.finish().unwrap_err().to_string(), "token id 70000 is outside the vocabulary");
}

#[test]
fn a_folder_without_shards_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let error = Corpus::load(directory.path()).unwrap_err().to_string();
    assert!(error.ends_with(": there are no token shards (tokens-00000.parquet, …)"), "{error}");
}

/// A corpus of two sources; the second is a single file of rows.
struct Stage {
    folder: tempfile::TempDir,
    spec: Tokenize,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let poem = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n\n床前明月光，疑是地上霜。举头望明月，低头思故乡。\n\n";
        std::fs::write(folder.path().join("a.txt"), poem.repeat(8)).unwrap();
        std::fs::write(folder.path().join("b.txt"), "白日依山尽\u{1}\n\n\u{1}\n").unwrap();
        std::fs::write(folder.path().join("c.tsv"), "label\ttext\n1\t黄河入海流！\n").unwrap();
        let spec = json!({
            "tokenizer": {"wordpiece": {"vocab_size": 200}},
            "corpus": [{"path": "*.txt"}, {"path": "c.tsv"}],
        });
        Self { folder, spec: serde_json::from_value(spec).unwrap() }
    }

    fn files(&self, pointer: &str) -> Vec<PathBuf> {
        let names: &[&str] = match pointer {
            "corpus.0.path" => &["a.txt", "b.txt"],
            "corpus.1.path" | "train_on.0.path" => &["c.tsv"],
            _ => panic!("asked for {pointer}"),
        };
        names.iter().map(|name| self.folder.path().join(name)).collect()
    }

    fn run(&self, existing: Option<&Path>) -> (tempfile::TempDir, serde_json::Value) {
        let (out, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = State::new(state.path().join("state"), "key");
        let files = |pointer: &str| self.files(pointer);
        let metrics = tokenize(&self.spec, &files, existing, &state, out.path(), &mut Silent).unwrap();
        (out, json!(metrics.unwrap()))
    }
}

/// Doesn't want to know, and never stops.
struct Silent;

impl Steps for Silent {
    fn encoded(&mut self, _documents: u64) -> bool {
        false
    }

    fn note(&mut self, _note: &str) {}
}

#[test]
fn tokenize_writes_the_tokenizer_the_corpus_and_metrics() {
    let stage = Stage::new();
    let (out, metrics) = stage.run(None);
    let tokenizer = Tokenizer::load(out.path()).unwrap();
    let corpus = Corpus::load(out.path()).unwrap();
    // The paragraph of a control character alone is no document.
    assert_eq!(corpus.len(), 18);
    let first = corpus.document(0).unwrap();
    assert_eq!(first.hash(), text_hash("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"));
    let sentences: Vec<String> =
        first.sentences().map(|sentence| tokenizer.decode(&corpus.ids(sentence), true).unwrap()).collect();
    assert_eq!(sentences, ["春眠不觉晓，处处闻啼鸟。", "夜来风雨声，花落知多少。"]);
    let last = corpus.document(17).unwrap();
    let unknown = last.ids().iter().filter(|&&id| id == tokenizer.special.unk).count();
    assert_eq!((last.ids().len(), unknown), (6, 6));
    // WordPiece has no tokens for line breaks and control characters.
    let tokens = 8 * 48 + 5 + 6;
    let characters = tokens + 8 + 1;
    assert_eq!(
        metrics,
        json!({
            "documents": 18, "rows_read": 1, "sentences": 34, "tokens": tokens, "characters": characters, "vocab_size": 47,
            "unknown_share": 11.0 / f64::from(tokens), "tokens_per_character": f64::from(tokens) / f64::from(characters),
        })
    );
}

#[test]
fn tokenize_gives_the_same_bytes_again() {
    let stage = Stage::new();
    let ((first, _), (second, _)) = (stage.run(None), stage.run(None));
    for name in ["tokenizer.json", "tokens-00000.parquet"] {
        let read = |out: &tempfile::TempDir| std::fs::read(out.path().join(name)).unwrap();
        assert!(read(&first) == read(&second), "{name} differs");
    }
}

#[test]
fn train_on_is_read_instead_of_the_corpus() {
    let mut stage = Stage::new();
    stage.spec = serde_json::from_value(json!({
        "tokenizer": {"wordpiece": {"vocab_size": 200, "min_frequency": 1}},
        "train_on": [{"path": "c.tsv"}],
    }))
    .unwrap();
    let (out, metrics) = stage.run(None);
    assert_eq!(metrics["documents"], 0);
    assert_eq!(Tokenizer::load(out.path()).unwrap().vocab_size(), 9 + 6);
}

#[test]
fn existing_tokenizers_are_taken_as_they_are() {
    let mut stage = Stage::new();
    let (first, _) = stage.run(None);
    stage.spec.tokenizer = serde_json::from_value(json!({"stage": "other"})).unwrap();
    let (second, _) = stage.run(Some(first.path()));
    let read = |out: &tempfile::TempDir| std::fs::read(out.path().join("tokenizer.json")).unwrap();
    assert!(read(&first) == read(&second));
}

/// Run by the next test in a process of its own, whose memory nothing else uses.
#[test]
#[ignore = "a part of `memory_does_not_grow_with_the_corpus`"]
fn reads_documents() {
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let source = serde_json::from_value(json!({"path": "unused"})).unwrap();
    let before = peak();
    let file = PathBuf::from(std::env::var_os("PIPE_TEST_FILE").unwrap());
    let out = tempfile::tempdir().unwrap();
    let mut shards = ShardWriter::new(out.path(), 100);
    let mut read = 0;
    for document in documents(&source, &file).unwrap() {
        let sentences = document.unwrap().sentences().count();
        read += sentences;
        shards.push(&vec![vec![1; 4]; sentences], 1).unwrap();
    }
    shards.finish().unwrap();
    assert_eq!(read, 1_200_000);
    let grown = peak() - before;
    assert!(grown < 48 << 10, "memory grew by {grown} KiB");
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.txt");
    let document = format!("{}\n\n", "一二三四五六七八九十一二三四五六七八九十。".repeat(12));
    std::fs::write(&file, document.repeat(100_000)).unwrap();
    common::run_alone("data::tokenize::reads_documents", &[("PIPE_TEST_FILE", file.as_os_str())]);
}
