//! What a power cut leaves: files that are empty or cut short, and files half written. The store is used as before, or it's
//! told what to do, which never is to throw anything away.

use crate::common;
use std::path::Path;

use common::{Space, TINY, tiny};
use pipe::engine::store::{Claim, Manifest, Metrics, Provenance, Store};
use serde_json::json;

/// A space whose store has the tokenize stage, and its key.
fn stored() -> (Space, String) {
    let space = tiny();
    space.write("recipe.yaml", TINY.split("  base:").next().expect("a first part"));
    let run = space.json(&["run", "recipe.yaml"]);
    let key = run["stages"]["tokens"]["key"].as_str().expect("a key").to_owned();
    (space, key)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn store_whose_format_was_cut_is_used_as_before() {
    for left in ["", "\0\0", "\n", "2"] {
        let (space, _) = stored();
        space.write(".pipe/format", left);
        assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit", "{left:?}");
        for command in [&["ls"] as &[&str], &["verify"], &["gc"], &["plan", "recipe.yaml"]] {
            assert_eq!(space.pipe(command).status, 0, "{left:?} {command:?}");
        }
        let smaller = ["recipe.yaml", "--set", "stages.tokens.tokenizer.wordpiece.vocab_size=40"];
        assert_eq!(space.statuses(&smaller), "tokens=ran", "{left:?}");
        assert_eq!(space.read(".pipe/format").trim(), "2", "{left:?}");
    }
}

#[test]
fn format_that_is_none_is_told_with_harmless_advice() {
    let (space, _) = stored();
    space.write(".pipe/format", "garbage");
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("holds no format: \"garbage\"") && output.stderr.contains("empty that file"));
    assert!(!output.stderr.contains("remove"), "{}", output.stderr);
    space.write(".pipe/format", "");
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
}

#[test]
fn pin_that_was_cut_is_named_and_can_be_made_again_or_given_up() {
    for again in [true, false] {
        let (space, key) = stored();
        assert_eq!(space.pipe(&["pin", &key, "--name", "best"]).status, 0);
        space.write(".pipe/pins/best", "");
        // Whatever it was to keep isn't removed.
        for command in [&["gc", "--grace", "0", "--delete"] as &[&str], &["pin"], &["rm", &key]] {
            let output = space.pipe(command);
            assert_eq!(output.status, 2, "{command:?}: {}", output.stderr);
            assert!(output.stderr.contains("the pin `best` is damaged"), "{}", output.stderr);
            assert!(output.stderr.contains("pipe unpin best"), "{}", output.stderr);
        }
        assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
        let mend: &[&str] = if again { &["pin", &key, "--name", "best"] } else { &["unpin", "best"] };
        assert_eq!(space.pipe(mend).status, 0);
        assert_eq!(space.json(&["pin"]).as_array().map(Vec::len), Some(usize::from(again)));
    }
}

#[test]
fn lease_that_was_cut_is_free_at_once_and_leftovers_go() {
    let (space, key) = stored();
    std::fs::remove_dir_all(space.path().join(".pipe/artifacts").join(&key)).expect("a removal");
    space.write(&format!(".pipe/leases/{key}"), "").write(".pipe/leases/.new-ab12Cd", "0000");
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=ran");
    assert_eq!(names(&space.path().join(".pipe/leases")), Vec::<String>::new());
}

#[test]
fn leftovers_of_processes_that_have_ended_are_cleared_by_the_next_open() {
    let (space, _) = stored();
    space.write(".pipe/leases/.new-ab12Cd", "0000");
    assert_eq!(space.pipe(&["ls"]).status, 0);
    assert_eq!(names(&space.path().join(".pipe/leases")), Vec::<String>::new());
}

fn manifest(size: u64) -> Manifest {
    let (format, kind) = (Manifest::FORMAT, "tokenize".to_owned());
    Manifest { format, kind, version: 1, spec: json!({ "size": size }), inputs: Default::default(), seed: None }
}

#[test]
fn state_and_record_that_were_cut_are_made_again() {
    let space = Space::new();
    let store = Store::open(space.path()).expect("a store");
    let claim = || match store.claim(manifest(1), false, &|| {}).expect("a claim") {
        Claim::Miss(slot) => slot,
        Claim::Hit(artifact) => panic!("{} was served", artifact.key),
    };
    let slot = claim();
    slot.state().keep(Vec::new(), &7).expect("a state");
    let key = slot.key().to_owned();
    drop(slot);
    let state = store.state(&key).expect("a state");
    std::fs::write(state.dir().join("state.json"), "").expect("a write");
    let slot = claim();
    assert!(slot.state().read::<u32>().is_err());
    slot.state().clear().expect("a removal");
    slot.commit(Metrics::new(), Provenance::default()).expect("a commit");
    space.write(&format!("artifacts/{key}/artifact.json"), "");
    assert!(claim().damage().is_some());
}

#[test]
fn artifact_that_was_set_aside_by_a_process_that_was_killed_then_comes_back() {
    let (space, key) = stored();
    let from = space.path().join(".pipe/artifacts").join(&key);
    let to = space.path().join(".pipe/tmp").join(format!("{key}.0123456789abcdef.old"));
    std::fs::rename(from, to).expect("a rename");
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
    assert_eq!(names(&space.path().join(".pipe/tmp")), Vec::<String>::new());
}
