//! Real data sets, as their authors published them.

use crate::common;
use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::{data, need};
use pipe::{
    data::{documents, header, rows, text::Tokenizer},
    spec::{self, Source},
};
use serde_json::{Value, json};

fn source(fields: Value) -> Source {
    let mut source = json!({"path": "unused"});
    source.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(source).unwrap()
}

fn labels(source: &Source, file: &Path) -> Vec<String> {
    rows(source, file).unwrap().map(|row| row.unwrap().get("label").unwrap().to_owned()).collect()
}

#[test]
fn chnsenticorp_has_stray_quotes_and_all_its_rows() {
    let file = need!(data("chnsenticorp/train.tsv"));
    let source = source(json!({}));
    assert_eq!(header(&source, &file).unwrap(), ["label", "text_a"]);
    let labels = labels(&source, &file);
    assert_eq!((labels.len(), labels.iter().filter(|label| *label == "1").count()), (9600, 4799));
    assert!(rows(&source, &file).unwrap().any(|row| row.unwrap().get("text_a").unwrap().starts_with('"')));
    assert_eq!(documents(&source, &file).unwrap().count(), 9600);
}

#[test]
fn thucnews_has_no_header() {
    let file = need!(data("thucnews_titles/train.txt"));
    let source = source(json!({"format": "tsv", "columns": ["title", "label"]}));
    let labels = labels(&source, &file);
    assert_eq!(labels.len(), 41_557);
    assert!(labels.iter().all(|label| label.parse::<u32>().is_ok_and(|label| label < 10)));
}

#[test]
fn sst2_is_parted_at_the_first_space() {
    let file = need!(data("sst2/stsa.binary.train"));
    let source = source(json!({"format": "tsv", "columns": ["label", "text"], "delimiter": " "}));
    let row = rows(&source, &file).unwrap().next().unwrap().unwrap();
    assert_eq!(row.get("label"), Some("1"));
    assert!(row.get("text").unwrap().starts_with("a stirring , funny and finally"));
    assert_eq!(labels(&source, &file).len(), 6920);
}

#[test]
fn trec_is_latin_1_and_the_row_is_named() {
    let file = need!(data("trec/TREC.train.all"));
    let source = source(json!({"format": "tsv", "columns": ["label", "text"], "delimiter": " "}));
    let error = rows(&source, &file).unwrap().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("TREC.train.all: row 66: not valid UTF-8 (byte 0xF0 at column 53)"), "{error}");
}

#[test]
fn poems_and_articles_are_paragraphs_of_sentences() {
    let file = need!(data("song_ci/song_ci.txt"));
    let poems: Vec<_> = documents(&source(json!({})), &file).unwrap().map(Result::unwrap).collect();
    assert_eq!(poems.len(), 21_053);
    let sentences: Vec<&str> = poems[0].sentences().take(3).collect();
    assert_eq!(sentences, ["导引　和岘\n", "气和玉烛，睿化著鸿明。\n", "缇管一阳生。\n"]);
    let file = need!(data("cluecorpus_small/CLUECorpusSmall_bert_sampled.txt"));
    assert_eq!(documents(&source(json!({})), &file).unwrap().count(), 2500);
}

#[test]
fn tokenizers_of_two_megabytes_are_trained_and_used_in_seconds() {
    let file = need!(data("cluecorpus_small/CLUECorpusSmall_bert_sampled.txt"));
    let source = source(json!({}));
    let texts: Vec<String> = documents(&source, &file).unwrap().map(|document| document.unwrap().text).collect();
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    for (kind, most) in [("bpe", 0.75), ("wordpiece", 1.0), ("unigram", 0.75)] {
        let spec: spec::Tokenizer = serde_json::from_value(json!({kind: {"vocab_size": 8000}})).unwrap();
        let start = Instant::now();
        let tokenizer = Tokenizer::train(&spec, texts.iter().cloned().map(Ok)).unwrap();
        let trained = start.elapsed();
        let encoded = tokenizer.encode_batch(&texts).unwrap();
        eprintln!("{kind}: trained in {trained:.1?}, encoded in {:.1?}", start.elapsed() - trained);
        // Generous: other tests run at the same time.
        assert!(start.elapsed() < Duration::from_secs(60));
        let tokens = encoded.iter().map(Vec::len).sum::<usize>() as f64;
        assert!(tokens / (characters as f64) < most, "{kind}: {tokens} tokens for {characters} characters");
        let unknown = encoded.iter().flatten().filter(|&&id| id == tokenizer.special.unk).count() as f64;
        assert!(unknown / tokens < 0.002, "{kind}: {unknown} unknown of {tokens}");
    }
}
