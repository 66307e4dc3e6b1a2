//! Whatever the bytes are: the readers of recipes and of artifacts' records find mistakes, and neither panic nor eat up the
//! memory. `PIPE_CASES` says how many inputs are tried; a longer run is `PIPE_CASES=1000000`.

use crate::common;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
};

use common::{Random, Space, TINY, cases};
use pipe::{
    engine::store::{Claim, Manifest, Metrics, Provenance, Store},
    recipe::{Document, Overrides},
    stages::catalog,
};
use proptest::prelude::*;
use serde_json::json;

/// The most memory that a test may ever have had, where that's known, in KiB.
const MEMORY: u64 = 1 << 20;

fn assert_little_memory() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.split_whitespace().next());
    if let Some(peak) = peak.and_then(|peak| peak.parse::<u64>().ok()) {
        assert!(peak < MEMORY, "{peak} KiB");
    }
}

/// Some bytes of a text changed, cut out, doubled or put in.
fn mutated(bytes: &[u8], pieces: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, random.pick(pieces).bytes())),
        }
    }
    bytes
}

/// What is special in YAML, in expressions and in recipes.
const YAML: [&str; 34] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "&a ",
    "*a",
    "<<: ",
    "!!",
    "!x ",
    "|\n",
    ">-\n",
    "- ",
    ": ",
    "? ",
    "# ",
    "---\n",
    "...\n",
    "'",
    "\"",
    "\t",
    "\u{feff}",
    "\0",
    "[[[[[[[[",
    "{a: {a: {a: ",
    "1e999",
    "-0",
    "0x",
    "~",
    "null",
    "{{ range(100000000) }}",
    "{{ env('PATH') }}",
    "{{ seed }}",
    "stages:\n",
    "体育",
];

fn read_recipe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let said = match Document::parse(Path::new("recipe.yaml"), &text, catalog()) {
        Ok(document) => match document.check(&Overrides::default(), &|_, _| None) {
            Ok(_) => String::new(),
            Err(problems) => problems.render(false),
        },
        Err(problems) => problems.render(false),
    };
    assert!(said.len() < 1 << 20, "{} bytes of mistakes", said.len());
}

/// A store with one artifact, its key, and its record.
fn stored() -> (Space, String, Vec<u8>) {
    let space = Space::new();
    let manifest = Manifest {
        format: Manifest::FORMAT,
        kind: "pretrain".into(),
        version: 1,
        spec: json!({ "train": { "lr": 1.5e-3, "steps": 8 }, "model": { "glm": { "hidden": 16 } } }),
        inputs: BTreeMap::from([("tokens".into(), "00ff".into())]),
        seed: Some(7),
    };
    let store = Store::open(space.path()).expect("a store");
    let Ok(Claim::Miss(slot)) = store.claim(manifest, false, &|| {}) else { panic!("an empty store") };
    std::fs::write(slot.dir().join("file"), "content").expect("a file");
    let metrics = Metrics::from_iter([("loss".into(), json!(0.25))]);
    let key = slot.commit(metrics, Provenance { recipe: TINY.into(), ..Provenance::default() }).expect("a commit").key;
    let record = std::fs::read(space.path().join("artifacts").join(&key).join("artifact.json")).expect("a record");
    (space, key, record)
}

/// Puts the right checksum into a record, so that what's behind it is read.
fn sealed(record: &[u8]) -> Vec<u8> {
    const BEGIN: usize = "{\n  \"checksum\": \"".len();
    if record.len() < BEGIN + 64 {
        return record.to_vec();
    }
    let (begin, rest) = (&record[..BEGIN], &record[BEGIN + 64..]);
    [begin, blake3::hash(rest).to_hex().as_bytes(), rest].concat()
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn recipe_of_any_bytes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_recipe(&bytes);
        assert_little_memory();
    }

    #[test]
    fn recipe_of_yaml_pieces_is_read_or_refused(pieces in proptest::collection::vec(0..YAML.len(), 0..40)) {
        read_recipe(pieces.iter().map(|piece| YAML[*piece]).collect::<String>().as_bytes());
        assert_little_memory();
    }

    #[test]
    fn damaged_recipe_is_read_or_refused(seed in any::<u64>()) {
        read_recipe(&mutated(TINY.as_bytes(), &YAML, &mut Random(seed)));
        assert_little_memory();
    }
}

/// What is special in JSON and in records.
const JSON: [&str; 13] =
    ["{", "}", "[", "]", ",", "\"", ":", "null", "1e999", "-1", "18446744073709551616", "\\u0000", "[[[[[[[["];

/// One artifact whose record is damaged again and again.
static STORED: LazyLock<Mutex<(Space, String, Vec<u8>)>> = LazyLock::new(|| Mutex::new(stored()));

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn damaged_record_is_read_or_refused(seed in any::<u64>(), seals in any::<bool>()) {
        let (space, key, record) = &*STORED.lock().unwrap_or_else(PoisonError::into_inner);
        let path = space.path().join("artifacts").join(key).join("artifact.json");
        let text = mutated(record, &JSON, &mut Random(seed));
        std::fs::write(&path, if seals { sealed(&text) } else { text }).expect("a record");
        let store = Store::open(space.path()).expect("a store");
        if let Ok(Some(artifact)) = store.find(key) {
            // A record with a right checksum may say other things of how it was made, but not of what it is.
            prop_assert_eq!((&artifact.manifest.key(), artifact.files.len()), (key, 1));
        }
        let verified = store.verify(std::slice::from_ref(key), &|_, _| {}).is_ok();
        prop_assert!(verified && store.list().is_ok());
        std::fs::write(&path, record).expect("a record");
        prop_assert!(Store::open(space.path()).expect("a store").find(key).expect("sound").is_some());
        assert_little_memory();
    }
}

#[test]
fn record_larger_than_any_can_be_is_refused_unread() {
    let (space, key, _) = stored();
    let path = space.path().join("artifacts").join(&key).join("artifact.json");
    std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(1 << 40)).expect("a hole");
    let error = Store::open(space.path()).expect("a store").find(&key).expect_err("too large");
    assert!(format!("{error:#}").contains("exceeds the maximum size of a record"), "{error:#}");
    assert_little_memory();
}
