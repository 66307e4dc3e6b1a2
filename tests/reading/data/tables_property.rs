//! Every reader of tables against rows that were written to them, against files that were damaged on their way, and
//! against bytes at random: read back equal, or refused with the row; without a panic, and without a row that's lost.
//! `PIPE_CASES` says how many are tried.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int64Array, LargeStringArray, ListArray, RecordBatch,
        StringArray, StringViewArray,
    },
    datatypes::Int32Type,
    ipc::{
        CompressionType,
        writer::{FileWriter, IpcWriteOptions, StreamWriter},
    },
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::{WriterProperties, WriterVersion},
};
use pipe::data::{chosen_rows, is_revised, rows};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::files::{Folder, source};
use crate::common;

type Table = Vec<Vec<String>>;

/// What matters to any reader, and what other texts have.
const PIECES: [&str; 24] = [
    "好", "电影", "a", "b c", "0.10", " ", "\"", "\"\"", "'", ",", "\t", ";", "|", "\\", "\n", "\r\n", "\r", "，", "“",
    "#", "\u{2028}", "\u{feff}", "é", "😀",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..6).prop_map(|pieces| pieces.concat())
}

/// Rows of as many fields each.
fn table() -> impl Strategy<Value = Table> {
    (1..4_usize).prop_flat_map(|width| prop::collection::vec(prop::collection::vec(text(), width), 1..7))
}

fn names(table: &Table) -> Vec<String> {
    (0..table[0].len()).map(|column| format!("c{column}")).collect()
}

fn read(fields: &Value, file: &Path, wanted: &[String]) -> Result<Table, String> {
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let read = || {
        chosen_rows(&source(fields.clone()), file, &wanted, &[])?
            .map(|row| Ok(row?.fields))
            .collect::<anyhow::Result<Table>>()
    };
    read().map_err(|error: anyhow::Error| pipe::support::explained(&error))
}

/// How a table is written.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    delimiter: char,
    /// Around all fields, or where they're needed.
    quotes_all: bool,
    /// A backslash before quotes, delimiters and itself in place of doubled quotes.
    escapes: bool,
    end: &'static str,
    ends_last: bool,
}

fn dialect() -> impl Strategy<Value = Dialect> {
    let delimiter = prop::sample::select(vec![',', '\t', ';', '|']);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    (delimiter, any::<bool>(), any::<bool>(), end, any::<bool>()).prop_map(
        |(delimiter, quotes_all, escapes, end, ends_last)| Dialect { delimiter, quotes_all, escapes, end, ends_last },
    )
}

/// As Python's `csv.writer` does it.
fn written(table: &Table, dialect: Dialect) -> String {
    let Dialect { delimiter, quotes_all, escapes, end, ends_last } = dialect;
    let field = |field: &String| {
        let special = |character| character == delimiter || "\"\n\r".contains(character);
        let needs = field.contains(special) || table[0].len() == 1 && field.is_empty();
        let inner = if escapes { field.replace('\\', "\\\\").replace('"', "\\\"") } else { field.replace('"', "\"\"") };
        if quotes_all || needs { format!("\"{inner}\"") } else { inner }
    };
    let row = |row: &Vec<String>| row.iter().map(field).collect::<Vec<_>>().join(&delimiter.to_string());
    let lines: Vec<String> =
        std::iter::once(names(table)).chain(table.iter().cloned()).map(|line| row(&line)).collect();
    lines.join(end) + if ends_last { end } else { "" }
}

/// A message about a file says where in it; a header that's read otherwise lacks the columns.
fn is_told(error: &str, file: &str) -> bool {
    error.starts_with('/') && error.contains(file) && (error.contains("row ") || error.contains("there is no column"))
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn delimited_rows_are_read_back_where_it_is_said_how_they_were_written(table in table(), dialect in dialect(), tsv in any::<bool>()) {
        let folder = Folder::new();
        let file = folder.file(if tsv { "a.tsv" } else { "a.csv" }, written(&table, dialect));
        let mut fields = json!({"delimiter": dialect.delimiter, "quoting": true});
        if dialect.escapes {
            fields["escape"] = "\\".into();
        }
        prop_assert_eq!(read(&fields, &file, &names(&table)), Ok(table));
    }

    #[test]
    fn delimited_rows_are_read_back_or_refused_where_nothing_is_said(table in table(), dialect in dialect(), tsv in any::<bool>()) {
        let folder = Folder::new();
        let text = written(&table, dialect);
        let name = if tsv { "a.tsv" } else { "a.csv" };
        let file = folder.file(name, &text);
        let read = read(&json!({"delimiter": dialect.delimiter}), &file, &names(&table));
        match read {
            // A backslash that isn't known to escape is text to pandas and Python's csv, too.
            Ok(_) if dialect.escapes && text.contains('\\') => {}
            Ok(read) => prop_assert_eq!(read, table, "{}", text),
            Err(error) => prop_assert!(is_told(&error, name), "{error}\n{text}"),
        }
    }

    #[test]
    fn rows_without_quoting_are_lines(table in table(), delimiter in prop::sample::select(vec![',', '\t', ';', '|'])) {
        let plain = |field: &String| field.replace([delimiter, '\n', '\r'], "");
        let table: Table = table.iter().map(|row| row.iter().map(plain).collect()).collect();
        // Lines without anything are no rows.
        let table: Table = table.into_iter().filter(|row| row.len() > 1 || !row[0].is_empty()).collect();
        prop_assume!(!table.is_empty());
        let lines = std::iter::once(names(&table)).chain(table.iter().cloned());
        let text: String = lines.map(|row| row.join(&delimiter.to_string()) + "\n").collect();
        let folder = Folder::new();
        let file = folder.file("a.csv", &text);
        prop_assert_eq!(read(&json!({"delimiter": delimiter, "quoting": false}), &file, &names(&table)), Ok(table));
    }

    #[test]
    fn json_is_read_back(
        table in table(),
        array in any::<bool>(),
        numbers in prop::collection::vec(prop::sample::select(vec!["1", "1.0", "0.10", "1e400", "-0", "12345678901234567890123", "true"]), 7),
        missing in prop::collection::vec(any::<bool>(), 7),
        other in prop::sample::select(vec!["", "\"meta\": {\"c0\": [1, {}]}, ", "\"x\": \"\\ud83d\", ", "\"c0\": 0, "]),
        between in prop::sample::select(vec!["\n", "\r\n", "\n \n"]),
    ) {
        let mut expected = Vec::new();
        let mut objects = Vec::new();
        for (index, row) in table.iter().enumerate() {
            let fields = row.iter().enumerate().map(|(column, field)| format!("\"c{column}\": {}", Value::from(field.as_str())));
            let mut object = format!("{{{other}{}", fields.collect::<Vec<_>>().join(", "));
            let number = if missing[index] { "" } else { numbers[index] };
            if !number.is_empty() {
                object += &format!(", \"id\": {number}");
            }
            objects.push(object + "}");
            expected.push([&row[..], &[number.to_owned()]].concat());
        }
        let text = if array { format!("[{}]", objects.join(&format!(",{between}"))) } else { objects.join(between) };
        let folder = Folder::new();
        let file = folder.file("a.jsonl", &text);
        let wanted = [names(&table), vec!["id".to_owned()]].concat();
        prop_assert_eq!(read(&json!({}), &file, &wanted), Ok(expected), "{}", text);
    }

    #[test]
    fn columns_are_read_back_from_parquet_and_arrow(table in columns()) {
        let folder = Folder::new();
        for (name, bytes) in table.files() {
            let file = folder.file(&name, &bytes);
            prop_assert_eq!(read(&json!({}), &file, &["text".into(), "id".into()]), Ok(table.expected()), "{}", name);
        }
    }
}

/// A table with columns of its own, and others beside them.
#[derive(Clone, Debug)]
struct Columns {
    texts: Vec<Option<String>>,
    ids: Vec<i64>,
    /// Which of the forms of text it has, and which codec.
    form: usize,
    codec: usize,
    row_group: usize,
    neighbours: Vec<usize>,
    second_version: bool,
}

fn columns() -> impl Strategy<Value = Columns> {
    let rows = prop::collection::vec((prop::option::weighted(0.9, text()), any::<i64>()), 0..40);
    let neighbours = prop::sample::subsequence((0..4).collect::<Vec<usize>>(), 0..4);
    (rows, 0..5_usize, 0..7_usize, prop::sample::select(vec![1, 7, 1000]), neighbours, any::<bool>()).prop_map(
        |(rows, form, codec, row_group, neighbours, second_version)| {
            let (texts, ids) = rows.into_iter().unzip();
            Columns { texts, ids, form, codec, row_group, neighbours, second_version }
        },
    )
}

impl Columns {
    fn expected(&self) -> Table {
        let row = |(text, id): (&Option<String>, &i64)| vec![text.clone().unwrap_or_default(), id.to_string()];
        self.texts.iter().zip(&self.ids).map(row).collect()
    }

    fn batch(&self) -> RecordBatch {
        let (rows, texts) = (self.ids.len(), self.texts.iter().map(Option::as_deref));
        let text: ArrayRef = match self.form {
            0 => Arc::new(texts.collect::<StringArray>()),
            1 => Arc::new(texts.collect::<LargeStringArray>()),
            2 => Arc::new(texts.collect::<StringViewArray>()),
            3 => Arc::new(texts.collect::<DictionaryArray<Int32Type>>()),
            _ => Arc::new(texts.map(|text| text.map(str::as_bytes)).collect::<BinaryArray>()),
        };
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>((0..rows).map(|row| (row % 3 > 0).then_some([Some(1)])));
        let neighbour = |&index: &usize| -> (&str, ArrayRef) {
            match index {
                0 => ("emb", Arc::new(list.clone())),
                1 => ("image", Arc::new(BinaryArray::from(vec![&b"\xff\x00"[..]; rows]))),
                2 => ("flag", Arc::new((0..rows).map(|row| Some(row % 2 > 0)).collect::<BooleanArray>())),
                _ => ("ids", Arc::new(Int64Array::from(vec![7; rows]))),
            }
        };
        let mut columns: Vec<(&str, ArrayRef)> = self.neighbours.iter().map(neighbour).collect();
        columns.insert(columns.len() / 2, ("text", text));
        columns.push(("id", Arc::new(Int64Array::from(self.ids.clone()))));
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    /// The file in all forms, by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let batch = self.batch();
        let codec = match self.codec {
            0 => Compression::UNCOMPRESSED,
            1 => Compression::SNAPPY,
            2 => Compression::GZIP(Default::default()),
            3 => Compression::BROTLI(Default::default()),
            4 => Compression::LZ4,
            5 => Compression::LZ4_RAW,
            _ => Compression::ZSTD(ZstdLevel::default()),
        };
        let version = if self.second_version { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
        let properties = WriterProperties::builder().set_compression(codec).set_writer_version(version);
        let properties = properties.set_max_row_group_row_count(Some(self.row_group)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let parquet = writer.into_inner().unwrap();

        let packed = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)][self.codec % 3];
        let options = IpcWriteOptions::default().try_with_compression(packed).unwrap();
        let mut file = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options.clone()).unwrap();
        let mut stream = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        for start in (0..batch.num_rows()).step_by(self.row_group) {
            let part = batch.slice(start, self.row_group.min(batch.num_rows() - start));
            file.write(&part).unwrap();
            stream.write(&part).unwrap();
        }
        vec![
            ("a.parquet".to_owned(), parquet),
            ("a.arrow".to_owned(), file.into_inner().unwrap()),
            ("stream.arrow".to_owned(), stream.into_inner().unwrap()),
        ]
    }
}

/// What happens to files on their way.
fn damaged(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    for (index, byte) in changes {
        let index = index.index(bytes.len());
        bytes[index] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn damage() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    let special = prop::sample::select(b"\"\\,\t\n\r{}[]:\0\xff\x80\x7f".to_vec());
    let byte = prop_oneof![any::<u8>(), special];
    (prop::collection::vec((any::<Index>(), byte), 1..6), prop::option::weighted(0.2, any::<Index>()))
}

/// Reads all rows there are, in every way; how many, and whether it came to the end.
fn consumed(fields: &Value, file: &Path) -> (usize, bool) {
    let source = source(fields.clone());
    is_revised(&source, file);
    let Ok(rows) = rows(&source, file) else { return (0, false) };
    let (mut count, mut whole) = (0, true);
    for row in rows.take(100_000) {
        match row {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                whole = false;
            }
        }
    }
    (count, whole)
}

/// Lines that have something in them, whatever ends them.
fn lines(bytes: &[u8], ends: &[u8]) -> usize {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    text.split(|byte| ends.contains(byte)).filter(|line| !line.iter().all(|byte| b" \r".contains(byte))).count()
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn damaged_text_loses_no_row(table in table(), dialect in dialect(), (changes, cut) in damage()) {
        let folder = Folder::new();
        let bytes = damaged(written(&table, dialect).into_bytes(), &changes, cut);
        for name in ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow", "a.txt"] {
            consumed(&json!({}), &folder.file(name, &bytes));
        }
        // Without quotes each line is a row, so there's nothing that could hide one.
        let (rows, whole) = consumed(&json!({"quoting": false, "columns": ["rest"]}), &folder.file("a.tsv", &bytes));
        if whole {
            let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
            prop_assert_eq!(rows, text.split(|byte| b"\n\r".contains(byte)).filter(|line| !line.is_empty()).count());
        }
    }

    #[test]
    fn damaged_json_loses_no_row(table in table(), (changes, cut) in damage()) {
        let object = |row: &Vec<String>| json!({"text": row[0], "n": [1, {"a": row.len()}]}).to_string();
        let objects: Vec<String> = table.iter().map(object).collect();
        let folder = Folder::new();
        let bytes = damaged(objects.join("\n").into_bytes(), &changes, cut);
        let (rows, whole) = consumed(&json!({}), &folder.file("a.jsonl", &bytes));
        if whole && bytes.trim_ascii_start().first() != Some(&b'[') {
            prop_assert_eq!(rows, lines(&bytes, b"\n"));
        }
        let bytes = damaged(format!("[{}]", objects.join(",\n")).into_bytes(), &changes, cut);
        let (rows, whole) = consumed(&json!({}), &folder.file("a.json", &bytes));
        if whole && bytes.first() == Some(&b'[') {
            // What is whole has all of its elements.
            let array: Vec<Value> = serde_json::from_slice(bytes.strip_prefix(b" ").unwrap_or(&bytes)).unwrap_or_default();
            prop_assert_eq!(rows, array.len());
        }
    }

    #[test]
    fn damaged_columns_are_read_or_refused(table in columns(), (changes, cut) in damage()) {
        let folder = Folder::new();
        for (name, bytes) in table.files() {
            let whole = bytes.len();
            let bytes = damaged(bytes, &changes, cut);
            let file = folder.file(&name, &bytes);
            let (rows, ended) = consumed(&json!({}), &file);
            let _ = read(&json!({}), &file, &["text".into(), "id".into()]);
            // Of a Parquet or Arrow file that was cut off nothing is left; a stream may end with any message.
            if bytes.len() < whole && name != "stream.arrow" {
                prop_assert!(rows == 0 && !ended, "{}: {} rows", name, rows);
            }
        }
    }

    #[test]
    fn bytes_at_random_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0..8_usize) {
        let folder = Folder::new();
        let starts: [&[u8]; 8] = [b"", b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0", b"PAR1", b"[", b"{\"a\":", b"\"", b"a,b\n"];
        let bytes = [starts[start], &bytes].concat();
        for name in ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow", "a.txt"] {
            consumed(&json!({}), &folder.file(name, &bytes));
        }
    }
}
