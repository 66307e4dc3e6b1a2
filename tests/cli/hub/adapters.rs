//! Adapters whose model is on a hub.

use super::{FIRST, SECOND, World, names, status_of, world};
use crate::common::{TINY, finish};

/// The commit of the hub's model that has an adapter alone.
const ADAPTER: &str = "3333333333333333333333333333333333333333";

const RECIPE: &str = "stages:\n  in:\n    import: { path: adapter }\n";

/// A hub's model, and an adapter for it in `adapter` and as a commit of its own; its model lies nowhere here.
fn adapted() -> World {
    let world = world();
    let space = &world.space;
    let from = "      from: { checkpoint: model }\n      adapter: { lora: { r: 2, targets: [query_key_value] } }\n";
    space.write("tuned.yaml", TINY.replace("      from: base\n", from));
    for arguments in [&["run", "tuned.yaml", "--stage", "topics"][..], &["export", "tuned.yaml", "topics", "tuned"]] {
        let output = space.pipe(arguments);
        assert_eq!(output.status, 0, "{}", output.stderr);
    }
    let folder = space.path().join("adapter");
    fs_err::rename(space.path().join("tuned/adapter"), &folder).unwrap();
    names_base(&world, "org/tiny", Some(SECOND));
    let read = |name: String| (name.clone(), fs_err::read(folder.join(name)).unwrap());
    world.hub.commits.lock().insert(ADAPTER.to_owned(), names(&folder).into_iter().map(read).collect());
    fs_err::rename(space.path().join("model"), space.path().join("kept")).unwrap();
    fs_err::remove_dir_all(space.path().join("tuned")).unwrap();
    world
}

/// Writes into the adapter which model it's for.
fn names_base(world: &World, name: &str, revision: Option<&str>) {
    let path = world.space.path().join("adapter/adapter_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    config["base_model_name_or_path"] = name.into();
    config["revision"] = revision.into();
    fs_err::write(path, config.to_string()).unwrap();
}

fn text(world: &World, model: &[&str]) -> String {
    let options = ["--prompt", "他", "--max-tokens", "3", "--temperature", "0", "--device", "cpu"];
    let output = finish(world.command(&[&["generate"], model, &options].concat()));
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout
}

#[test]
fn an_adapter_finds_its_model_on_a_hub() {
    let world = adapted();
    let by_name = text(&world, &["--checkpoint", "adapter"]);
    let requests = world.hub.take_requests();
    assert!(requests.iter().any(|request| request.contains("/cdn/")), "{requests:?}");
    assert_eq!(names(&world.repository().join("snapshots")), [SECOND], "the revision that it names");
    assert_eq!(text(&world, &["--hub", "org/tiny", "--revision", ADAPTER]), by_name);

    // The same model from a directory beside it.
    fs_err::rename(world.space.path().join("kept"), world.space.path().join("adapter/model")).unwrap();
    names_base(&world, "model", None);
    world.hub.take_requests();
    text(&world, &["--checkpoint", "adapter"]);
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());
}

#[test]
fn a_recipe_with_such_an_adapter_records_the_model_s_commit() {
    let world = adapted();
    world.space.write("recipe.yaml", RECIPE);
    let status = || status_of("in", &world.run(&["--store", "another"]));
    assert_eq!(status(), "ran");
    let artifact = names(&world.space.path().join("another/artifacts"));
    let records = artifact.iter().map(|key| world.space.read(&format!("another/artifacts/{key}/artifact.json")));
    assert!(records.into_iter().any(|record| record.contains(&format!("org/tiny@{SECOND}"))));
    world.hub.take_requests();
    assert_eq!(status(), "hit");
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());

    // The adapter by name is the same key, and another model below it is another one.
    let by_name = format!("hub: org/tiny, revision: \"{ADAPTER}\"");
    world.space.write("recipe.yaml", RECIPE.replace("path: adapter", &by_name));
    assert_eq!(status(), "hit");
    world.space.write("recipe.yaml", RECIPE);
    names_base(&world, "org/tiny", Some(FIRST));
    assert_eq!(status(), "ran");
}

#[test]
fn an_adapter_whose_model_is_nowhere_is_refused_before_anything_runs() {
    let world = adapted();
    world.space.write("recipe.yaml", RECIPE);
    for (name, expected) in [
        ("org/absent", "127.0.0.1 has no model `org/absent`, or not for everybody"),
        ("../absent", "is an adapter, and its base_model_name_or_path names no directory with a model"),
    ] {
        names_base(&world, name, None);
        let output = world.run(&[]);
        assert_eq!(output.status, 2, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{name}: {}", output.stderr);
        assert!(output.stderr.contains("--> recipe.yaml:3:"), "{name}: {}", output.stderr);
    }
}
