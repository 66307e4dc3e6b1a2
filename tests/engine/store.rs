//! The store: what is visible when, what makes a key, and what happens to damaged artifacts.

use crate::common;
use std::{cell::Cell, collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use common::{Space, hurry::Hurry};
use pipe::{
    engine::store::{Artifact, Claim, DigestCache, Lost, Manifest, Metrics, Provenance, Slot, Store},
    support::clock::ManualClock,
};
use serde_json::json;

fn manifest(size: u64) -> Manifest {
    Manifest {
        format: Manifest::FORMAT,
        kind: "tokenize".into(),
        version: 1,
        spec: json!({ "tokenizer": { "bpe": { "vocab_size": size } } }),
        inputs: BTreeMap::from([("corpus.0.path".into(), "txt:00ff".into())]),
        seed: None,
    }
}

fn miss(store: &Store, manifest: Manifest, force: bool) -> Slot {
    match store.claim(manifest, force, &|| panic!("nobody else has it")).unwrap() {
        Claim::Miss(slot) => *slot,
        Claim::Hit(artifact) => panic!("{} is there", artifact.key),
    }
}

fn fill(slot: Slot, content: &str) -> Artifact {
    std::fs::create_dir(slot.dir().join("part")).unwrap();
    std::fs::write(slot.dir().join("part/file"), content).unwrap();
    slot.commit(Metrics::new(), Provenance { host: content.into(), ..Provenance::default() }).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn key_of_a_manifest_never_changes() {
    // Whoever changes this throws away everything that users have stored.
    assert_eq!(manifest(1000).key(), "3eb36bb95bed6e715b59e4f64f163f73b982da3da68fe6c80fa6291e3b60ffa2");
    let other = Manifest { seed: Some(7), ..manifest(1000) };
    assert_eq!(other.key(), "b60a38144f37a59e81b857d076d5fd6530af2dd1a05a32d0b15312dd44b1c874");
}

#[test]
fn provenance_is_read_as_older_versions_wrote_it() {
    let old = json!({
        "pipe": "0.1.0", "stage": "base", "spec": {}, "recipe": "", "overrides": [], "device": "cpu", "host": "here",
        "started": 1.0, "seconds": 2.0, "pace": [{ "step": 2, "at": 3.0, "tokens": 100, "seconds": 2.0 }],
    });
    let read: Provenance = serde_json::from_value(old.clone()).unwrap();
    assert_eq!((read.arithmetic.as_str(), read.throughput.windows()[0].tokens_per_second()), ("", 50.0));
    assert_eq!(serde_json::to_value(read).unwrap(), old);
}

#[test]
fn every_part_of_a_manifest_is_in_its_key() {
    let others = [
        Manifest { format: 2, ..manifest(1000) },
        Manifest { kind: "pretrain".into(), ..manifest(1000) },
        Manifest { version: 2, ..manifest(1000) },
        manifest(1001),
        Manifest { inputs: BTreeMap::new(), ..manifest(1000) },
        Manifest { seed: Some(0), ..manifest(1000) },
    ];
    let keys: std::collections::BTreeSet<_> = others.iter().map(Manifest::key).chain([manifest(1000).key()]).collect();
    assert_eq!(keys.len(), others.len() + 1);
}

#[test]
fn dropped_slot_leaves_nothing() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let slot = miss(&store, manifest(1), false);
    std::fs::write(slot.dir().join("file"), "half").unwrap();
    drop(slot);
    assert!(names(&space.path().join("tmp")).is_empty() && names(&space.path().join("artifacts")).is_empty());
    drop(miss(&store, manifest(1), false));
}

#[test]
fn nothing_is_visible_before_the_commit_and_all_after_it() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let slot = miss(&store, manifest(1), false);
    std::fs::write(slot.dir().join("file"), "half").unwrap();
    assert!(store.find(slot.key()).unwrap().is_none() && store.list().unwrap().is_empty());
    std::fs::remove_file(slot.dir().join("file")).unwrap();
    let made = fill(slot, "whole");
    let found = store.find(&made.key).unwrap().unwrap();
    assert_eq!((&found.digest, &found.files), (&made.digest, &made.files));
    assert_eq!(found.files[0].path, "part/file");
    assert_eq!(std::fs::read_to_string(found.file("part/file")).unwrap(), "whole");
    assert_eq!((store.list().unwrap().len(), names(&space.path().join("tmp"))), (1, Vec::new()));
    assert!(matches!(store.claim(manifest(1), false, &|| {}).unwrap(), Claim::Hit(_)));
}

#[test]
fn digest_tells_of_the_output_and_nothing_else() {
    let digest = |size: u64, content: &str| {
        let space = Space::new();
        fill(miss(&Store::open(space.path()).unwrap(), manifest(size), false), content).digest
    };
    assert_eq!(digest(1, "same"), digest(2, "same"));
    assert_ne!(digest(1, "same"), digest(1, "other"));
}

#[test]
fn forced_claim_replaces_what_is_there() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let key = fill(miss(&store, manifest(1), false), "first").key;
    // As a run leaves it that was killed while it replaced an artifact.
    std::fs::create_dir(space.path().join(format!("tmp/{key}.old"))).unwrap();
    space.write(&format!("tmp/{key}.old/file"), "older").write(&format!("tmp/{key}/file"), "half");
    let slot = miss(&store, manifest(1), true);
    assert_eq!(store.find(&key).unwrap().unwrap().provenance.host, "first");
    fill(slot, "second");
    assert_eq!(store.find(&key).unwrap().unwrap().provenance.host, "second");
    assert!(names(&space.path().join("tmp")).is_empty());
}

#[test]
fn damaged_artifact_is_a_miss_that_says_so() {
    type Damage<'a> = &'a dyn Fn(&Artifact);
    let damages: [(&str, Damage<'_>); 4] = [
        ("failed to read the record", &|artifact| {
            std::fs::write(artifact.file("artifact.json"), r#"{"key": "ab"#).unwrap();
        }),
        ("part/file is missing", &|artifact| std::fs::remove_file(artifact.file("part/file")).unwrap()),
        ("part/file is damaged: 3 bytes instead of 5", &|artifact| {
            std::fs::write(artifact.file("part/file"), "who").unwrap();
        }),
        ("its checksum does not match", &|artifact| {
            let record = std::fs::read_to_string(artifact.file("artifact.json")).unwrap();
            std::fs::write(artifact.file("artifact.json"), record.replace(&artifact.key, "ab")).unwrap();
        }),
    ];
    for (message, damage) in damages {
        let space = Space::new();
        let store = Store::open(space.path()).unwrap();
        let artifact = fill(miss(&store, manifest(1), false), "whole");
        damage(&artifact);
        assert!(store.list().unwrap().is_empty());
        let slot = miss(&store, manifest(1), false);
        let found = format!("{:#}", slot.damage().unwrap());
        assert!(found.contains(message), "{found}");
        fill(slot, "again");
        assert_eq!(store.find(&artifact.key).unwrap().unwrap().provenance.host, "again");
    }
}

#[test]
fn store_of_another_format_is_refused() {
    let space = Space::new();
    space.write("format", "99\n");
    let error = Store::open(space.path()).unwrap_err().to_string();
    assert!(error.contains("has format 99, and this version of pipe reads formats 1 and 2"), "{error}");
    assert!(error.contains("--store"), "{error}");
}

#[test]
fn whoever_wants_the_same_key_waits_and_gets_it() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let slot = miss(&store, manifest(1), false);
    let (waits, waiting) = std::sync::mpsc::channel();
    let other = std::thread::spawn({
        let store = store.clone();
        move || {
            let told = Cell::new(0);
            let claim = store.claim(manifest(1), false, &|| {
                told.set(told.get() + 1);
                waits.send(()).unwrap();
            });
            match claim.unwrap() {
                Claim::Hit(artifact) => (told.get(), artifact.provenance.host),
                Claim::Miss(_) => panic!("it was committed"),
            }
        }
    });
    waiting.recv().unwrap();
    fill(slot, "first");
    assert_eq!(other.join().unwrap(), (1, "first".to_owned()));
}

#[test]
fn remembered_digests_do_not_tell_paths() {
    let space = Space::new();
    space.write("secret-place/data", "text");
    let path = space.path().join("secret-place/data");
    let clock = Arc::new(ManualClock::new());
    clock.advance(Duration::from_secs(3));
    let mut digests = DigestCache::open(space.path()).with_clock(clock);
    let digest = digests.digest(&path).unwrap();
    digests.save();
    let kept = space.read("digests.json");
    assert!(kept.contains(&digest) && !kept.contains("secret-place"), "{kept}");
    assert_eq!(DigestCache::open(space.path()).digest(&path).unwrap(), digest);
    space.write("digests.json", "not json");
    assert_eq!(DigestCache::open(space.path()).digest(&path).unwrap(), digest);
}

#[test]
fn state_outlives_a_failure_and_goes_to_the_next_claim() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let slot = miss(&store, manifest(1), false);
    let first = slot.state().dir().to_owned();
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("step"), "7").unwrap();
    // As a trainer leaves it that was killed between two renames.
    let aside = first.with_file_name(format!("{}.old", first.file_name().unwrap().to_string_lossy()));
    std::fs::create_dir(&aside).unwrap();
    drop(slot);
    let slot = miss(&store, manifest(1), false);
    assert_ne!(slot.state().dir(), first);
    assert_eq!(std::fs::read_to_string(slot.state().dir().join("step")).unwrap(), "7");
    assert_eq!(names(&space.path().join("tmp")).len(), 3);
    // Another key's state is left alone.
    drop(miss(&store, manifest(2), false));
    fill(slot, "done");
    assert_eq!(names(&space.path().join("tmp")), Vec::<String>::new());
    // A forced claim begins anew.
    let slot = miss(&store, manifest(1), true);
    std::fs::create_dir(slot.state().dir()).unwrap();
    drop(slot);
    assert!(!miss(&store, manifest(1), true).state().dir().exists());
}

#[test]
fn slot_whose_lease_was_taken_over_is_not_committed() {
    let space = Space::new();
    let store = Store::open(space.path()).unwrap();
    let slot = miss(&store, manifest(1), false);
    assert!(!slot.is_lost());
    let lease = format!("leases/{}", slot.key());
    space.write(&lease, format!("{:020}\n{{\"token\":\"theirs\"}}\n", 1));
    assert!(slot.is_lost());
    std::fs::write(slot.dir().join("file"), "late").unwrap();
    let key = slot.key().to_owned();
    let error = slot.commit(Metrics::new(), Provenance::default()).unwrap_err();
    assert!(error.is::<Lost>(), "{error:#}");
    assert!(store.find(&key).unwrap().is_none());
    assert!(space.read(&lease).contains("theirs"));
    assert!(names(&space.path().join("tmp")).is_empty());
}

#[test]
fn what_a_holder_left_that_died_behind_its_commit_goes_when_its_lease_is_taken_over() {
    let space = Space::new();
    let hurry = Hurry::new();
    let store = Store::open(space.path()).unwrap().with_clock(hurry.clock.clone());
    fill(miss(&store, manifest(1), false), "done");
    let key = manifest(1).key();
    let (place, away) = (space.path().join("artifacts").join(&key), space.path().join("away"));
    std::fs::rename(&place, &away).unwrap();
    let token = "0123456789abcdef";
    let holder = format!("{{\"token\":\"{token}\",\"host\":\"elsewhere\",\"pid\":1}}");
    space.write(&format!("leases/{key}"), format!("{:020}\n{holder}\n", 3));
    space.write(&format!("tmp/{key}.{token}.state/step"), "5");
    // Made while somebody waits for it, by one that gets no further.
    let claim = store.claim(manifest(1), false, &|| std::fs::rename(&away, &place).unwrap()).unwrap();
    assert!(matches!(claim, Claim::Hit(_)));
    assert_eq!(["tmp", "leases"].map(|dir| names(&space.path().join(dir)).len()), [0, 0]);
}

#[test]
fn lease_that_shows_no_life_is_taken_over_with_its_state() {
    let space = Space::new();
    let hurry = Hurry::new();
    let store = Store::open(space.path()).unwrap().with_clock(hurry.clock.clone());
    let key = manifest(1).key();
    drop(miss(&store, manifest(1), false));
    let token = "0123456789abcdef";
    let holder = format!("{{\"token\":\"{token}\",\"host\":\"elsewhere\",\"pid\":1}}");
    space.write(&format!("leases/{key}"), format!("{:020}\n{holder}\n", 3));
    space.write(&format!("tmp/{key}.{token}/file"), "half").write(&format!("tmp/{key}.{token}.state/step"), "5");
    let told = Cell::new(0);
    let Claim::Miss(slot) = store.claim(manifest(1), false, &|| told.set(told.get() + 1)).unwrap() else { panic!() };
    assert_eq!(told.get(), 1);
    assert_eq!(std::fs::read_to_string(slot.state().dir().join("step")).unwrap(), "5");
    assert!(!space.path().join(format!("tmp/{key}.{token}")).exists());
    fill(*slot, "done");
}
