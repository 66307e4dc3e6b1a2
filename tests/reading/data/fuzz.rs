//! Parquet files that were made up or damaged: read or refused, without a panic and without filling the memory.
//! `PIPE_CASES` says how many are tried; `src/network/model/tensors/fuzz.rs` does the same with safetensors.

use crate::common;
use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use common::Space;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use pipe::data::{self, Corpus, ShardWriter};
use proptest::{prelude::*, sample::Index};

/// More than a damaged file of a few kilobytes may ever take.
const MOST: u64 = 1 << 30;

/// A table of all types, with nulls.
fn table(compression: Compression) -> Vec<u8> {
    let words = ["春", "夏", "秋", "冬"];
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "text",
            Arc::new(
                (0..300).map(|row| (row % 7 != 0).then(|| format!("{row}{}", words[row % 4]))).collect::<StringArray>(),
            ),
        ),
        ("word", Arc::new((0..300).map(|row| Some(words[row % 4])).collect::<StringArray>())),
        ("number", Arc::new((0..300).map(|row| (row % 5 != 0).then_some(row)).collect::<Int32Array>())),
        ("share", Arc::new((0..300).map(|row| Some(f64::from(row) / 7.0)).collect::<Float64Array>())),
        ("flag", Arc::new((0..300).map(|row| Some(row % 3 == 0)).collect::<BooleanArray>())),
    ];
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).set_data_page_row_count_limit(100);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn shard() -> Vec<u8> {
    let space = Space::new();
    let mut writer = ShardWriter::new(space.path(), 1000);
    for document in 0..200_u32 {
        let sentences: Vec<Vec<u32>> = (0..document % 4).map(|sentence| (0..sentence * 3).collect()).collect();
        writer.push(&sentences, u64::from(document) << 40).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(space.path().join("tokens-00000.parquet")).unwrap()
}

/// What happens to files on their way.
fn damage(bytes: &mut Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) {
    for (index, byte) in changes {
        let index = index.index(bytes.len());
        bytes[index] = *byte;
    }
    if let Some(cut) = cut {
        // Where the end stays, so does the footer, and says what is no longer true.
        let at = cut.index(bytes.len());
        bytes.drain(at..(at + 16).min(bytes.len()));
    }
}

/// Reads all rows of a table, until something is found to be wrong.
fn read_rows(bytes: &[u8]) -> usize {
    let space = Space::new();
    space.write("table.parquet", bytes);
    let file = space.path().join("table.parquet");
    let source = serde_json::from_value(serde_json::json!({ "path": "table.parquet" })).unwrap();
    let Ok(rows) = data::rows(&source, &file) else { return 0 };
    rows.take_while(Result::is_ok).take(100_000).count()
}

fn read_shard(bytes: &[u8]) -> usize {
    let space = Space::new();
    space.write("tokens-00000.parquet", bytes);
    Corpus::load(space.path()).map_or(0, |corpus| {
        corpus
            .documents()
            .map(|document| document.ids().len() + document.sentences().map(|s| s.len()).sum::<usize>())
            .sum()
    })
}

/// The most memory that this process ever had, where the system tells.
fn peak() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn changes() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x80), Just(0x7f)];
    (prop::collection::vec((any::<Index>(), byte), 1..6), prop::option::weighted(0.2, any::<Index>()))
}

#[test]
fn sound_files_are_read_whole() {
    assert_eq!(read_rows(&table(Compression::UNCOMPRESSED)), 300);
    assert_eq!(read_rows(&table(Compression::ZSTD(ZstdLevel::default()))), 300);
    assert!(read_shard(&shard()) > 0);
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn damaged_tables_are_read_or_refused((changes, cut) in changes(), packed in any::<bool>()) {
        let compression = if packed { Compression::ZSTD(ZstdLevel::default()) } else { Compression::UNCOMPRESSED };
        let mut bytes = table(compression);
        damage(&mut bytes, &changes, cut);
        read_rows(&bytes);
        prop_assert!(peak() < MOST, "{} bytes of memory", peak());
    }

    /// The footer says where everything is, and how much of it.
    #[test]
    fn tables_with_a_damaged_footer_are_read_or_refused((changes, _) in changes()) {
        let mut bytes = table(Compression::UNCOMPRESSED);
        let end = bytes.len() - 8;
        let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
        for (index, byte) in changes {
            bytes[end - length + index.index(length)] = byte;
        }
        read_rows(&bytes);
        prop_assert!(peak() < MOST, "{} bytes of memory", peak());
    }

    #[test]
    fn damaged_shards_are_read_or_refused((changes, cut) in changes()) {
        let mut bytes = shard();
        damage(&mut bytes, &changes, cut);
        read_shard(&bytes);
        prop_assert!(peak() < MOST, "{} bytes of memory", peak());
    }

    #[test]
    fn made_up_files_are_refused(junk in prop::collection::vec(any::<u8>(), 0..400), length in any::<u32>()) {
        prop_assert_eq!(read_rows(&junk), 0);
        let framed = [b"PAR1", &junk[..], &length.to_le_bytes(), b"PAR1"].concat();
        read_rows(&framed);
        let framed = [b"PAR1", &junk[..], &(junk.len() as u32).to_le_bytes(), b"PAR1"].concat();
        read_rows(&framed);
        read_shard(&framed);
        prop_assert!(peak() < MOST, "{} bytes of memory", peak());
    }
}
