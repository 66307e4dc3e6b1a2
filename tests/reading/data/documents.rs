//! Documents are what stands in their files, to the byte, and tokenizers get them whole.

use std::{path::Path, sync::Arc};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use pipe::{
    data::{Corpus, documents, text::Tokenizer},
    engine::store::State,
    spec::Tokenize,
    stages::{Steps, tokenize},
    support::text_hash,
};
use serde_json::{Value, json};

use super::files::{Folder, source};

/// A poem, a program, a list, a table, and text with all kinds of white space.
const TEXTS: [&str; 6] = [
    "床前明月光\n疑是地上霜\n举头望明月\n低头思故乡",
    "def f(x):\n    if x:\n\treturn 1\n\n\n    return 2\n",
    "* one\r\n  * two. Three!\r\n\r\n* four",
    "a\tb\n\tc\t\t",
    "　　春眠不觉晓。处处闻啼鸟？  夜来风雨声… 花落知多少 \n \n",
    "\n\nHello there. How are you? Fine.\u{A0}\u{2028}It rains\u{FEFF}; we stay.",
];

fn texts(fields: Value, file: &Path) -> anyhow::Result<Vec<String>> {
    documents(&source(fields), file)?.map(|document| Ok(document?.text)).collect()
}

fn lines_of_json(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect()
}

#[test]
fn a_document_is_a_line_a_paragraph_or_a_file() {
    let folder = Folder::new();
    let text = "\n题\r\n一！二\n \n\n  三\t\r\n四  \n";
    let file = folder.file("a.txt", format!("\u{FEFF}{text}"));
    assert_eq!(texts(json!({"document": "line"}), &file).unwrap(), ["题", "一！二", "  三\t", "四  "]);
    assert_eq!(texts(json!({}), &file).unwrap(), ["题\r\n一！二", "  三\t\r\n四  "]);
    assert_eq!(texts(json!({"document": "file"}), &file).unwrap(), [text]);
}

#[test]
fn limit_ends_documents() {
    let folder = Folder::new();
    let file = folder.file("a.txt", "一。二。\n\n三。\n\n四。\n");
    assert_eq!(texts(json!({"limit": 2}), &file).unwrap(), ["一。二。", "三。"]);
}

#[test]
fn a_part_of_a_file_begins_behind_another() {
    let folder = Folder::new();
    let text = folder.file("a.txt", "一。二。\n\n三。\n\n四。\n");
    assert_eq!(texts(json!({"skip": 1}), &text).unwrap(), ["三。", "四。"]);
    assert_eq!(texts(json!({"skip": 1, "limit": 1}), &text).unwrap(), ["三。"]);
    let table = folder.file("a.tsv", "text\tlabel\n一\ta\n二\tb\n三\tc\n四\td\n");
    assert_eq!(texts(json!({"skip": 1, "limit": 2}), &table).unwrap(), ["二", "三"]);
    assert_eq!(texts(json!({"skip": 4}), &table).unwrap(), [""; 0]);
}

#[test]
fn rows_are_documents_as_they_stand() {
    let folder = Folder::new();
    let json_lines = folder.file("a.jsonl", lines_of_json(&TEXTS));
    assert_eq!(texts(json!({}), &json_lines).unwrap(), TEXTS);

    let table = folder.file("a.parquet", "");
    let column: ArrayRef = Arc::new(StringArray::from(TEXTS.to_vec()));
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&table).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(texts(json!({}), &table).unwrap(), TEXTS);

    let texts_of_lines: Vec<&str> = TEXTS.into_iter().filter(|text| !text.contains('\r')).collect();
    let quoted: String = texts_of_lines.iter().map(|text| format!("\"{}\"\n", text.replace('"', "\"\""))).collect();
    assert_eq!(texts(json!({}), &folder.file("a.csv", format!("text\n{quoted}"))).unwrap(), texts_of_lines);
}

#[test]
fn documents_without_text_are_passed_over() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl", lines_of_json(&["", "\n\n", "春", "　\t", "夏"]));
    assert_eq!(texts(json!({}), &file).unwrap(), ["春", "夏"]);
    for document in ["line", "paragraph", "file"] {
        let blank = folder.file("blank.txt", "\n \n\r\n");
        assert!(texts(json!({"document": document}), &blank).unwrap().is_empty());
    }
}

#[test]
fn text_of_rows_is_the_named_columns_or_the_likely_one() {
    let folder = Folder::new();
    let file = folder.file("a.tsv", "label\ttext_a\ttitle\n1\t正文。完\t标题\n2\t 只有正文\t\n0\t\t\n");
    assert_eq!(texts(json!({}), &file).unwrap(), ["正文。完", " 只有正文"]);
    // A column without text leaves no blank line.
    assert_eq!(texts(json!({"text": ["title", "text_a"]}), &file).unwrap(), ["标题\n正文。完", " 只有正文"]);
}

#[test]
fn text_columns_that_cannot_be_told_are_listed() {
    let folder = Folder::new();
    let file = folder.file("a.tsv", "s1\ts2\n1\t2\n");
    let error = texts(json!({}), &file).unwrap_err();
    assert_eq!(
        folder.message(&error),
        "a.tsv: can't tell which column holds the text; the columns are s1, s2\nhint: name them with `text: [COLUMN, …]`"
    );
    let error = texts(json!({"text": ["s3"]}), &file).unwrap_err();
    let expected = "a.tsv: there is no column \"s3\"; the columns are s1, s2\nhint: did you mean `s2`?";
    assert_eq!(folder.message(&error), expected);
}

#[test]
fn documents_hash_is_of_the_text() {
    let folder = Folder::new();
    let file = folder.file("a.txt", "春眠\n不觉晓。\n");
    let document = documents(&source(json!({})), &file).unwrap().next().unwrap().unwrap();
    assert_eq!(document.hash(), text_hash(" 春眠\n不觉晓。\n"));
    assert_ne!(document.hash(), text_hash("春眠不觉晓。"));
}

/// Doesn't want to know, and never stops.
struct Silent;

impl Steps for Silent {
    fn encoded(&mut self, _documents: u64) -> bool {
        false
    }

    fn note(&mut self, _note: &str) {}
}

/// The texts, encoded by a tokenize stage.
fn encoded(tokenizer: Value) -> (Tokenizer, Corpus) {
    let folder = Folder::new();
    let file = folder.file("a.jsonl", lines_of_json(&TEXTS));
    let spec = json!({"tokenizer": tokenizer, "corpus": [{"path": "a.jsonl", "text": ["text"]}]});
    let spec: Tokenize = serde_json::from_value(spec).unwrap();
    let (out, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = State::new(state.path().join("state"), "key");
    tokenize(&spec, &|_| vec![file.clone()], None, &state, out.path(), &mut Silent).unwrap();
    (Tokenizer::load(out.path()).unwrap(), Corpus::load(out.path()).unwrap())
}

#[test]
fn shards_of_a_byte_level_tokenizer_give_the_documents_back() {
    let (tokenizer, corpus) = encoded(json!({"bpe": {"vocab_size": 400, "min_frequency": 1}}));
    let decoded: Vec<String> =
        corpus.documents().map(|document| tokenizer.decode(&document.ids(), false).unwrap()).collect();
    assert_eq!(decoded, TEXTS);
    let hashes: Vec<u64> = TEXTS.iter().map(|text| text_hash(text)).collect();
    assert_eq!(corpus.hashes(), hashes);
}

#[test]
fn documents_are_encoded_whole_by_every_tokenizer() {
    for tokenizer in [
        json!({"bpe": {"vocab_size": 400, "min_frequency": 1}}),
        json!({"wordpiece": {"vocab_size": 200, "min_frequency": 1}}),
        json!({"unigram": {"vocab_size": 300}}),
    ] {
        let (tokenizer, corpus) = encoded(tokenizer);
        for (document, text) in corpus.documents().zip(TEXTS) {
            assert_eq!(document.ids(), tokenizer.encode(text).unwrap(), "{text:?}");
        }
    }
}

/// The sentences of each document, decoded.
fn sentences(tokenizer: &Tokenizer, corpus: &Corpus) -> Vec<Vec<String>> {
    let decoded = |ids: Vec<u32>| tokenizer.decode(&ids, false).unwrap();
    corpus.documents().map(|document| document.sentences().map(|part| decoded(corpus.ids(part))).collect()).collect()
}

#[test]
fn sentences_are_marked_between_the_tokens() {
    let (tokenizer, corpus) = encoded(json!({"bpe": {"vocab_size": 300, "min_frequency": 1000}}));
    let found = sentences(&tokenizer, &corpus);
    assert_eq!(found[0], ["床前明月光\n", "疑是地上霜\n", "举头望明月\n", "低头思故乡"]);
    assert_eq!(found[1], ["def f(x):\n", "    if x:\n", "\treturn 1\n\n\n", "    return 2\n"]);
    assert_eq!(found[2], ["* one\r\n", "  * two.", " Three!\r\n\r\n", "* four"]);
    assert_eq!(found[4], ["　　春眠不觉晓。", "处处闻啼鸟？", "  夜来风雨声…", " 花落知多少 \n \n"]);
    assert_eq!(
        found[5],
        ["\n\nHello there.", " How are you?", " Fine.", "\u{A0}\u{2028}It rains\u{FEFF};", " we stay."]
    );

    let (tokenizer, corpus) = encoded(json!({"unigram": {"vocab_size": 300}}));
    assert_eq!(sentences(&tokenizer, &corpus)[0], ["床前明月光 ", "疑是地上霜 ", "举头望明月 ", "低头思故乡"]);

    let (tokenizer, corpus) = encoded(json!({"wordpiece": {"vocab_size": 200, "min_frequency": 1}}));
    let found = sentences(&tokenizer, &corpus);
    assert_eq!(found[0], ["床前明月光", "疑是地上霜", "举头望明月", "低头思故乡"]);
    assert_eq!(found[2].len(), 4);
}
