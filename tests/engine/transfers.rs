//! What goes to a remote and comes from it: large files in parts, transfers that were cut off, and records that were
//! made to do harm.

use crate::common;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use common::{
    Space,
    web::{Serves, serve},
};
use pipe::engine::{
    remote::{Remote, decode, encode},
    store::{Artifact, Claim, Manifest, Metrics, Provenance, Store},
};
use proptest::prelude::*;
use serde_json::json;

/// A file of more than two chunks.
const LARGE: usize = 20 << 20;

fn manifest(number: u64) -> Manifest {
    Manifest {
        format: Manifest::FORMAT,
        kind: "tokenize".into(),
        version: 1,
        spec: json!({ "number": number }),
        inputs: BTreeMap::new(),
        seed: None,
    }
}

fn large() -> Vec<u8> {
    (0..LARGE as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn make(store: &Store, number: u64, files: &[(&str, &[u8])]) -> Artifact {
    let Claim::Miss(slot) = store.claim(manifest(number), false, &|| ()).unwrap() else { panic!("it's there") };
    for (name, bytes) in files {
        let path = slot.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    slot.commit(Metrics::new(), Provenance::default()).unwrap()
}

/// A remote in `space` for a store in it, and what it tells.
fn open(space: &Space, store: &str) -> (Store, Remote, Arc<Mutex<Vec<String>>>) {
    open_at(&format!("file://{}", space.path().join("remote").display()), space, store)
}

fn open_at(url: &str, space: &Space, store: &str) -> (Store, Remote, Arc<Mutex<Vec<String>>>) {
    let store = Store::open(&space.path().join(store)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let remote = Remote::open(url, &store, move |line| tell.lock().unwrap().push(line.to_owned())).unwrap();
    (store, remote, told)
}

/// A remote with an artifact that has a large file, the same once more, a small one and an empty one.
fn pushed(space: &Space) -> Artifact {
    push_to(open(space, "first"))
}

fn push_to((store, remote, told): (Store, Remote, Arc<Mutex<Vec<String>>>)) -> Artifact {
    let bytes = large();
    let artifact = make(&store, 1, &[("a", &bytes), ("in/b", &bytes), ("c", b"small"), ("d", b"")]);
    remote.push(&artifact, true);
    let moved = remote.finish();
    assert_eq!((moved.pushed, moved.unpushed), (1, 0), "{:?}", told.lock().unwrap());
    artifact
}

#[test]
fn large_equal_small_and_empty_files_come_as_they_were() {
    let space = Space::new();
    let artifact = pushed(&space);
    let (store, remote, _) = open(&space, "second");
    let found = remote.find(&artifact.key).unwrap();
    assert_eq!((found.files.clone(), found.digest.clone()), (artifact.files.clone(), artifact.digest.clone()));
    assert!(store.find(&artifact.key).unwrap().is_none(), "a record alone isn't an artifact of the store");
    let progress = Mutex::new(Vec::new());
    let stored =
        remote.materialise(&found, &|| (), &|done, total| progress.lock().unwrap().push((done, total))).unwrap();
    assert_eq!(std::fs::read(stored.file("in/b")).unwrap(), large());
    assert_eq!(std::fs::read(stored.file("c")).unwrap(), b"small");
    assert_eq!(std::fs::read(stored.file("d")).unwrap(), b"");
    assert_eq!(store.find(&artifact.key).unwrap().unwrap().digest, artifact.digest);
    let moved = remote.finish();
    let expected = LARGE as u64 + 5;
    assert_eq!((moved.files, moved.bytes), (3, expected), "equal files are fetched once");
    assert_eq!(progress.lock().unwrap().last(), Some(&(expected, expected)));
}

#[test]
fn a_web_server_that_can_be_written_to_takes_large_files_too() {
    let space = Space::new();
    let url = format!("{}/cache", serve(space.path(), Serves::Writing));
    let artifact = push_to(open_at(&url, &space, "first"));
    let (_, remote, _) = open_at(&url, &space, "second");
    let stored = remote.materialise(&remote.find(&artifact.key).unwrap(), &|| (), &|_, _| ()).unwrap();
    assert_eq!(std::fs::read(stored.file("a")).unwrap(), large());
}

#[test]
fn what_a_broken_transfer_left_is_not_fetched_again() {
    let space = Space::new();
    let artifact = pushed(&space);
    let (_, remote, _) = open(&space, "second");
    let parts = space.path().join("second/remote/parts").join(&artifact.key);
    std::fs::create_dir_all(&parts).unwrap();
    let part = parts.join(&artifact.files[0].digest).with_extension("part");
    std::fs::write(&part, &large()[..(15 << 20) + 3]).unwrap();
    remote.materialise(&remote.find(&artifact.key).unwrap(), &|| (), &|_, _| ()).unwrap();
    assert_eq!(remote.finish().bytes as usize, LARGE - (15 << 20) - 3 + 5);

    // What doesn't lead to the right digest is fetched from the beginning.
    let (_, remote, _) = open(&space, "third");
    let parts = space.path().join("third/remote/parts").join(&artifact.key);
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join(&artifact.files[0].digest).with_extension("part"), vec![7; 1000]).unwrap();
    let stored = remote.materialise(&remote.find(&artifact.key).unwrap(), &|| (), &|_, _| ()).unwrap();
    assert_eq!(std::fs::read(stored.file("a")).unwrap(), large());
}

#[test]
fn of_a_damaged_artifact_nothing_is_visible_and_nothing_is_pushed() {
    let space = Space::new();
    let artifact = pushed(&space);
    let blob = space.path().join("remote/v1/blobs").join(&artifact.files[0].digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[LARGE - 1] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let (store, remote, _) = open(&space, "second");
    let error = remote.materialise(&remote.find(&artifact.key).unwrap(), &|| (), &|_, _| ()).unwrap_err();
    assert!(format!("{error:#}").contains("the remote's copy of a is damaged"), "{error:#}");
    assert!(store.find(&artifact.key).unwrap().is_none() && store.list().unwrap().is_empty());
    assert!(remote.find(&artifact.key).is_none(), "it isn't offered again");

    let (store, remote, told) = open(&space, "third");
    let local = make(&store, 2, &[("file", b"whole")]);
    std::fs::write(local.file("file"), b"wh0le").unwrap();
    remote.push(&local, true);
    assert_eq!(remote.finish().unpushed, 1);
    assert!(told.lock().unwrap()[0].contains("its file is damaged in the local store"), "{told:?}");
    assert!(!space.path().join("remote/v1/records").join(&local.key).exists());
}

/// A sound record, but for what `change` makes of it; its digest fits again.
fn forged(change: impl FnOnce(&mut Artifact)) -> (String, Vec<u8>) {
    static SOUND: OnceLock<Artifact> = OnceLock::new();
    let sound = SOUND.get_or_init(|| {
        let space = Space::new();
        let store = Store::open(space.path()).unwrap();
        make(&store, 3, &[("file", b"text"), ("in/other", b"more")])
    });
    let mut artifact = sound.clone();
    change(&mut artifact);
    let mut hasher = blake3::Hasher::new();
    for file in &artifact.files {
        hasher.update(file.path.as_bytes()).update(&[0]).update(file.digest.as_bytes()).update(&[0]);
    }
    artifact.digest = hasher.finalize().to_hex().to_string();
    (artifact.key.clone(), encode(&artifact).unwrap())
}

#[test]
fn records_with_files_outside_their_artifact_are_refused() {
    let bad = [
        "../file",
        "/etc/passwd",
        "in/../../file",
        "in//file",
        "./file",
        "in/",
        "",
        "..",
        ".",
        "in\\..\\..\\file",
        "C:file",
        "C:\\file",
        "file\0",
        "artifact.json",
    ];
    for path in bad {
        let (key, text) = forged(|artifact| artifact.files[0].path = path.into());
        let error = decode(&text, &key).unwrap_err();
        assert!(format!("{error:#}").contains("names a file outside its directory"), "{path:?}: {error:#}");
    }
    let (key, text) = forged(|artifact| artifact.files[1] = artifact.files[0].clone());
    assert!(decode(&text, &key).unwrap_err().to_string().contains("twice"));
    for digest in ["../../../../etc/passwd", "", "00ff"] {
        let (key, text) = forged(|artifact| artifact.files[0].digest = digest.into());
        assert!(decode(&text, &key).unwrap_err().to_string().contains("is malformed"), "{digest}");
    }
    let (key, text) = forged(|_| ());
    decode(&text, &key).unwrap();
    assert!(decode(&text, &key.replace('a', "b")).is_err());
}

#[test]
fn a_store_never_reads_the_record_of_a_hostile_artifact() {
    let space = Space::new();
    let (key, text) = forged(|artifact| artifact.files[0].path = "../../../outside".into());
    std::fs::create_dir_all(space.path().join("remote/v1/records")).unwrap();
    std::fs::write(space.path().join("remote/v1/records").join(&key), text).unwrap();
    let (_, remote, told) = open(&space, "second");
    assert!(remote.find(&key).is_none());
    assert!(told.lock().unwrap()[0].contains("is damaged"), "{told:?}");
    assert!(!Path::new(&space.path().join("outside")).exists());
}

/// What a record begins with.
const BEGIN: &str = "{\n  \"checksum\": \"";

/// A record with a checksum that fits.
fn sealed(rest: &[u8]) -> Vec<u8> {
    [BEGIN.as_bytes(), blake3::hash(rest).to_hex().as_bytes(), rest].concat()
}

proptest! {
    #![proptest_config(common::cases(256))]

    /// Whatever comes, it's read or refused; and what is read stays within its artifact.
    #[test]
    fn records_of_any_bytes_are_read_or_refused(start in any::<[u8; 16]>(), junk in any::<Vec<u8>>()) {
        let text = [&start[..], &junk].concat();
        prop_assert!(decode(&text, "00").is_err());
        prop_assert!(decode(&sealed(&text), "00").is_err());
    }

    /// A changed record with a digest that fits says the same, or is refused, or differs in what no key depends on.
    #[test]
    fn mutated_records_stay_within_their_artifact(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (key, text) = forged(|_| ());
        let mut json = text[BEGIN.len() + 64..].to_vec();
        for (index, byte) in changes {
            let index = index.index(json.len());
            json[index] = byte;
        }
        if let Ok(artifact) = decode(&sealed(&json), &key) {
            prop_assert_eq!(artifact.manifest.key(), key);
            for file in &artifact.files {
                let inside = Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside, "{}", file.path);
            }
        }
    }

    /// Paths of all kinds: those that are let through name a place below the artifact.
    #[test]
    fn paths_that_are_let_through_stay_within_their_artifact(path in r#"[a./\\:\x00]{0,8}|(\.\./){1,3}[a-z]{1,4}|\PC{0,12}"#) {
        let (key, text) = forged(|artifact| artifact.files[0].path.clone_from(&path));
        if decode(&text, &key).is_ok() {
            let target = Path::new("/store/artifacts/key").join(&path);
            let plain = target.components().all(|part| !matches!(part, std::path::Component::ParentDir));
            prop_assert!(plain && target.starts_with("/store/artifacts/key") && target != Path::new("/store/artifacts/key"));
        }
    }
}
