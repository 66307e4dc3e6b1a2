//! Tables as people have them, each with the right value. Values of .csv and .tsv are those of pandas 3.1
//! (`read_csv(…, dtype=str, keep_default_na=False)`) and Python 3.11's `csv.reader`; of the others those of `json.loads` and
//! of pyarrow.

use std::path::Path;
use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Int64Array, LargeStringArray,
        ListBuilder, RecordBatch, StringArray, StringBuilder, StringViewArray, StructBuilder,
    },
    datatypes::{DataType, Field, Fields, Int32Type},
    ipc::{
        CompressionType,
        writer::{FileWriter, IpcWriteOptions, StreamWriter},
    },
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use pipe::data::{check_rows, chosen_rows, columns, is_revised, rows};
use serde_json::{Value, json};

use super::files::{Folder, source};

type Table = Vec<Vec<String>>;

fn all(fields: Value, file: &Path) -> anyhow::Result<Table> {
    rows(&source(fields), file)?.map(|row| Ok(row?.fields)).collect()
}

fn chosen(file: &Path, columns: &[&str], nested: &[&str]) -> anyhow::Result<Table> {
    chosen_rows(&source(json!({})), file, columns, nested)?.map(|row| Ok(row?.fields)).collect()
}

fn is(found: anyhow::Result<Table>, expected: &[&[&str]]) {
    assert_eq!(found.unwrap(), expected);
}

#[test]
fn csv_is_read_where_pandas_and_csv_agree() {
    let cases: [(&str, &str, &[&[&str]]); 12] = [
        // Quotes in the middle are text.
        ("text,label\n这把\"最好\"的锯子,pos\n5\" 屏,neg\n", "", &[&["这把\"最好\"的锯子", "pos"], &["5\" 屏", "neg"]]),
        // RFC 4180: delimiters, quotes and line ends in quotes; the line ends as they are.
        ("text,label\r\n\"a, \"\"b\"\"\r\nc\",1\r\n", "", &[&["a, \"b\"\r\nc", "1"]]),
        ("text,label\n\"a\rb\",1\n", "", &[&["a\rb", "1"]]),
        // No end of the last line, and a last field that's empty.
        ("text,label\na,1\nb,", "", &[&["a", "1"], &["b", ""]]),
        // Empty lines are no rows, and empty fields are some.
        ("text,label\n\na,1\n\n,\n", "", &[&["a", "1"], &["", ""]]),
        // Lines that end in CR alone.
        ("text,label\ra,1\rb,2\r", "", &[&["a", "1"], &["b", "2"]]),
        // Spaces belong to fields.
        ("text,label\n a , \"1\"\n", "", &[&[" a ", " \"1\""]]),
        // What some take for the end of a line, or for no value.
        ("text,label\na\u{2028}b\u{85}c\u{b},NA\n", "", &[&["a\u{2028}b\u{85}c\u{b}", "NA"]]),
        // Numbers are text.
        ("text,label\n1.10,007\n1e5,0x1F\n", "", &[&["1.10", "007"], &["1e5", "0x1F"]]),
        ("text;label\na,b;1\n", ";", &[&["a,b", "1"]]),
        ("text|label\n\"a|b\"|1\n", "|", &[&["a|b", "1"]]),
        ("text\tlabel\n\"a\tb\"\t1\n", "\t", &[&["a\tb", "1"]]),
    ];
    let folder = Folder::new();
    for (text, delimiter, expected) in cases {
        let fields = if delimiter.is_empty() { json!({}) } else { json!({"delimiter": delimiter}) };
        let found = all(fields, &folder.file("a.csv", text));
        assert_eq!(found.unwrap_or_else(|error| panic!("{text:?}: {error:#}")), expected, "{text:?}");
    }
}

#[test]
fn csv_is_refused_with_the_row_and_the_setting_where_rows_would_be_lost() {
    let cases = [
        (
            "text,label\n\"三寸钉子很好,pos\n很差的锤子,neg\n这把\"最好\"的锯子,pos\n普通的钳子,neg\n",
            "row 2: text behind a closing quote, at column 4 of line 4",
            "quoting: false",
        ),
        ("text,label\n\"钉子,pos\n锤子,neg\n", "row 2: unclosed quote", "quoting: false"),
        ("text,label\na,1\n\"b\" c,2\n", "row 3: text behind a closing quote, at column 4", "quoting: false"),
        // Read as two rows, and as one.
        (
            "text,label\n\"好用,pos\n屏幕 5\",neg\n",
            "row 2: quotes join 2 lines, each of which could be a row",
            "quoting",
        ),
        ("text,label\n\"a \\\"b\\\" c\",1\n", "row 2: text behind a closing quote, at column 6", "escape"),
        ("text,label\na \\\"b\\\" c,1\n", "row 2: a backslash before a quote, at column 3", "escape"),
        ("text,label\na\\,b,1\n", "row 2: 3 fields for 2 columns (text, label)", "escape"),
        ("text,label\na,1\nb\n", "row 3: 1 field for 2 columns (text, label)", "delimiter"),
        ("text,label\na,1,\nb,2,\n", "row 2: 3 fields for 2 columns (text, label)", "delimiter"),
        ("text,label\na\rb,1\nc,2\n", "row 2: some lines end with a carriage return (CR) alone", "in quotes"),
    ];
    let folder = Folder::new();
    for (text, expected, setting) in cases {
        let error = all(json!({}), &folder.file("a.csv", text)).expect_err(text);
        let message = folder.message(&error);
        assert!(message.starts_with(&format!("a.csv: {expected}")), "{text:?}: {message}");
        assert!(message.contains(setting), "{text:?}: {message}");
    }
    // And read where the setting is given.
    let read = |text: &str, fields: Value| all(fields, &folder.file("a.csv", text));
    let stray = cases[0].0;
    let expected: &[&[&str]] =
        &[&["\"三寸钉子很好", "pos"], &["很差的锤子", "neg"], &["这把\"最好\"的锯子", "pos"], &["普通的钳子", "neg"]];
    is(read(stray, json!({"quoting": false})), expected);
    is(read(cases[3].0, json!({"quoting": false})), &[&["\"好用", "pos"], &["屏幕 5\"", "neg"]]);
    is(read(cases[3].0, json!({"quoting": true})), &[&["好用,pos\n屏幕 5", "neg"]]);
    is(read(cases[4].0, json!({"escape": "\\"})), &[&["a \"b\" c", "1"]]);
    is(read(cases[5].0, json!({"escape": "\\"})), &[&["a \"b\" c", "1"]]);
    is(read(cases[5].0, json!({"quoting": true})), &[&["a \\\"b\\\" c", "1"]]);
    is(read(cases[6].0, json!({"escape": "\\"})), &[&["a,b", "1"]]);
}

#[test]
fn quotes_of_a_tsv_enclose_fields_where_all_of_them_do() {
    let folder = Folder::new();
    let read = |text: &str| all(json!({}), &folder.file("a.tsv", text));
    // As pandas' to_csv(sep="\t") writes them.
    is(read("text\tlabel\n\"他说\"\"好\"\"\"\tpos\n坏\tneg\n"), &[&["他说\"好\"", "pos"], &["坏", "neg"]]);
    is(read("text\tlabel\n\"a\tb\"\tpos\n坏\tneg\n"), &[&["a\tb", "pos"], &["坏", "neg"]]);
    is(read("text\tlabel\n\"a\n\nb\"\tpos\n坏\tneg\n"), &[&["a\n\nb", "pos"], &["坏", "neg"]]);
    is(read("\"text\"\t\"label\"\n\"a\"\t\"pos\"\n"), &[&["a", "pos"]]);
    // As data sets without quoting have them: one that encloses nothing, and all are text.
    let stray: &[&[&str]] = &[&["\"他说", "pos"], &["\"坏\"", "neg"], &["说\"好\"", "pos"]];
    is(read("text\tlabel\n\"他说\tpos\n\"坏\"\tneg\n说\"好\"\tpos\n"), stray);
    is(read("text\tlabel\n\"坏\"\tneg\n\"他\"说\tpos\n"), &[&["\"坏\"", "neg"], &["\"他\"说", "pos"]]);
    // Nothing shows which it is.
    let escaped = "text\n\"a\nb\"\n说\\\"好\\\"\n";
    for (text, row) in
        [(escaped, 2), ("text\tlabel\n说\"好\"\tpos\n\"坏\"\tneg\n", 3), ("text\tlabel\n\"好\tpos\n坏\"\tneg\n", 2)]
    {
        let message = folder.message(&read(text).expect_err(text));
        assert!(message.starts_with(&format!("a.tsv: row {row}: it can't be told whether quotes enclose fields")));
        assert!(message.contains("`quoting: true`") && message.contains("`quoting: false`"), "{message}");
    }
    // A row of empty fields is a row.
    is(read("text\tlabel\n\t\na\t1\n \n"), &[&["", ""], &["a", "1"]]);
}

#[test]
fn a_file_is_noted_in_keys_only_where_it_is_read_otherwise_than_before() {
    let folder = Folder::new();
    let cases = [
        ("a.csv", "text,label\r\n\"a, b\",1\r\n\r\nc,2", false),
        ("a.csv", "text,label\n\"a\nb\",1\n\"c \"\"d\"\"\",2\n", false),
        ("a.csv", "text,label\n\"a\r\nb\",1\n", true),
        ("a.csv", "text,label\n\"a,1\nb\"c,2\n", true),
        ("a.csv", "text,label\n\"a,1\nb\",2\n", true),
        ("a.csv", "text,label\n,\n", false),
        ("a.tsv", "text\tlabel\n\"a\t1\nb\"c\"\t2\n", false),
        ("a.tsv", "text\tlabel\n\"a\"\t1\n", true),
        ("a.tsv", "text\tlabel\n\t\n", true),
        ("a.jsonl", "{\"text\": \"1e5\", \"label\": 1.5, \"n\": [1]}\n", false),
        ("a.jsonl", "{\"text\": \"1e5\", \"label\": 1.50}\n", true),
        ("a.txt", "\"a\n\r", false),
    ];
    for (name, text, expected) in cases {
        assert_eq!(is_revised(&source(json!({})), &folder.file(name, text)), expected, "{text:?}");
    }
}

#[test]
fn json_is_read_as_an_array_too_and_numbers_keep_their_digits() {
    let folder = Folder::new();
    let lines = "{\"text\": \"a\", \"id\": 12345678901234567890123, \"meta\": {\"x\": [1]}}\n\
                 {\"id\": 1.0, \"text\": \"b\", \"tags\": []}\n\
                 {\"text\": \"c\", \"id\": 1e400, \"text\": \"d\"}\n{\"text\": null}\n";
    let expected: &[&[&str]] = &[&["a", "12345678901234567890123"], &["b", "1.0"], &["d", "1e400"], &["", ""]];
    is(chosen(&folder.file("a.jsonl", lines), &["text", "id"], &[]), expected);
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n "));
    for name in ["a.jsonl", "a.json"] {
        is(chosen(&folder.file(name, &array), &["text", "id"], &[]), expected);
    }
    is(chosen(&folder.file("a.json", lines), &["text", "id"], &[]), expected);
    is(chosen(&folder.file("a.ndjson", lines), &["text", "id"], &[]), expected);
    let file = folder.file("a.json", "\u{FEFF} [ ]\n");
    is(chosen(&file, &["text"], &[]), &[]);
    // Elements are counted, wherever they stand.
    let file = folder.file("b.json", "[{\"text\": \"a]}\\\"\"},\n\n {\"text\":\n\"b\"}]");
    let numbers: Vec<_> = rows(&source(json!({})), &file).unwrap().map(|row| row.unwrap().number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn keys_may_come_late_or_be_in_one_of_several_files() {
    let folder = Folder::new();
    let late = format!("{}{{\"text\": \"b\", \"input\": \"c\"}}\n", "{\"text\": \"a\"}\n".repeat(150));
    let (late, without) = (folder.file("late.jsonl", late), folder.file("without.jsonl", "{\"text\": \"a\"}\n"));
    let wanted = ["text".to_owned(), "input".to_owned()];
    let source = source(json!({}));
    assert_eq!(columns(&source, std::slice::from_ref(&late), &[]).unwrap(), ["text"]);
    assert_eq!(columns(&source, &[without.clone(), late.clone()], &wanted).unwrap(), wanted);
    assert_eq!(columns(&source, std::slice::from_ref(&without), &wanted).unwrap(), ["text"]);
    let found = chosen(&late, &["input", "text"], &[]).unwrap();
    assert_eq!(
        (found.len(), &found[0], &found[150]),
        (151, &vec![String::new(), "a".into()], &vec!["c".into(), "b".into()])
    );
    is(chosen(&without, &["text", "input"], &[]), &[&["a", ""]]);
}

#[test]
fn json_that_cannot_be_read_is_told_with_the_remedy() {
    let folder = Folder::new();
    let cases = [
        ("{\"text\": \"a\", \"score\": NaN}\n", "row 1: not valid JSON at column 24: there is no NaN in JSON", "null"),
        ("{\"score\": -Infinity}\n", "row 1: not valid JSON at column 12: there is no -Infinity in JSON", "null"),
        ("{\"text\": \"甲\\ud83d乙\"}\n", "row 1: \"text\" holds half of a surrogate pair", "take it out"),
        ("{'text': 'a'}\n", "row 1: not valid JSON at column 2", "json.dumps"),
        ("{\n \"text\": \"a\"\n}\n", "row 1: not valid JSON at column 1", "one line"),
        ("{\"text\": \"a\"} {\"text\": \"b\"}\n", "row 1: not valid JSON at column 15", "one object a line"),
        ("[{\"text\": \"a\"},\n{\"text\": \"b\"}\n", "row 2: the array isn't closed", "cut off"),
        ("[{\"text\": \"a\"}]\n{\"text\": \"b\"}\n", "row 1: something stands behind the array", "one array"),
        ("[{\"text\": \"a\"}, 1]", "row 2: not a JSON object", "objects"),
        ("plain text\n", "row 1: not a JSON object", "format: txt"),
    ];
    for (text, expected, remedy) in cases {
        let file = folder.file("a.jsonl", text);
        let error = chosen(&file, &["text"], &[]).expect_err(text);
        let message = folder.message(&error);
        assert!(message.starts_with(&format!("a.jsonl: {expected}")), "{text}: {message}");
        assert!(message.contains("hint: ") && message.contains(remedy), "{text}: {message}");
        // What isn't asked for isn't looked at, if it's JSON.
        let read = chosen(&file, &["label"], &[]).is_ok();
        assert_eq!(read, text.contains("ud83d"), "{text}");
    }
}

#[test]
fn columns_that_are_not_there_are_told_with_those_that_are() {
    let folder = Folder::new();
    let cases = [
        (
            "a.csv",
            "txet,label\n",
            "a.csv: there is no column \"text\"; the columns are txet, label\nhint: did you mean `txet`?",
        ),
        (
            "a.csv",
            "text;label\na;1\n",
            "a.csv: there is no column \"text\"; the columns are text;label\nhint: did you mean `text;label`?",
        ),
        (
            "a.csv",
            "body\tlabel\na\t1\n",
            "a.csv: there is no column \"text\"; the columns are body\tlabel\n\
             hint: if fields stand between other characters, set `delimiter: \"\\t\"`",
        ),
    ];
    for (name, text, expected) in cases {
        let error = chosen(&folder.file(name, text), &["text"], &[]).expect_err(text);
        assert_eq!(folder.message(&error), expected);
    }
}

/// A table with text in every form, and neighbours that hold anything.
fn table() -> RecordBatch {
    let texts = ["春", "夏", ""];
    let roles = Fields::from(vec![
        Field::new("role", DataType::Utf8, true),
        Field::new("content", DataType::Utf8, true),
        Field::new("weight", DataType::Float64, true),
    ]);
    let mut messages = ListBuilder::new(StructBuilder::from_fields(roles, 2));
    for row in 0..3 {
        for (role, content) in [("user", "你好"), ("assistant", "你说\"好\"\n")] {
            let message = messages.values();
            message.field_builder::<StringBuilder>(0).unwrap().append_value(role);
            message.field_builder::<StringBuilder>(1).unwrap().append_value(content);
            let weight = message.field_builder::<arrow::array::Float64Builder>(2).unwrap();
            if role == "user" {
                weight.append_null()
            } else {
                weight.append_value(0.5)
            }
            message.append(true);
        }
        messages.append(row < 2);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("emb", Arc::new(arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some([Some(1)]); 3]))),
        ("text", Arc::new(StringArray::from(vec![Some("春"), Some("夏"), None]))),
        ("large", Arc::new(LargeStringArray::from(texts.to_vec()))),
        ("view", Arc::new(StringViewArray::from(texts.to_vec()))),
        ("coded", Arc::new(DictionaryArray::<Int32Type>::from_iter(texts))),
        ("bytes", Arc::new(BinaryArray::from(texts.map(str::as_bytes).to_vec()))),
        ("image", Arc::new(BinaryArray::from(vec![&b"\xff"[..]; 3]))),
        ("id", Arc::new(Int64Array::from(vec![i64::MAX, 0, -1]))),
        ("price", Arc::new(Decimal128Array::from(vec![1250, -5, 0]).with_precision_and_scale(20, 2).unwrap())),
        ("day", Arc::new(Date32Array::from(vec![0, 19_723, -1]))),
        ("messages", Arc::new(messages.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn check_table(file: &Path) {
    let names = ["day", "text", "large", "view", "coded", "bytes", "id", "price"];
    let expected: &[&[&str]] = &[
        &["1970-01-01", "春", "春", "春", "春", "春", "9223372036854775807", "12.50"],
        &["2024-01-01", "夏", "夏", "夏", "夏", "夏", "0", "-0.05"],
        &["1969-12-31", "", "", "", "", "", "-1", "0.00"],
    ];
    is(chosen(file, &names, &[]), expected);
    check_rows(&source(json!({})), file, &names, &[]).unwrap();
    let messages = chosen(file, &["messages"], &["messages"]).unwrap();
    let conversation = json!([
        {"role": "user", "content": "你好", "weight": null},
        {"role": "assistant", "content": "你说\"好\"\n", "weight": 0.5},
    ]);
    for row in &messages[..2] {
        assert_eq!(serde_json::from_str::<Value>(&row[0]).unwrap(), conversation);
    }
    assert_eq!(messages[2], [""]);
    // Where nobody says which, those that are texts, numbers and the like.
    let plain = ["text", "large", "view", "coded", "id", "price", "day"];
    assert_eq!(rows(&source(json!({})), file).unwrap().columns(), plain);
    let error = chosen(file, &["image"], &[]).unwrap_err();
    assert!(format!("{error:#}").contains("row 1, column \"image\": the bytes aren't text in UTF-8"), "{error:#}");
}

#[test]
fn parquet_is_read_with_every_codec_and_only_what_is_asked_for() {
    let folder = Folder::new();
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let properties =
            WriterProperties::builder().set_compression(codec).set_max_row_group_row_count(Some(2)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), table().schema(), Some(properties)).unwrap();
        writer.write(&table()).unwrap();
        check_table(&folder.file("a.parquet", writer.into_inner().unwrap()));
    }
}

#[test]
fn arrow_files_and_streams_are_read() {
    let folder = Folder::new();
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut file = FileWriter::try_new_with_options(Vec::new(), &table().schema(), options.clone()).unwrap();
        let mut stream = StreamWriter::try_new_with_options(Vec::new(), &table().schema(), options).unwrap();
        for part in [table().slice(0, 1), table().slice(1, 2)] {
            file.write(&part).unwrap();
            stream.write(&part).unwrap();
        }
        let (file, stream) = (file.into_inner().unwrap(), stream.into_inner().unwrap());
        for (name, bytes) in [("a.arrow", &file), ("a.feather", &file), ("s.arrow", &stream)] {
            check_table(&folder.file(name, bytes));
        }
        // Of a file that was cut off no part is taken for the whole.
        for (name, bytes) in [("a.arrow", &file[..file.len() / 2]), ("s.arrow", &stream[..stream.len() - 20])] {
            let error = chosen(&folder.file(name, bytes), &["text"], &[]).unwrap_err();
            assert!(format!("{error:#}").contains("cut off"), "{error:#}");
        }
    }
    let old = chosen(&folder.file("old.feather", b"FEA1\0\0\0\0"), &["text"], &[]).unwrap_err();
    assert!(folder.message(&old).contains("first version"), "{}", folder.message(&old));
}
