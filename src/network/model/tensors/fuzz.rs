//! Safetensors files that were made up or damaged: read or refused, without a panic, and with no more memory than the file
//! is large. `PIPE_CASES` says how many are tried.

use std::path::Path;

use burn::tensor::Bytes;
use proptest::{prelude::*, sample::Index, test_runner::Config};
use safetensors::Dtype;

use super::{Reader, TensorEntry, write};

pub(super) fn config() -> Config {
    let cases = std::env::var("PIPE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// What becomes of files on their way.
pub(super) fn damaged(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    for (index, byte) in changes {
        let index = index.index(bytes.len());
        bytes[index] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// A file with a tensor of each type that is read, and an empty one.
fn sound() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let entry = |name: &str, dtype: Dtype, shape: &[usize]| {
        let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let bytes = (0..size).map(|index| index as u8).collect();
        TensorEntry::new(name.into(), dtype, shape.to_vec(), || Ok(Bytes::from_bytes_vec(bytes)))
    };
    let entries = vec![
        entry("single", Dtype::F32, &[3, 4]),
        entry("half", Dtype::F16, &[7]),
        entry("brain", Dtype::BF16, &[2, 2, 2]),
        entry("code", Dtype::I8, &[5]),
        entry("none", Dtype::F32, &[0, 4]),
    ];
    write(file.path(), entries).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// Reads all that's in a file; gives how many tensors, and how many bytes they took.
fn read(bytes: &[u8]) -> Option<(usize, usize)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read_file(file.path())
}

fn read_file(path: &Path) -> Option<(usize, usize)> {
    let reader = Reader::open(path).ok()?;
    let mut taken = 0;
    for name in reader.names() {
        taken += reader.bytes(name).map_or(0, |bytes| bytes.len());
        // Types that aren't floats are refused.
        let _ = reader.read(name);
    }
    Some((reader.names().count(), taken))
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

#[test]
fn a_sound_file_is_read_whole() {
    assert_eq!(read(&sound()), Some((5, 48 + 14 + 16 + 5)));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_files_are_read_or_refused(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.3, any::<Index>()),
    ) {
        let bytes = damaged(sound(), &changes, cut);
        if let Some((_, taken)) = read(&bytes) {
            prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn made_up_files_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
        read(&with_header(&bytes, b"data"));
    }

    /// Headers that are JSON, with numbers up to the largest.
    #[test]
    fn made_up_headers_promise_no_more_than_there_is(
        tensors in prop::collection::vec((
            prop::sample::select(vec!["F32", "F16", "BF16", "I8", "F64", "BOOL", "F4", "C64", "F8_E4M3"]),
            prop::collection::vec(prop_oneof![0_u64..9, any::<u64>(), Just(u64::MAX), Just(1 << 32)], 0..4),
            prop_oneof![0_u64..64, any::<u64>()],
            prop_oneof![0_u64..64, any::<u64>()],
        ), 0..4),
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let tensors = tensors.iter().enumerate().map(|(index, (dtype, shape, from, to))| {
            let value = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] });
            (index.to_string(), value)
        });
        let header = serde_json::Value::from_iter(tensors).to_string();
        if let Some((_, taken)) = read(&with_header(header.as_bytes(), &data)) {
            prop_assert!(taken <= data.len());
        }
    }
}
