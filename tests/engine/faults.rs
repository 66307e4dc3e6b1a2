//! What goes wrong with disks and files: each has a message, nothing that was finished is lost, and nothing damaged is
//! served.

use crate::common;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{
    Random, Space, need,
    needs::{Need, Needed},
    tiny,
};
use pipe::{
    engine::store::{Artifact, Claim, DigestCache, Manifest, Metrics, Provenance, Slot, Store},
    support::clock::ManualClock,
};
use serde_json::{Value, json};

/// A small file system of its own, until it's dropped.
pub(super) struct Mount(PathBuf);

impl Mount {
    pub(super) fn new(space: &Space, name: &str, size: &str) -> Needed<Self> {
        let path = space.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        let mount = Self::mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path);
        mount.then_some(Self(path)).ok_or_else(|| Need::Mount.unmet("a file system can't be mounted here"))
    }

    fn mount(options: &[&str], path: &Path) -> bool {
        Command::new("mount").args(options).arg(path).output().is_ok_and(|output| output.status.success())
    }

    fn read_only(&self) {
        assert!(Self::mount(&["-o", "remount,ro"], &self.0), "it was mounted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn manifest(size: u64) -> Manifest {
    Manifest {
        format: Manifest::FORMAT,
        kind: "tokenize".into(),
        version: 1,
        spec: json!({ "size": size }),
        inputs: BTreeMap::from([("corpus.0.path".into(), "txt:00ff".into())]),
        seed: None,
    }
}

fn miss(store: &Store, manifest: Manifest) -> Slot {
    match store.claim(manifest, false, &|| {}).expect("a claim") {
        Claim::Miss(slot) => *slot,
        Claim::Hit(artifact) => panic!("{} was served", artifact.key),
    }
}

fn make(store: &Store, size: u64, files: &[(&str, Vec<u8>)]) -> Artifact {
    let slot = miss(store, manifest(size));
    for (name, bytes) in files {
        let path = slot.dir().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
    let metrics = Metrics::from_iter([("loss".into(), json!(0.123_456_789)), ("steps".into(), json!(size))]);
    let provenance = Provenance { stage: "tokens".into(), recipe: "seed: 1 # 一\n".into(), ..Provenance::default() };
    slot.commit(metrics, provenance).expect("a commit")
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, |entries| entries.count())
}

#[test]
fn full_disk_fails_the_stage_with_the_way_out_and_loses_nothing() {
    let space = tiny();
    let mount = need!(Mount::new(&space, "disk", "1m"));
    let run = ["run", "recipe.yaml", "--stage", "base", "--store", "disk/store"];
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens", "--store", "disk/store"]).status, 0);
    // All but some kilobytes are taken.
    let ballast = mount.0.join("ballast");
    let mut bytes = 1 << 20;
    while bytes > 4096 && std::fs::write(&ballast, vec![1_u8; bytes]).is_err() {
        bytes -= 4096;
    }
    let output = space.pipe(&run);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains("the disk of the store at disk/store is full"), "{}", output.stderr);
    assert!(output.stderr.contains("pipe gc"), "{}", output.stderr);
    let store = mount.0.join("store");
    assert_eq!(["artifacts", "tmp", "leases"].map(|dir| entries(&store.join(dir))), [1, 0, 0]);
    std::fs::remove_file(&ballast).expect("room");
    assert_eq!(space.statuses(&run[1..]), "base=ran tokens=hit");
    assert_eq!(space.pipe(&["verify", "--store", "disk/store"]).status, 0);
}

#[test]
fn read_only_store_serves_what_it_has_and_says_why_it_takes_nothing_new() {
    let space = tiny();
    let mount = need!(Mount::new(&space, "disk", "8m"));
    let tokens = ["run", "recipe.yaml", "--stage", "tokens", "--store", "disk/store"];
    assert_eq!(space.pipe(&tokens).status, 0);
    mount.read_only();
    let output = space.pipe(&tokens);
    assert_eq!((output.status, output.stderr.contains("nothing to do")), (0, true), "{}", output.stderr);
    for command in [&["ls", "--store", "disk/store"] as &[&str], &["verify", "--store", "disk/store"]] {
        assert_eq!(space.pipe(command).status, 0);
    }
    let output = space.pipe(&["run", "recipe.yaml", "--stage", "base", "--store", "disk/store"]);
    assert_eq!(output.status, 1);
    let expected = "the store at disk/store is not writable: stored results can be used";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    assert!(output.stderr.contains("--store"), "{}", output.stderr);
}

#[cfg(unix)]
#[test]
fn store_without_the_permission_to_write_serves_what_it_has() {
    use std::os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    };

    const NOBODY: u32 = 65_534;
    let space = tiny();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    // Root may write anywhere, so somebody else runs it then.
    let is_root = std::fs::metadata(space.path()).expect("a folder").uid() == 0;
    let program = space.path().join("pipe");
    std::fs::copy(env!("CARGO_BIN_EXE_pipe"), &program).expect("a copy");
    mode(space.path(), 0o755);
    let store = space.path().join(".pipe");
    for entry in walkdir::WalkDir::new(&store).contents_first(true).into_iter().flatten() {
        mode(entry.path(), if entry.file_type().is_dir() { 0o555 } else { 0o444 });
    }
    let run = |stage: &str| {
        let mut command = Command::new(&program);
        command.args(["run", "recipe.yaml", "--stage", stage]).current_dir(space.path()).env("NO_COLOR", "1");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        common::finish(command)
    };
    let output = run("tokens");
    assert_eq!((output.status, output.stderr.contains("nothing to do")), (0, true), "{}", output.stderr);
    let output = run("base");
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("the store at .pipe is not writable"), "{}", output.stderr);
    assert!(output.stderr.contains("ermission denied"), "{}", output.stderr);
    for entry in walkdir::WalkDir::new(&store).into_iter().flatten() {
        mode(entry.path(), 0o755);
    }
}

/// Overwrites a file in place and gives it back its time of modification, as a failing disk would.
fn damage(path: &Path, bytes: &[u8]) {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time");
    std::fs::write(path, bytes).expect("a write");
    std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(modified)).expect("a time");
}

#[test]
fn a_thousand_random_flips_are_all_found_and_none_is_served() {
    let space = Space::new();
    let mut random = Random(7);
    {
        let store = Store::open(space.path()).expect("a store");
        for size in 0..24 {
            let files = [("a.json", random.bytes(60)), ("b/c.bin", random.bytes(900)), ("d", vec![0])];
            make(&store, size, &files);
        }
    }
    common::await_tick(space.path());
    // Late enough for the files to count as unchanged, and to be remembered as sound.
    let clock = Arc::new(ManualClock::new());
    clock.advance(Duration::from_secs(3));
    let store = Store::open(space.path()).expect("a store").with_clock(clock);
    let keys = store.keys().expect("keys");
    let verified = store.verify(&keys, &|_, _| {}).expect("a look");
    drop(store);
    assert_eq!((verified.artifacts, verified.files, verified.damage.len()), (24, 72, 0));

    for flip in 0..1_000 {
        let key = &keys[random.below(keys.len())];
        let name = ["artifact.json", "a.json", "b/c.bin", "d"][random.below(4)];
        let path = space.path().join("artifacts").join(key).join(name);
        let whole = std::fs::read(&path).expect("bytes");
        let mut bytes = whole.clone();
        let place = random.below(bytes.len());
        bytes[place] ^= 1 + random.below(255) as u8;
        damage(&path, &bytes);

        // A new process, which has what the last one remembered.
        let store = Store::open(space.path()).expect("a store");
        let what = format!("flip {flip}: byte {place} of {name}");
        assert!(store.find(key).is_err(), "{what} was served");
        let damage = store.verify(std::slice::from_ref(key), &|_, _| {}).expect("a look").damage;
        assert_eq!(damage.iter().map(|damage| &damage.file).collect::<Vec<_>>(), [&path], "{what}");
        self::damage(&path, &whole);
        assert!(store.find(key).is_ok_and(|found| found.is_some()), "{what}");
    }
}

#[test]
fn damaged_artifact_is_named_by_verify_and_computed_again_by_run() {
    let space = tiny();
    let before = space.json(&["run", "recipe.yaml", "--stage", "base"]);
    let stage = &before["stages"]["base"];
    let (key, path) = (stage["key"].as_str().expect("a key"), stage["path"].as_str().expect("a path"));
    assert_eq!(space.json(&["verify"])["damaged"], json!([]));
    let weights = space.path().join(path).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    damage(&weights, &bytes);

    let output = space.pipe(&["verify", "--json"]);
    assert_eq!(output.status, 1);
    let found: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!((&found["damaged"][0]["key"], &found["damaged"][0]["stage"]), (&key.into(), &"base".into()));
    assert!(found["damaged"][0]["file"].as_str().is_some_and(|file| file.ends_with("model.safetensors")), "{found}");
    let output = space.pipe(&["verify", &key[..10]]);
    assert!(output.stdout.contains("its content does not match its digest"), "{}", output.stdout);
    assert_eq!(space.json(&["plan", "recipe.yaml", "--stage", "base"])["stages"]["base"]["status"], "miss");

    let after = space.json(&["run", "recipe.yaml", "--stage", "base"]);
    assert_eq!(
        (&after["stages"]["tokens"]["status"], &after["stages"]["base"]["status"]),
        (&"hit".into(), &"ran".into())
    );
    assert_eq!(after["stages"]["base"]["digest"], stage["digest"]);
    assert_eq!(space.pipe(&["verify"]).status, 0);
}

#[test]
fn missing_and_shortened_files_are_found() {
    let space = Space::new();
    let store = Store::open(space.path()).expect("a store");
    let keys: Vec<_> = (0..3).map(|size| make(&store, size, &[("file", vec![7; 500])]).key).collect();
    let file = |index: usize, name: &str| space.path().join("artifacts").join(&keys[index]).join(name);
    std::fs::remove_file(file(0, "file")).expect("a removal");
    std::fs::write(file(1, "file"), [7; 499]).expect("a write");
    std::fs::remove_file(file(2, "artifact.json")).expect("a removal");
    let mut problems: Vec<_> =
        store.verify(&keys, &|_, _| {}).expect("a look").damage.into_iter().map(|damage| damage.problem).collect();
    problems.sort_by_key(|problem| problem.len());
    assert_eq!(problems[0], "it is missing");
    assert!(problems.iter().any(|problem| problem.contains("499 bytes instead of 500")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.ends_with("artifact.json is missing")), "{problems:?}");
    assert!(keys.iter().all(|key| store.find(key).is_err()));
}

#[test]
fn times_that_jump_change_no_answer() {
    let space = Space::new();
    let store = Store::open(space.path()).expect("a store");
    let key = make(&store, 1, &[("file", b"content".to_vec())]).key;
    let input = space.path().join("input");
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(1 << 32)] {
        for path in [space.path().join("artifacts").join(&key).join("file"), space.path().join("format")] {
            std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
        }
        assert!(matches!(store.claim(manifest(1), false, &|| {}).expect("a claim"), Claim::Hit(_)));
        // A digest is never remembered from a future that comes.
        let mut digests = DigestCache::open(space.path());
        let mut digest = |text: &str| {
            std::fs::write(&input, text).expect("a file");
            std::fs::File::options().write(true).open(&input).and_then(|file| file.set_modified(time)).expect("a time");
            digests.digest(&input).expect("a digest")
        };
        assert_ne!(digest("one"), digest("two"));
    }
}

#[test]
fn result_of_another_version_of_the_code_is_not_served() {
    let space = Space::new();
    let store = Store::open(space.path()).expect("a store");
    make(&store, 1, &[("file", b"old".to_vec())]);
    drop(miss(&store, Manifest { version: 2, ..manifest(1) }));
    assert!(matches!(store.claim(manifest(1), false, &|| {}).expect("a claim"), Claim::Hit(_)));
}

#[cfg(unix)]
#[test]
fn files_of_a_store_can_be_read_by_whom_the_mask_lets() {
    use std::os::unix::fs::PermissionsExt;

    let space = Space::new();
    let store = Store::open(space.path()).expect("a store");
    // What any program writes.
    space.write("plain", "");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let plain = mode(&space.path().join("plain"));
    let slot = miss(&store, manifest(1));
    let lease = space.path().join("leases").join(slot.key());
    store.pin("kept", slot.key()).expect("a pin");
    for path in [&lease, &space.path().join("format"), &space.path().join("pins/kept")] {
        assert_eq!(mode(path), plain, "{}", path.display());
    }
}

/// Makes a store look as format 1 left it.
fn age(space: &Space, key: &str) {
    let record = space.read(&format!("artifacts/{key}/artifact.json"));
    let mut lines: Vec<_> = record.lines().collect();
    assert!(lines[1].contains("checksum"), "{record}");
    lines.remove(1);
    space.write(&format!("artifacts/{key}/artifact.json"), lines.join("\n"));
    std::fs::remove_dir_all(space.path().join("leases")).expect("a removal");
    space.write("format", "1\n").write("locks/left", "").write(&format!("tmp/{key}/half"), "half");
}

#[test]
fn store_of_the_first_format_is_read_and_then_brought_up_to_date() {
    let space = Space::new();
    let key = make(&Store::open(space.path()).expect("a store"), 1, &[("file", b"old".to_vec())]).key;
    age(&space, &key);
    let store = Store::open(space.path()).expect("an old store");
    assert!(matches!(store.claim(manifest(1), false, &|| {}).expect("a claim"), Claim::Hit(_)));
    assert_eq!(space.read("format"), "1\n");
    assert!(store.verify(std::slice::from_ref(&key), &|_, _| {}).expect("a look").damage.is_empty());
    make(&store, 2, &[("file", b"new".to_vec())]);
    assert_eq!(space.read("format"), "2\n");
    assert!(!space.path().join("locks").exists());
    assert!(matches!(store.claim(manifest(1), false, &|| {}).expect("a claim"), Claim::Hit(_)));
    // Without a checksum, what the parts of a record say of each other still has to agree.
    let record = space.read(&format!("artifacts/{key}/artifact.json"));
    space.write(&format!("artifacts/{key}/artifact.json"), record.replace("\"size\": 1", "\"size\": 3"));
    assert!(store.find(&key).is_err());
}

#[test]
fn old_store_in_use_by_an_old_program_is_not_changed() {
    let space = Space::new();
    let key = make(&Store::open(space.path()).expect("a store"), 1, &[("file", b"old".to_vec())]).key;
    age(&space, &key);
    let lock = std::fs::File::options().write(true).open(space.path().join("locks/left")).expect("a file");
    lock.lock().expect("a lock");
    let store = Store::open(space.path()).expect("an old store");
    let error = store.claim(manifest(2), false, &|| {}).map(drop).expect_err("the old program is at work");
    assert!(format!("{error:#}").contains("an older version of pipe is at work in this store"), "{error:#}");
    assert_eq!(space.read("format"), "1\n");
}

#[test]
fn newer_store_is_refused_with_the_way_out() {
    let space = tiny();
    space.write(".pipe/format", "3\n");
    for command in [&["run", "recipe.yaml"] as &[&str], &["ls"], &["verify"], &["gc"]] {
        let output = space.pipe(command);
        assert_eq!(output.status, 2);
        let expected = "has format 3, and this version of pipe reads formats 1 and 2: name another one with --store";
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}
