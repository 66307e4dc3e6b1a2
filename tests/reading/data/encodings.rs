//! Text files in every encoding, and what is said of those that aren't in the one that they're read in.

use encoding_rs::Encoding;
use pipe::{
    data::{documents, rows},
    spec::Source,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::files::{Folder, source};
use crate::common;

const TSV: &str = "text\tlabel\n这部电影很好看\t好\n味道实在糟糕，再也不来了\t坏\n";

fn read(folder: &Folder, name: &str, bytes: &[u8], fields: Value) -> Result<Vec<(usize, Vec<String>)>, String> {
    let file = folder.file(name, bytes);
    let read = |source: &Source| -> anyhow::Result<Vec<_>> {
        rows(source, &file)?.map(|row| row.map(|row| (row.number, row.fields))).collect()
    };
    read(&source(fields)).map_err(|error| folder.message(&error))
}

/// In UTF-16, with a mark or without.
fn utf16(text: &str, mark: bool, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mark = if mark { "\u{FEFF}" } else { "" };
    mark.encode_utf16().chain(text.encode_utf16()).flat_map(order).collect()
}

fn encoded(encoding: &'static Encoding, text: &str) -> Vec<u8> {
    let (bytes, _, lossy) = encoding.encode(text);
    assert!(!lossy, "{text:?} has characters that {} lacks", encoding.name());
    bytes.into_owned()
}

#[test]
fn every_format_of_text_is_read_in_the_encoding_that_is_named() {
    let folder = Folder::new();
    let csv = TSV.replace('\t', ",");
    let json_lines = TSV.lines().skip(1).map(|line| line.split_once('\t').unwrap());
    let json_lines: String =
        json_lines.map(|(text, label)| format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}\n")).collect();
    for (name, text) in [("a.tsv", TSV), ("a.csv", &csv), ("a.jsonl", &json_lines), ("a.txt", "一\n\n二")] {
        let expected = read(&folder, name, text.as_bytes(), json!({})).unwrap();
        assert_eq!(expected.len(), 2);
        let marked = format!("\u{FEFF}{text}");
        for (bytes, encoding) in [
            (marked.into_bytes(), "utf-8"),
            (encoded(encoding_rs::GB18030, text), "gb18030"),
            (encoded(encoding_rs::GBK, text), "gbk"),
            (utf16(text, true, u16::to_le_bytes), "utf-16"),
            (utf16(text, true, u16::to_be_bytes), "utf-16"),
            (utf16(text, true, u16::to_le_bytes), "utf-16le"),
            (utf16(text, false, u16::to_le_bytes), "utf-16le"),
            (utf16(text, false, u16::to_be_bytes), "utf-16be"),
            (text.replace('\n', "\r").into_bytes(), "utf-8+cr"),
            (encoded(encoding_rs::GB18030, &text.replace('\n', "\r")), "gb18030+cr"),
            (text.replace('\n', "\r\n").into_bytes(), "utf-8"),
        ] {
            let found = read(&folder, name, &bytes, json!({"encoding": encoding}));
            assert_eq!(found.as_ref(), Ok(&expected), "{name} in {encoding}");
        }
    }
    let big5 = read(&folder, "b.txt", &encoded(encoding_rs::BIG5, "味道實在糟糕\n"), json!({"encoding": "big5"}));
    assert_eq!(big5, Ok(vec![(1, vec!["味道實在糟糕".to_owned()])]));
}

/// Python: `bytes(range(0x80, 0x100)).decode("latin-1")`; of cp1252, `b"\x80\x85\x92\x9f\xe9".decode("cp1252")`.
#[test]
fn latin_1_has_controls_where_windows_1252_has_marks() {
    let folder = Folder::new();
    let all: Vec<u8> = (0x80..=0xFF).collect();
    let expected: String = ('\u{80}'..='\u{FF}').collect();
    assert_eq!(read(&folder, "a.txt", &all, json!({"encoding": "latin-1"})), Ok(vec![(1, vec![expected])]));
    let marks = read(&folder, "a.txt", b"\x80\x85\x92\x9f\xe9", json!({"encoding": "windows-1252"}));
    assert_eq!(marks, Ok(vec![(1, vec!["€…’Ÿé".to_owned()])]));
    // Python: UnicodeDecodeError for 81, 8d, 8f, 90 and 9d.
    for byte in [0x81, 0x8D, 0x8F, 0x90, 0x9D] {
        let error = read(&folder, "a.txt", &[b'a', byte], json!({"encoding": "windows-1252"})).unwrap_err();
        let expected = format!("a.txt: row 1: not valid `windows-1252` (byte 0x{byte:02X} at column 2)");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn what_is_not_utf_8_is_told_with_what_it_looks_like() {
    let folder = Folder::new();
    let latin = b"plain\ncr\xE8me br\xFBl\xE9e\n";
    let cases: [(&str, Vec<u8>, &str); 11] = [
        (
            "latin.txt",
            latin.to_vec(),
            "latin.txt: row 2: not valid UTF-8 (byte 0xE8 at column 3); it looks like windows-1252\n\
             hint: read it with `encoding: windows-1252`, or save it as UTF-8",
        ),
        (
            "gbk.tsv",
            encoded(encoding_rs::GB18030, TSV),
            "gbk.tsv: row 2: not valid UTF-8 (byte 0xD5 at column 1); it looks like gb18030\n\
             hint: read it with `encoding: gb18030`, or save it as UTF-8",
        ),
        (
            "gbk.jsonl",
            encoded(encoding_rs::GB18030, "{\"text\": \"这部电影很好看\"}\n"),
            "gbk.jsonl: row 1: not valid UTF-8 (byte 0xD5 at column 11); it looks like gb18030\n\
             hint: read it with `encoding: gb18030`, or save it as UTF-8",
        ),
        (
            "wide.tsv",
            utf16(TSV, true, u16::to_le_bytes),
            "wide.tsv: this is UTF-16, as the mark at its start says\n\
             hint: read it with `encoding: utf-16`, or save it as UTF-8",
        ),
        (
            "le.tsv",
            utf16(TSV, false, u16::to_le_bytes),
            "le.tsv: this looks like UTF-16LE, not UTF-8\nhint: read it with `encoding: utf-16le`, or save it as UTF-8",
        ),
        (
            "be.csv",
            utf16("label,text\n1,plain English\n", false, u16::to_be_bytes),
            "be.csv: this looks like UTF-16BE, not UTF-8\nhint: read it with `encoding: utf-16be`, or save it as UTF-8",
        ),
        ("wider.txt", vec![0xFF, 0xFE, 0, 0, b'a', 0, 0, 0], "wider.txt: this is UTF-32\nhint: save it as UTF-8"),
        (
            "cr.txt",
            b"one\rtwo\r".to_vec(),
            "cr.txt: lines end with a carriage return (CR) alone\n\
             hint: read it with `encoding: utf-8+cr`, or save it with line feeds",
        ),
        (
            "cr.jsonl",
            b"{\"a\": 1}\r{\"a\": 2}\r".to_vec(),
            "cr.jsonl: lines end with a carriage return (CR) alone\n\
             hint: read it with `encoding: utf-8+cr`, or save it with line feeds",
        ),
        (
            "packed.jsonl",
            vec![0x1F, 0x8B, 8, 0],
            "packed.jsonl: this is compressed with gzip, not text\nhint: unpack it first",
        ),
        (
            "cut.txt",
            "春眠不觉晓\n处处闻啼鸟".as_bytes()[..30].to_vec(),
            "cut.txt: row 2: not valid UTF-8 (byte 0xE9 at column 5; the file ends within a character); most of the text \
             is UTF-8, so this place is damaged\n\
             hint: mend the row; where it doesn't matter, `iconv -c -f UTF-8 -t UTF-8` leaves such bytes out",
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read(&folder, name, &bytes, json!({})).expect_err(name), expected);
    }
}

#[test]
fn a_wrong_encoding_is_told() {
    let folder = Folder::new();
    let long = TSV.repeat(4);
    let cases = [
        (long.clone().into_bytes(), "latin-1", "a.tsv: this is UTF-8, and `encoding` says `latin-1`"),
        (long.clone().into_bytes(), "gb18030", "a.tsv: this is UTF-8, and `encoding` says `gb18030`"),
        (
            format!("\u{FEFF}{TSV}").into_bytes(),
            "gbk",
            "a.tsv: this is UTF-8, as the mark at its start says, and `encoding` says `gbk`",
        ),
        (b"text\nplain text\n".repeat(8), "utf-16le", "a.tsv: this is UTF-8, and `encoding` says `utf-16le`"),
        (
            utf16(TSV, true, u16::to_be_bytes),
            "utf-16le",
            "a.tsv: this is UTF-16, as the mark at its start says, and `encoding` says `utf-16le`",
        ),
        (
            utf16(TSV, false, u16::to_be_bytes),
            "utf-16",
            "a.tsv: no mark at its start says in which order UTF-16's bytes are\nhint: it looks like `encoding: utf-16be`",
        ),
        (
            encoded(encoding_rs::GB18030, TSV),
            "iso-2022-jp",
            "a.tsv: row 2: not valid `iso-2022-jp` (byte 0xD5 at column 1); it looks like gb18030",
        ),
        (
            encoded(encoding_rs::GB18030, "春眠不觉晓")[..9].to_vec(),
            "gb18030",
            "a.tsv: row 1: not valid `gb18030` (byte 0xCF at column 5; the file ends within a character)",
        ),
        (utf16("春眠\n", false, u16::to_le_bytes)[..5].to_vec(), "utf-16le", "a.tsv: row 1: not valid `utf-16le`"),
        (b"a\r\nb\r\n".to_vec(), "utf-8+cr", "a.tsv: row 2: there is a line feed, and lines are said to end with"),
        (b"a\n".to_vec(), "utf-9", "there is no encoding `utf-9`\nhint: did you mean `utf-8`?"),
    ];
    for (bytes, encoding, expected) in cases {
        let error = read(&folder, "a.tsv", &bytes, json!({"encoding": encoding})).expect_err(expected);
        assert!(error.starts_with(expected), "{error}");
    }
    let error = read(&folder, "a.parquet", b"", json!({"encoding": "gb18030"})).unwrap_err();
    assert!(error.starts_with("a.parquet: `encoding` doesn't apply to format parquet"), "{error}");
}

#[test]
fn rows_before_the_place_that_cannot_be_read_are_read() {
    let folder = Folder::new();
    let file = folder.file("a.txt", [b"one\ntwo\n".repeat(100_000), b"thr\xFFee\nfour\n".to_vec()].concat());
    let mut numbers = Vec::new();
    let mut errors = Vec::new();
    for row in rows(&source(json!({})), &file).unwrap() {
        match row {
            Ok(row) => numbers.push(row.number),
            Err(error) => errors.push(folder.message(&error)),
        }
    }
    assert_eq!((numbers.len(), numbers.last()), (200_000, Some(&200_000)));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("a.txt: row 200001: not valid UTF-8 (byte 0xFF at column 4)"), "{}", errors[0]);
}

#[test]
fn lines_of_any_length_are_whole_wherever_they_lie() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..40).map(|n| "春a眠é".repeat(n * n * 17)).map(|line| format!("x{line}")).collect();
    for encoding in [encoding_rs::UTF_8, encoding_rs::GB18030] {
        let bytes = encoded(encoding, &lines.join("\n"));
        let found = read(&folder, "a.txt", &bytes, json!({"encoding": encoding.name().to_lowercase()})).unwrap();
        assert_eq!(found.into_iter().map(|(_, mut fields)| fields.remove(0)).collect::<Vec<_>>(), lines);
    }
}

#[test]
fn line_ends_of_documents_are_those_of_the_file() {
    let folder = Folder::new();
    let texts = |bytes: &[u8], fields: Value| -> Vec<String> {
        let file = folder.file("a.txt", bytes);
        documents(&source(fields), &file).unwrap().map(|document| document.unwrap().text).collect()
    };
    assert_eq!(texts(b"a\r\nb\r\n\r\nc\r\n", json!({})), ["a\r\nb", "c"]);
    assert_eq!(texts(b"a\rb\r\rc\r", json!({"encoding": "utf-8+cr"})), ["a\rb", "c"]);
    // Nothing is split, so it doesn't matter what ends a line; a carriage return within a line is a part of it.
    assert_eq!(texts(b"a\rb\r\rc\r", json!({"document": "file"})), ["a\rb\r\rc\r"]);
    assert_eq!(texts(b"a\rb\nc", json!({"document": "line"})), ["a\rb", "c"]);
}

/// Encodings with what's written in them.
fn encodings() -> impl Strategy<Value = (&'static str, String)> {
    let of = |name: &'static str, pattern: &'static str| (Just(name), pattern);
    prop_oneof![
        of("utf-8", "([\\PC\t]{0,12}\n){0,8}"),
        of("gb18030", "([\\PC\t]{0,12}\n){0,8}"),
        of("utf-16le", "([\\PC\t]{0,12}\n){0,8}"),
        of("utf-16be", "([\\PC\t]{0,12}\n){0,8}"),
        of("latin-1", "a([ -~\u{80}-\u{FF}\t]{0,12}\n){0,8}"),
        of("big5", "([a-z一二三國語]{0,12}\n){0,8}"),
        of("shift_jis", "([a-zあいう日本語]{0,12}\n){0,8}"),
        of("windows-1251", "([a-zа-я]{0,12}\n){0,8}"),
    ]
}

proptest! {
    #![proptest_config(common::cases(300))]

    /// What was written is read, or refused; never something else.
    #[test]
    fn documents_are_read_back_from_every_encoding((name, text) in encodings(), end in "\n|\r\n|\r") {
        let folder = Folder::new();
        let written = text.replace('\n', &end);
        let bytes = match name {
            "utf-16le" => utf16(&written, false, u16::to_le_bytes),
            "utf-16be" => utf16(&written, false, u16::to_be_bytes),
            "latin-1" => written.chars().map(|character| character as u8).collect(),
            other => encoded(Encoding::for_label(other.as_bytes()).unwrap(), &written),
        };
        let file = folder.file("a.txt", &bytes);
        let encoding = if end == "\r" { format!("{name}+cr") } else { name.to_owned() };
        let read = |document: &str| -> Result<Vec<String>, String> {
            let source = source(json!({"encoding": encoding, "document": document}));
            let texts = documents(&source, &file).map_err(|error| folder.message(&error))?;
            texts.map(|document| document.map(|document| document.text).map_err(|e| folder.message(&e))).collect()
        };
        let lines: Vec<&str> = text.split('\n').filter(|line| !line.trim().is_empty()).collect();
        prop_assert_eq!(read("line").unwrap(), lines);
        let whole = read("file").unwrap();
        prop_assert_eq!(whole.concat(), if written.trim().is_empty() { "" } else { written.as_str() });
    }

    /// Whatever bytes there are: rows, and at most one error at their end.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        encoding in prop::sample::select(vec![
            "utf-8", "utf-16", "utf-16le", "utf-16be", "gb18030", "big5", "latin-1", "windows-1252", "shift_jis", "euc-kr",
            "iso-2022-jp", "utf-8+cr", "gb18030+cr",
        ]),
        name in prop::sample::select(vec!["a.txt", "a.tsv", "a.csv", "a.jsonl"]),
    ) {
        let folder = Folder::new();
        let file = folder.file(name, &bytes);
        let source = source(json!({"encoding": encoding, "text": if name == "a.txt" { vec![] } else { vec!["a"] }}));
        if let Ok(rows) = rows(&source, &file) {
            let read: Vec<bool> = rows.map(|row| row.is_ok()).collect();
            prop_assert!(read.iter().rev().skip(1).all(|is_ok| *is_ok));
        }
        if let Ok(documents) = documents(&source, &file) {
            prop_assert!(documents.filter(Result::is_err).count() <= 1);
        }
    }
}
