//! What is kept in a store and what can go: `gc`, `pin`, `unpin`, `rm` and `ls`.

use crate::common;
use std::time::{Duration, SystemTime};

use common::{Space, TINY, tiny};
use serde_json::{Value, json};

const SMALLER: [&str; 2] = ["--set", "stages.tokens.tokenizer.wordpiece.vocab_size=40"];

/// A space with two runs of a tokenize stage; gives their keys.
fn two_runs() -> (Space, [String; 2]) {
    let space = tiny();
    space.write("recipe.yaml", TINY.split("  base:").next().expect("a first part"));
    let key = |more: &[&str]| {
        let run = space.json(&[&["run", "recipe.yaml"], more].concat());
        run["stages"]["tokens"]["key"].as_str().expect("a key").to_owned()
    };
    let keys = [key(&[]), key(&SMALLER)];
    (space, keys)
}

fn keys(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["key"].as_str().expect("a key")).collect()
}

fn is_there(space: &Space, key: &str) -> bool {
    space.path().join(".pipe/artifacts").join(key).is_dir()
}

#[test]
fn gc_shows_what_goes_and_removes_it_only_when_told() {
    let (space, [kept, gone]) = two_runs();
    let gc = ["gc", "recipe.yaml", "--grace", "0"];
    let shown = space.json(&gc);
    assert_eq!((keys(&shown["remove"]), keys(&shown["keep"])), (vec![&*gone], vec![&*kept]));
    assert_eq!((&shown["deleted"], &shown["keep"][0]["kept"]), (&json!(false), &json!("`tokens` of recipe.yaml")));
    let freed = shown["freed_bytes"].as_u64().expect("a number");
    assert_eq!(shown["remove"][0]["bytes"], freed);
    let output = space.pipe(&gc);
    assert!(output.stdout.contains("unreferenced"), "{}", output.stdout);
    assert!(
        output.stderr.contains("would remove 1 artifact") && output.stderr.contains("--delete"),
        "{}",
        output.stderr
    );
    assert!(is_there(&space, &gone));

    let done = space.json(&[&gc[..], &["--delete"]].concat());
    assert_eq!(
        (keys(&done["remove"]), &done["deleted"], &done["freed_bytes"]),
        (vec![&*gone], &json!(true), &json!(freed))
    );
    assert!(!is_there(&space, &gone) && is_there(&space, &kept));
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
    assert_eq!(std::fs::read_dir(space.path().join(".pipe/tmp")).expect("a folder").count(), 0);
}

#[test]
fn gc_keeps_what_the_cells_of_a_sweep_reach() {
    let (space, [kept, gone]) = two_runs();
    let sweep = "sweep: { grid: { stages.tokens.tokenizer.wordpiece.vocab_size: [50, 60] } }\n";
    space.write("recipe.yaml", format!("{}{sweep}", space.read("recipe.yaml")));
    assert_eq!(space.pipe(&["sweep", "recipe.yaml"]).status, 0);
    let shown = space.json(&["gc", "recipe.yaml", "--grace", "0"]);
    assert_eq!((keys(&shown["remove"]), keys(&shown["keep"]).len()), (vec![&*gone], 3));
    assert!(keys(&shown["keep"]).contains(&&*kept));
}

#[test]
fn gc_keeps_what_was_used_lately_and_looks_at_the_last_use() {
    let (space, [first, second]) = two_runs();
    assert_eq!(keys(&space.json(&["gc"])["remove"]), Vec::<&str>::new());
    let then = SystemTime::now() - Duration::from_secs(10 * 86_400);
    for key in [&first, &second] {
        let dir = std::fs::File::open(space.path().join(".pipe/artifacts").join(key)).expect("a folder");
        dir.set_modified(then).expect("a time");
    }
    assert_eq!(keys(&space.json(&["gc"])["remove"]).len(), 2);
    assert_eq!(keys(&space.json(&["gc", "--grace", "2w"])["remove"]).len(), 0);
    // A hit is a use.
    assert_eq!(space.statuses(&["recipe.yaml"]), "tokens=hit");
    let shown = space.json(&["gc"]);
    assert_eq!(keys(&shown["remove"]), [&second]);
    assert_eq!(shown["keep"][0]["kept"], "used lately");
}

#[test]
fn pinned_artifacts_and_all_that_they_came_from_are_kept() {
    let space = tiny();
    let run = space.json(&["run", "recipe.yaml"]);
    let key = |stage: &str| run["stages"][stage]["key"].as_str().expect("a key").to_owned();
    let pin = space.json(&["pin", "recipe.yaml", "topics", "--name", "best-1"]);
    assert_eq!(pin, json!({ "name": "best-1", "key": key("topics"), "stage": "topics" }));
    assert_eq!(space.json(&["pin"]), json!([{ "name": "best-1", "key": key("topics"), "stage": "topics" }]));
    let gc = space.json(&["gc", "--grace", "0", "--yes"]);
    let (mut removed, mut expected) = (keys(&gc["remove"]), [key("test"), key("topics.linear")]);
    removed.sort();
    expected.sort();
    assert_eq!(removed, expected);
    let why: Vec<_> = gc["keep"].as_array().expect("a list").iter().map(|one| &one["kept"]).collect();
    assert!(why.contains(&&json!("pinned as best-1")), "{why:?}");
    assert!(why.contains(&&json!(format!("read by {}", &key("topics")[..12]))), "{why:?}");
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=ran tokens=hit topics=hit");

    let refused = space.pipe(&["rm", &key("topics")[..10]]);
    assert_eq!((refused.status, refused.stderr.contains("hint: pipe unpin best-1")), (2, true), "{}", refused.stderr);
    assert_eq!(space.pipe(&["unpin", "best-1"]).status, 0);
    assert_eq!(space.json(&["rm", &key("topics")[..10]]), json!({ "removed": [key("topics")] }));
    assert!(!is_there(&space, &key("topics")));
    let unknown = space.pipe(&["unpin", "best-1"]);
    assert_eq!((unknown.status, unknown.stderr.contains("there is no pin `best-1`")), (2, true));
}

#[test]
fn pin_takes_a_key_or_a_stage_that_was_run() {
    let (space, [first, _]) = two_runs();
    assert_eq!(space.json(&["pin", &first[..9]])["name"], "tokens");
    let output =
        space.pipe(&["pin", "recipe.yaml", "tokens", "--set", "stages.tokens.tokenizer.wordpiece.vocab_size=50"]);
    assert_eq!((output.status, output.stderr.contains("has no stored result for recipe.yaml as it is now")), (2, true));
    let output = space.pipe(&["pin", &first[..9], "--name", "../x"]);
    assert_eq!((output.status, output.stderr.contains("letters, digits")), (2, true));
    assert_eq!(space.pipe(&["pin", "recipe.yaml"]).status, 2);
}

#[test]
fn recipe_with_a_mistake_removes_nothing() {
    let (space, [first, second]) = two_runs();
    space.write("recipe.yaml", "stages: {}\n");
    assert_eq!(space.pipe(&["gc", "recipe.yaml", "--grace", "0", "--delete"]).status, 2);
    assert!(is_there(&space, &first) && is_there(&space, &second));
}

#[test]
fn what_dead_processes_left_goes_and_what_live_ones_use_stays() {
    let (space, [key, _]) = two_runs();
    let other = "f".repeat(64);
    let token = "0123456789abcdef";
    space.write(&format!(".pipe/tmp/{key}.{token}/half"), "half");
    space.write(&format!(".pipe/tmp/{key}.{token}.state/step"), "1");
    // A holder on another machine, which may be alive.
    space.write(&format!(".pipe/tmp/{other}.{token}/half"), "half");
    let holder = format!("{{\"token\":\"{token}\",\"host\":\"elsewhere\",\"pid\":1,\"space\":\"x\"}}");
    space.write(&format!(".pipe/leases/{other}"), format!("{:020}\n{holder}\n", 4));
    let shown = space.json(&["gc"]);
    let remnants: Vec<_> = shown["remnants"].as_array().expect("a list").iter().map(|one| &one["what"]).collect();
    // The state is worth going on from for a while.
    assert_eq!(remnants, [&json!("half-written")]);
    let done = space.json(&["gc", "--grace", "0", "--delete"]);
    assert_eq!(done["remnants"].as_array().map(Vec::len), Some(2));
    let left: Vec<_> = std::fs::read_dir(space.path().join(".pipe/tmp")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].file_name().to_string_lossy().starts_with(&other));
}

#[cfg(unix)]
#[test]
fn gc_touches_nothing_of_others_and_goes_through_no_link() {
    let (space, _) = two_runs();
    let hex = "e".repeat(64);
    let others = [
        "artifacts/theirs/file",
        // A key by its name, and nothing that pipe has made.
        &format!("artifacts/{hex}/file"),
        "tmp/theirs/file",
        "tmp/0123.state",
        &format!("tmp/{hex}.theirs"),
        "states/theirs.state/file",
        "leases/theirs",
        "tensorboard/recipe/base/theirs/events.out.tfevents.1",
        "tensorboard/recipe/base/0123456789ab/theirs",
        "tensorboard/recipe/base/file",
        "tensorboard/a/b/c/d/file",
        "remote/parts/theirs/file",
        "pins/.theirs",
        "theirs",
    ];
    for name in others {
        space.write(&format!(".pipe/{name}"), "theirs");
    }
    // What lies elsewhere.
    space.write("away/file", "theirs").write(&format!("away/{hex}.state/state.json"), "theirs");
    space.write("away/recipe/base/0123456789ab/events.out.tfevents.1", "theirs");
    let link =
        |from: &str| std::os::unix::fs::symlink(space.path().join("away"), space.path().join(from)).expect("a link");
    std::fs::remove_dir_all(space.path().join(".pipe/rungs")).ok();
    link(".pipe/rungs");
    let linked = "d".repeat(64);
    link(&format!(".pipe/tmp/{linked}.state"));
    link(&format!(".pipe/artifacts/{linked}"));
    link(".pipe/tensorboard/linked");
    let done = space.json(&["gc", "--grace", "0", "--delete"]);
    assert_eq!(keys(&done["remove"]).len(), 2, "{done}");
    for name in others {
        assert_eq!(space.read(&format!(".pipe/{name}")), "theirs", "{name}");
    }
    for name in ["file", &format!("{hex}.state/state.json"), "recipe/base/0123456789ab/events.out.tfevents.1"] {
        assert_eq!(space.read(&format!("away/{name}")), "theirs", "{name}");
    }
    for name in [format!("tmp/{linked}.state"), format!("artifacts/{linked}"), "rungs".to_owned()] {
        assert!(space.path().join(".pipe").join(&name).symlink_metadata().is_ok(), "{name}");
    }
    for command in [&["ls"] as &[&str], &["run", "recipe.yaml"]] {
        assert_eq!(space.pipe(command).status, 0, "{command:?}");
    }
}

#[test]
fn gc_keeps_what_may_be_the_recipe_s_where_what_comes_before_is_elsewhere() {
    let space = tiny();
    let run = space.json(&["run", "recipe.yaml"]);
    let other = space.json(&[&["run", "recipe.yaml", "--stage", "tokens"], &SMALLER[..]].concat());
    let key = |run: &Value, stage: &str| run["stages"][stage]["key"].as_str().expect("a key").to_owned();
    for gone in ["tokens", "base"] {
        assert_eq!(space.pipe(&["rm", &key(&run, gone)]).status, 0);
    }
    let done = space.json(&["gc", "recipe.yaml", "--grace", "0", "--delete"]);
    assert!(is_there(&space, &key(&run, "topics")) && is_there(&space, &key(&run, "test")), "{done}");
    assert!(!is_there(&space, &key(&other, "tokens")), "{done}");
    // Once what comes before is back, both are hits.
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=ran test=hit tokens=ran topics=hit");
}

#[test]
fn ls_adds_up_by_stage() {
    let (space, _) = two_runs();
    let stages = space.json(&["ls", "--by-stage"]);
    let sum: u64 = space.json(&["ls"]).as_array().expect("a list").iter().filter_map(|one| one["bytes"].as_u64()).sum();
    assert_eq!(stages, json!([{ "stage": "tokens", "kind": "tokenize", "artifacts": 2, "bytes": sum }]));
}
