//! Rows out of files of every format, and the messages about files that aren't as they should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use pipe::data::{header, rows};
use pipe::spec::Source;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Messages name files; without the folder they're the same at every run.
    fn message(&self, error: &anyhow::Error) -> String {
        pipe::support::explained(error).replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn source(fields: Value) -> Source {
    let mut source = json!({"path": "unused"});
    source.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(source).unwrap()
}

fn read(fields: Value, file: &Path) -> anyhow::Result<Vec<(usize, Vec<String>)>> {
    rows(&source(fields), file)?.map(|row| row.map(|row| (row.number, row.fields))).collect()
}

fn row<const N: usize>(number: usize, fields: [&str; N]) -> (usize, Vec<String>) {
    (number, fields.map(String::from).into())
}

#[test]
fn tsv_has_a_header_and_takes_quotes_as_they_are() {
    let folder = Folder::new();
    let file = folder.file("a.tsv", "\u{FEFF}label\ttext\r\n1\t他说\"好\r\n\r\n0\t\"坏\"\"\n2\t");
    assert_eq!(header(&source(json!({})), &file).unwrap(), ["label", "text"]);
    assert_eq!(
        read(json!({}), &file).unwrap(),
        [row(2, ["1", "他说\"好"]), row(4, ["0", "\"坏\"\""]), row(5, ["2", ""])]
    );
    let first = rows(&source(json!({})), &file).unwrap().next().unwrap().unwrap();
    assert_eq!((first.get("text"), first.get("label"), first.get("title")), (Some("他说\"好"), Some("1"), None));
}

#[test]
fn named_columns_give_the_rest_of_the_line_to_the_last() {
    let folder = Folder::new();
    let file = folder.file("a.train", "1 a good , good film\n0 bad\n");
    let fields = json!({"format": "tsv", "columns": ["label", "text"], "delimiter": " "});
    assert_eq!(read(fields, &file).unwrap(), [row(1, ["1", "a good , good film"]), row(2, ["0", "bad"])]);
}

#[test]
fn csv_fields_may_be_quoted_and_run_over_lines() {
    let folder = Folder::new();
    let file = folder.file("a.csv", "id,text\r\n1,\"a, \"\"b\"\"\r\nsecond line\"\r\n\r\n2,plain \"quote\"\r\n");
    assert_eq!(
        read(json!({}), &file).unwrap(),
        [row(2, ["1", "a, \"b\"\nsecond line"]), row(5, ["2", "plain \"quote\""])]
    );
    let file = folder.file("b.csv", "a;b\n\"x\";\"y;z\"\n");
    assert_eq!(read(json!({"delimiter": ";"}), &file).unwrap(), [row(2, ["x", "y;z"])]);
    assert_eq!(read(json!({"delimiter": ";", "columns": ["c", "d"]}), &file).unwrap()[0], row(1, ["a", "b"]));
}

#[test]
fn jsonl_columns_are_the_keys_in_their_order() {
    let folder = Folder::new();
    let file = folder.file(
        "a.jsonl",
        "{\"text\": \"好\", \"label\": 1}\n\n{\"label\": null, \"score\": 0.5, \"text\": \"a\\nb\", \"yes\": true}\n",
    );
    assert_eq!(header(&source(json!({})), &file).unwrap(), ["text", "label", "score", "yes"]);
    assert_eq!(read(json!({}), &file).unwrap(), [row(1, ["好", "1", "", ""]), row(3, ["a\nb", "", "0.5", "true"])]);
}

fn parquet(file: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_numbers_and_booleans_become_text() {
    let folder = Folder::new();
    let file = folder.file("a.parquet", "");
    parquet(
        &file,
        vec![
            ("text", Arc::new(StringArray::from(vec![Some("好"), None]))),
            ("label", Arc::new(Int64Array::from(vec![-3, 7]))),
            ("score", Arc::new(Float64Array::from(vec![0.5, 2.0]))),
            ("yes", Arc::new(BooleanArray::from(vec![true, false]))),
        ],
    );
    assert_eq!(header(&source(json!({})), &file).unwrap(), ["text", "label", "score", "yes"]);
    let expected = [row(1, ["好", "-3", "0.5", "true"]), row(2, ["", "7", "2.0", "false"])];
    assert_eq!(read(json!({}), &file).unwrap(), expected);
}

#[test]
fn limit_ends_rows() {
    let folder = Folder::new();
    let file = folder.file("a.txt", "一。二。\n\n三。\n\n四。\n");
    assert_eq!(read(json!({"limit": 2}), &file).unwrap(), [row(1, ["一。二。"]), row(3, ["三。"])]);
}

#[test]
fn mistakes_in_files_are_told_with_file_and_row() {
    let folder = Folder::new();
    let nested: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    let list = folder.file("list.parquet", "");
    parquet(&list, vec![("ids", nested)]);
    let cases = [
        (json!({}), folder.file("few.tsv", "a\tb\n1\t2\n\n3\n"), "few.tsv: row 4: 1 field for 2 columns (a, b)"),
        (json!({}), folder.file("many.tsv", "a\n1\t2\n"), "many.tsv: row 2: 2 fields for 1 column (a)"),
        (json!({}), folder.file("empty.csv", "\n"), "empty.csv: the file is empty; it should begin with a header line"),
        (json!({}), folder.file("twice.csv", "a,b,a\n"), "twice.csv: duplicate column \"a\""),
        (
            json!({}),
            folder.file("open.csv", "a\n1\n\"never\nclosed\n"),
            "open.csv: row 3: unclosed quote\n\
             hint: if quotes are part of the text, set `quoting: false`",
        ),
        (
            json!({}),
            folder.file("a.jsonl", "{\"a\": 1}\n{\"a\": 2,}\n"),
            "a.jsonl: row 2: not valid JSON at column 9: trailing comma at line 1 column 9",
        ),
        (json!({}), folder.file("b.jsonl", "[1]\n"), "b.jsonl: row 1: not a JSON object"),
        (
            json!({}),
            folder.file("c.jsonl", "{\"a\": 1}\n{\"a\": [2]}\n"),
            "c.jsonl: row 2: \"a\" holds an object or a list; a field is text or a number",
        ),
        (json!({}), list, "list.parquet: column \"ids\" holds List(Int32), not text or numbers"),
        (
            json!({}),
            folder.file("a.json", "{}"),
            "a.json: unknown format; supported are .txt, .tsv, .csv, .jsonl and .parquet\n\
             hint: set it with `format: txt`, `tsv`, `csv`, `jsonl` or `parquet`",
        ),
        (
            json!({"columns": ["a"]}),
            folder.file("a.txt", "x"),
            "a.txt: `columns` doesn't apply to format txt\nhint: set `format: tsv` or `format: csv`",
        ),
    ];
    for (fields, file, expected) in cases {
        let error = read(fields, &file).expect_err(expected);
        assert_eq!(folder.message(&error), expected);
    }
}

#[test]
fn rows_end_after_a_mistake() {
    let folder = Folder::new();
    let file = folder.file("a.tsv", "a\tb\n1\t2\n3\n4\t5\n");
    let read: Vec<bool> = rows(&source(json!({})), &file).unwrap().map(|row| row.is_ok()).collect();
    assert_eq!(read, [true, false]);
}

#[test]
fn columns_beside_a_header_replace_its_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.tsv");
    std::fs::write(&path, "label\ttext\n1\t好 的\n").expect("a file");
    let renamed = source(serde_json::json!({ "path": "a.tsv", "columns": ["label", "text_a"], "header": true }));
    let rows: Vec<_> = pipe::data::rows(&renamed, &path).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].number, rows[0].get("text_a")), (2, Some("好 的")));
    let nameless = source(serde_json::json!({ "path": "a.tsv", "header": false }));
    let error = pipe::data::rows(&nameless, &path).err().expect("an error").to_string();
    assert!(error.contains("columns need names"), "{error}");
}
