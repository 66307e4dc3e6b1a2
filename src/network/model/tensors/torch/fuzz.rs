//! Files of PyTorch's that were made up or damaged: read or refused, without a panic, and with no more memory than the file
//! is large. `PIPE_CASES` says how many are tried.

use proptest::{prelude::*, sample::Index};

use super::{
    super::{
        Reader,
        fuzz::{config, damaged},
    },
    samples::{self, Pickle, archive, legacy, sound_archive, sound_legacy},
};

/// Reads all that's in a file; gives the bytes of the largest tensor.
fn read(bytes: &[u8]) -> Option<usize> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let reader = Reader::open(file.path()).ok()?;
    let taken = |name: &str| {
        // Types that aren't floats are refused.
        let _ = reader.read(name);
        reader.bytes(name).map_or(0, |bytes| bytes.len())
    };
    reader.names().map(taken).max()
}

/// Pieces of a pickle that may stand after one another.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let any_op = any::<u8>().prop_map(|op| vec![op]);
    let op = prop::sample::select(
        b"NJKMGXTUBC])}(tabseu01qrhjciRbQ\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x91\x93\x94".to_vec(),
    );
    let small = (op.clone(), 0_u8..4).prop_map(|(op, index)| vec![op, index]);
    let number = prop_oneof![-2..9_i32, any::<i32>()].prop_map(|number| Pickle::default().number(number).0);
    let text = "[a-z.]{0,6}".prop_map(|text| Pickle::default().text(&text).0);
    let global = prop::sample::select(vec![
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "FloatStorage"),
        ("torch", "Size"),
        ("builtins", "set"),
    ]);
    let global = global.prop_map(|(module, name)| Pickle::default().global(module, name).0);
    let numbers = prop_oneof![0..5_i32, any::<i32>()];
    let tensor = (
        numbers.clone(),
        numbers.clone(),
        prop::collection::vec(numbers.clone(), 0..3),
        prop::collection::vec(numbers, 0..3),
    );
    let tensor = tensor.prop_map(|(elements, offset, shape, strides)| {
        Pickle::default().text("t").tensor("HalfStorage", "0", elements, (offset, &shape, &strides)).0
    });
    let piece = prop_oneof![any_op, op.prop_map(|op| vec![op]), small, number, text, global, tensor];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn sound_files_are_read_whole() {
    assert_eq!(read(&sound_archive()), Some(24));
    assert_eq!(read(&sound_legacy()), Some(24));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_files_are_read_or_refused(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.3, any::<Index>()),
    ) {
        for bytes in [sound_archive(), sound_legacy()] {
            let bytes = damaged(bytes, &changes, cut);
            prop_assert!(read(&bytes).is_none_or(|taken| taken <= bytes.len()));
        }
    }

    /// Only the description is damaged, so that the damage isn't found before it's read.
    #[test]
    fn damaged_descriptions_are_read_or_refused(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let description = damaged(samples::sound().end(), &changes, None);
        let storages = samples::STORAGES;
        let zipped: Vec<_> = storages.iter().map(|(key, _, bytes)| (*key, &bytes[..])).collect();
        let listed: Vec<_> = storages.iter().map(|(key, count, bytes)| (*key, *count, &bytes[..])).collect();
        for bytes in [archive(&description, &zipped), legacy(&description, &listed)] {
            prop_assert!(read(&bytes).is_none_or(|taken| taken <= bytes.len()));
        }
    }

    #[test]
    fn made_up_descriptions_promise_no_more_than_there_is(pieces in pieces(), within in any::<bool>()) {
        let pickle = Pickle::new();
        let description = if within { pickle.op(b"}(").op(&pieces).op(b"u") } else { pickle.op(&pieces) };
        let bytes = archive(&description.end(), &[("0", &[7; 16])]);
        prop_assert!(read(&bytes).is_none_or(|taken| taken <= bytes.len()));
    }
}
