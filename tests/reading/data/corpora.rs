//! The corpora that people publish, document by document: their text is what stands in the file, and their ids are those
//! that the tokenizers' own libraries give for it. `PIPE_CASES` says how many documents of each are encoded.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use pipe::{
    data::{Corpus, documents, text::Tokenizer},
    engine::store::State,
    spec::Tokenize,
    stages::{Steps, tokenize},
};
use serde_json::{Value, json};

use super::files::source;
use crate::common::{
    self, data, need,
    needs::{Need, Needed},
    parity,
};

/// All that there is, with how it's read.
fn sources() -> Vec<(&'static str, Value)> {
    let rows = |text: &str| json!({"text": [text]});
    let pairs = json!({"format": "tsv", "columns": ["a", "b", "label"], "text": ["a", "b"]});
    let titles = json!({"format": "tsv", "columns": ["text", "label"], "text": ["text"]});
    let spaced = json!({"format": "tsv", "columns": ["label", "text"], "delimiter": " ", "text": ["text"]});
    let mut latin = spaced.clone();
    latin["encoding"] = "windows-1252".into();
    vec![
        ("afqmc/train.txt", pairs.clone()),
        ("afqmc/dev.txt", pairs),
        ("chnsenticorp/train.tsv", rows("text_a")),
        ("chnsenticorp/dev.tsv", rows("text_a")),
        ("chnsenticorp/test.tsv", rows("text_a")),
        ("cluecorpus_small/CLUECorpusSmall_bert_sampled.txt", json!({})),
        ("cluecorpus_small/CLUECorpusSmall_sampled.txt", json!({"document": "line"})),
        ("song_ci/song_ci.txt", json!({})),
        ("sst2/stsa.binary.train", spaced.clone()),
        ("sst2/stsa.binary.dev", spaced.clone()),
        ("sst2/stsa.binary.test", spaced),
        ("thucnews_titles/train.txt", titles.clone()),
        ("thucnews_titles/dev.txt", titles.clone()),
        ("tinyshakespeare/input.txt", json!({})),
        ("tnews/train.tsv", titles.clone()),
        ("tnews/dev.tsv", titles),
        ("trec/TREC.train.all", latin.clone()),
        ("trec/TREC.test.all", latin),
    ]
}

/// The files that are here, with how they're read: so many documents of each.
fn files() -> Needed<Vec<(PathBuf, Value)>> {
    let limit = common::cases(1_000).cases;
    let limited = |(name, mut fields): (&str, Value)| {
        fields["limit"] = limit.into();
        Ok((data(name)?, fields))
    };
    sources().into_iter().map(limited).collect()
}

fn texts(fields: &Value, file: &Path) -> Vec<String> {
    documents(&source(fields.clone()), file).unwrap().map(|document| document.unwrap().text).collect()
}

/// Doesn't want to know, and never stops.
struct Silent;

impl Steps for Silent {
    fn encoded(&mut self, _documents: u64) -> bool {
        false
    }

    fn note(&mut self, _note: &str) {}
}

/// A corpus as a tokenize stage encodes it with an existing tokenizer.
fn encoded(tokenizer: &Path, fields: &Value, file: &Path) -> Corpus {
    let mut source = fields.clone();
    source["path"] = "unused".into();
    let spec = json!({"tokenizer": {"file": "unused"}, "corpus": [source]});
    let spec: Tokenize = serde_json::from_value(spec).unwrap();
    let (out, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = State::new(state.path().join("state"), "key");
    tokenize(&spec, &|_| vec![file.to_owned()], Some(tokenizer), &state, out.path(), &mut Silent).unwrap();
    Corpus::load(out.path()).unwrap()
}

/// What stands between blank lines.
fn paragraphs(text: &str) -> Vec<&str> {
    let parts = text.split("\n\n").map(|part| part.trim_matches('\n'));
    parts.filter(|part| !part.trim().is_empty()).collect()
}

/// Splits as the documentation says, by the standard library alone.
#[test]
fn texts_are_those_of_the_files() {
    let read = |name: &str| -> Needed<(PathBuf, String)> {
        let file = data(name)?;
        let text = std::fs::read_to_string(&file).unwrap();
        Ok((file, text))
    };
    let (file, poems) = need!(read("song_ci/song_ci.txt"));
    assert!(texts(&json!({}), &file) == paragraphs(&poems));

    let (file, plays) = need!(read("tinyshakespeare/input.txt"));
    assert!(texts(&json!({"document": "file"}), &file) == [plays.as_str()]);
    let lines: Vec<&str> = plays.lines().filter(|line| !line.is_empty()).collect();
    assert!(texts(&json!({"document": "line"}), &file) == lines);
    assert!(texts(&json!({}), &file) == paragraphs(&plays));

    let (file, rows) = need!(read("chnsenticorp/dev.tsv"));
    let rows: Vec<&str> = rows.lines().skip(1).map(|row| row.split_once('\t').unwrap().1).collect();
    assert!(texts(&json!({"text": ["text_a"]}), &file) == rows);

    // Python: open(…, encoding="latin-1")
    let file = need!(data("trec/TREC.train.all"));
    let bytes = std::fs::read(&file).unwrap();
    let rows: Vec<String> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|row| !row.is_empty())
        .map(|row| row.iter().skip(2).map(|byte| char::from(*byte)).collect())
        .collect();
    let latin = json!({"format": "tsv", "columns": ["label", "text"], "delimiter": " ", "text": ["text"], "encoding": "latin-1"});
    assert!(texts(&latin, &file) == rows);
    assert!(rows[65].contains('ð'), "{}", rows[65]);
}

#[test]
fn ids_are_those_of_whole_documents() {
    let fixtures = need!(parity::fixture("tokenizer"));
    let files = need!(files());
    for name in ["byte_level_bpe", "bert_wordpiece", "unigram"] {
        let json = fixtures.join(name).join("tokenizer.json");
        let mut reference = tokenizers::Tokenizer::from_file(&json).unwrap();
        // Special tokens that are written in a text are text.
        reference.set_encode_special_tokens(true);
        let tokenizer = Tokenizer::load(&json).unwrap();
        for (file, fields) in &files {
            let texts = texts(fields, file);
            let corpus = encoded(&json, fields, file);
            assert_eq!(corpus.len(), texts.len(), "{name}: {}", file.display());
            for (document, text) in corpus.documents().zip(&texts) {
                let ids = document.ids();
                assert_eq!(ids, reference.encode_fast(text.as_str(), false).unwrap().get_ids(), "{name}: {text:?}");
                if name == "byte_level_bpe" {
                    assert_eq!(tokenizer.decode(&ids, false).unwrap(), *text);
                }
            }
        }
    }
}

/// A Python with the library itself.
fn sentencepiece() -> Needed<std::ffi::OsString> {
    let python = Need::Sentencepiece.variable("PIPE_PYTHON")?;
    let found = Command::new(&python).args(["-c", "import sentencepiece"]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(Need::Sentencepiece.unmet("that Python has no sentencepiece")),
    }
}

/// Models of each kind are made by SentencePiece, which encodes the documents, too.
#[test]
fn ids_of_sentencepiece_are_its_own() {
    let python = need!(sentencepiece());
    let files = need!(files());
    let folder = tempfile::tempdir().unwrap();
    for (index, (file, fields)) in files.iter().enumerate() {
        let lines: String = texts(fields, file).iter().map(|text| format!("{}\n", json!(text))).collect();
        std::fs::write(folder.path().join(format!("{index}.jsonl")), lines).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reading/data/sentencepiece_ids.py");
    let mut command = Command::new(python);
    command.arg(script).arg(files.len().to_string()).current_dir(folder.path());
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    for name in output.stdout.split_whitespace() {
        let model = folder.path().join(format!("{name}.model"));
        for (index, (file, fields)) in files.iter().enumerate() {
            let expected = std::fs::read_to_string(folder.path().join(format!("{index}.{name}.ids"))).unwrap();
            let expected: Vec<Vec<u32>> = expected.lines().map(|ids| serde_json::from_str(ids).unwrap()).collect();
            let corpus = encoded(&model, fields, file);
            let found: Vec<Vec<u32>> = corpus.documents().map(|document| document.ids()).collect();
            assert_eq!(found.len(), expected.len(), "{name}: {}", file.display());
            // SentencePiece adds up scores in 32 bits, so that rounding decides between ways to cut a text that have the
            // same score: those with the same pieces in another order.
            let sorted = |ids: &[u32]| {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids
            };
            let same = |found: &Vec<u32>, expected: &Vec<u32>| {
                found == expected || name.starts_with("unigram") && sorted(found) == sorted(expected)
            };
            let differ = found.iter().zip(&expected).filter(|(found, expected)| !same(found, expected)).count();
            let texts = texts(fields, file);
            if let Some(first) = (0..found.len()).find(|&at| !same(&found[at], &expected[at])) {
                panic!(
                    "{name}: {}: {differ} of {} documents differ; {:?}:\n{:?}\n{:?}",
                    file.display(),
                    found.len(),
                    texts[first],
                    found[first],
                    expected[first]
                );
            }
        }
    }
}
