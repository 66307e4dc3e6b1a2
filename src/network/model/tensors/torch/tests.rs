//! What is found in files of either format that were put together here, and what is said of those that aren't sound.

use std::collections::BTreeMap;

use super::{
    super::Reader,
    samples::{Pickle, archive, legacy, sound_archive, sound_legacy, zip},
};

/// The bytes of each tensor of a file.
fn read(bytes: &[u8]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let reader = Reader::open(file.path())?;
    reader.names().map(|name| Ok((name.to_owned(), reader.bytes(name)?))).collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    read(bytes).unwrap_or_else(|error| panic!("{error:#}")).into_keys().collect()
}

fn refused(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(tensors) => panic!("{tensors:?} were read"),
        Err(error) => format!("{error:#}"),
    }
}

/// An archive whose only storage has four floats.
fn one(description: Pickle) -> Vec<u8> {
    archive(&description.end(), &[("0", &[0; 16])])
}

/// A tensor of four floats.
fn four(pickle: Pickle) -> Pickle {
    pickle.tensor("FloatStorage", "0", 4, (0, &[4], &[1]))
}

#[test]
fn both_formats_give_the_same_tensors_row_by_row() {
    let tensors = read(&sound_archive()).unwrap();
    assert_eq!(tensors["single"], (0..24).collect::<Vec<u8>>());
    assert_eq!(tensors["half"], [101, 1, 102, 1, 103, 1]);
    // [3, 2] with strides [1, 3], from the third element: 102 105, 103 106, 104 107.
    assert_eq!(tensors["turned"], [102, 1, 105, 1, 103, 1, 106, 1, 104, 1, 107, 1]);
    assert_eq!(tensors["number"], [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read(&sound_legacy()).unwrap(), tensors);
}

#[test]
fn weights_are_found_where_trainers_put_them() {
    let within = |outer: &'static str| {
        one(Pickle::new().dict(|pickle| {
            let pickle = pickle.text("epoch").number(3).text("optimizer").dict(|pickle| four(pickle.text("state")));
            pickle.text(outer).dict(|pickle| four(pickle.text("module.a.weight")))
        }))
    };
    for outer in ["state_dict", "module", "model", "model_state_dict"] {
        assert_eq!(names(&within(outer)), ["a.weight"], "{outer}");
    }
    // Under any other name they're what they're called.
    assert_eq!(names(&within("ema")), ["ema.module.a.weight", "optimizer.state"]);
    let beside = Pickle::new().dict(|pickle| four(four(pickle.text("module.a")).text("b")));
    assert_eq!(names(&one(beside)), ["b", "module.a"]);
    let compiled = Pickle::new().dict(|pickle| four(pickle.text("_orig_mod.a")));
    assert_eq!(names(&one(compiled)), ["a"]);
}

#[test]
fn whatever_is_no_plain_value_is_refused_by_its_name() {
    let strange = [("os", "system"), ("builtins", "eval"), ("torch.nn.modules.linear", "Linear"), ("torch", "load")];
    for (module, name) in strange {
        let called = |pickle: Pickle| four(pickle.text("a")).text("b").global(module, name).text("x").op(b"\x85R");
        let expected = format!("it refers to `{module}.{name}`");
        for bytes in [
            one(Pickle::new().dict(called)),
            // It's refused before anything becomes of it, and also where nothing would.
            one(Pickle::new().global(module, name).op(b"0").dict(|pickle| four(pickle.text("a")))),
            one(Pickle::new().text(module).text(name).op(b"\x930").dict(|pickle| four(pickle.text("a")))),
            one(Pickle::new().op(format!("(i{module}\n{name}\n0").as_bytes()).dict(|pickle| four(pickle.text("a")))),
            legacy(&Pickle::new().dict(called).end(), &[("0", 4, &[0; 16])]),
            Pickle::new().global(module, name).end(),
        ] {
            let said = refused(&bytes);
            assert!(said.contains(&expected), "{said}");
        }
    }
    let extension = one(Pickle::new().op(b"\x82\x01").op(b"0").dict(|pickle| four(pickle.text("a"))));
    assert!(refused(&extension).contains("0x82 is no instruction that torch.save writes"));
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let view = |view: (i32, &[i32], &[i32])| {
        refused(&one(Pickle::new().dict(|pickle| pickle.text("a").tensor("FloatStorage", "0", 4, view))))
    };
    assert!(view((0, &[5], &[1])).contains("a: its shape [5] goes past its storage of 4 elements"));
    assert!(view((1, &[4], &[1])).contains("goes past"));
    assert!(view((0, &[2, 2], &[3, 1])).contains("goes past"));
    assert!(view((0, &[i32::MAX, i32::MAX], &[i32::MAX, i32::MAX])).contains("goes past"));
    // One element again and again fits, but not more of them than a file of this size could hold.
    assert!(view((0, &[1 << 30, 1 << 30], &[0, 0])).contains("goes past"));
    assert!(view((-1, &[4], &[1])).contains("goes past"));
    assert!(view((0, &[-1, 2], &[1, 1])).contains("aren't possible"));
    assert!(view((0, &[2], &[1, 1])).contains("doesn't fit its strides"));
    let larger = Pickle::new().dict(|pickle| pickle.text("a").tensor("FloatStorage", "0", 5, (0, &[4], &[1])));
    assert!(refused(&one(larger)).contains("its storage 0 is cut off: 16 of 20 bytes are there"));
    let absent = Pickle::new().dict(|pickle| pickle.text("a").tensor("FloatStorage", "1", 4, (0, &[4], &[1])));
    assert!(refused(&one(absent)).contains("the file top/data/1 is missing in the archive"));
}

#[test]
fn files_without_weights_say_so() {
    assert!(refused(&one(Pickle::new().dict(|pickle| pickle.text("a").number(1)))).contains("it holds no tensors"));
    assert!(refused(&one(four(Pickle::new()))).contains("it holds a tensor instead of tensors by their names"));
    assert!(
        refused(&Pickle::new().dict(|pickle| pickle.text("a").number(1)).end()).contains("none that torch.save wrote")
    );
    assert!(refused(&zip(&[("a/b/data.pkl", b"")])).contains("an archive without data.pkl"));
    let two = zip(&[("top/data.pkl", b""), ("top/data/0", b""), ("top/data/0", b"")]);
    assert!(refused(&two).contains("two files in it are called top/data/0"));
    let whole = sound_archive();
    assert!(refused(&whole[..whole.len() - 1]).contains("list of contents"), "{}", refused(&whole[..whole.len() - 1]));
    let whole = sound_legacy();
    assert!(refused(&whole[..whole.len() - 1]).contains("cut off within storage 2"));
    let big = zip(&[("top/data.pkl", b"."), ("top/byteorder", b"big")]);
    assert!(refused(&big).contains("begin with their highest byte"));
}

/// A safetensors header of 640 bytes begins as a pickle does.
#[test]
fn safetensors_that_begin_like_a_pickle_are_safetensors() {
    let mut header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
    header.resize(0x280, b' ');
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &[1, 2, 3, 4]].concat();
    assert_eq!(bytes[..2], *b"\x80\x02");
    assert_eq!(read(&bytes).unwrap()["a"], [1, 2, 3, 4]);
}

#[test]
fn containers_in_one_another_without_end_are_refused() {
    // Each dictionary has the one before twice.
    let twice = |pickle: Pickle, level: u8| {
        let inner = if level == 0 { four(pickle.op(b"}(").text("a")).op(b"u") } else { pickle };
        inner.op(&[b'q', level, b'0']).op(b"}(").text("a").op(&[b'h', level]).text("b").op(&[b'h', level]).op(b"u")
    };
    let bomb = (0..40).fold(Pickle::new(), twice);
    assert!(refused(&one(bomb)).contains("again and again"));
    // A list that is in itself.
    let knot = Pickle::new().dict(|pickle| pickle.text("a").op(b"]q\x00h\x00a"));
    assert!(refused(&one(knot)).contains("too deep"));
}
