//! Models by their names, out of a hub: fetched once, kept where Python's client keeps them, and known by what they hold.

mod adapters;
mod data_sets;
mod model_scope;
mod server;

use crate::common::{self, Space, await_that, need, needs::Need};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use common::{Output, TINY, finish, tiny};
use server::{Files, Hub};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

const RECIPE: &str = "\
vars: { revision: main }
stages:
  in:
    import: { hub: org/tiny, revision: \"{{ revision }}\" }
";

/// A model of some 60 kB in `model`, and a hub that has it as `org/tiny`, with code and other weights beside it.
struct World {
    space: Space,
    hub: Arc<Hub>,
    url: String,
}

fn world() -> World {
    let space = tiny();
    space.make_checkpoint("recipe.yaml", "base");
    space.write("recipe.yaml", RECIPE);
    let (hub, model) = (Arc::new(Hub::default()), space.path().join("model"));
    let files = fs_err::read_dir(&model).unwrap().map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs_err::read(path).unwrap())
    };
    let mut files: Files = files.map(read).collect();
    let mut second = files.clone();
    if let Some(last) = second.get_mut("model.safetensors").and_then(|bytes| bytes.last_mut()) {
        *last ^= 1;
    }
    for (name, bytes) in
        [("pytorch_model.bin", &b"nothing"[..]), ("modeling_tiny.py", b"import os"), ("onnx/model.onnx", b"x")]
    {
        files.insert(name.to_owned(), bytes.to_vec());
    }
    *hub.commits.lock() = BTreeMap::from([(FIRST.to_owned(), files), (SECOND.to_owned(), second)]);
    *hub.main.lock() = FIRST.to_owned();
    let url = hub.serve();
    World { space, hub, url }
}

impl World {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.space.command(arguments);
        for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.url).env("HF_HUB_CACHE", self.space.path().join("cache"));
        command.env("HF_HOME", self.space.path().join("home"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(&[&["run", "recipe.yaml", "--json"], arguments].concat()))
    }

    /// The status of the stage.
    fn status(&self, arguments: &[&str]) -> String {
        status(&self.run(arguments))
    }

    fn repository(&self) -> std::path::PathBuf {
        self.space.path().join("cache/models--org--tiny")
    }
}

fn status(output: &Output) -> String {
    status_of("in", output)
}

fn status_of(stage: &str, output: &Output) -> String {
    assert_eq!(output.status, 0, "{}", output.stderr);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    json["stages"][stage]["status"].as_str().unwrap().to_owned()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once_and_known_by_what_it_holds() {
    let world = world();
    assert_eq!(world.status(&[]), "ran");
    let requests = world.hub.take_requests();
    let count = |part: &str| requests.iter().filter(|request| request.contains(part)).count();
    assert_eq!(count("/cdn/"), 1, "{requests:?}");
    assert_eq!(count("pytorch_model.bin") + count("modeling") + count("onnx"), 0, "{requests:?}");
    assert_eq!(count("/api/"), 1, "{requests:?}");

    let snapshot = world.repository().join("snapshots").join(FIRST);
    assert_eq!(names(&snapshot), names(&world.space.path().join("model")));
    assert!(snapshot.join("model.safetensors").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs_err::read_to_string(world.repository().join("refs/main")).unwrap(), FIRST);

    // A second run asks for nothing, and goes on meaning what `main` was.
    assert_eq!(world.status(&[]), "hit");
    *world.hub.main.lock() = SECOND.to_owned();
    assert_eq!(world.status(&[]), "hit");
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());

    // Another revision is another key; the same files by their path are the same one.
    assert_eq!(world.status(&["--var", &format!("revision={SECOND}")]), "ran");
    assert_eq!(world.status(&["--var", &format!("revision={FIRST}")]), "hit");
    world.space.write("recipe.yaml", "stages:\n  in:\n    import: { path: model }\n");
    assert_eq!(world.status(&[]), "hit");
    world.space.write("recipe.yaml", RECIPE);

    // Without a connection what is there does.
    world.hub.take_requests();
    let mut offline = world.command(&["run", "recipe.yaml", "--json", "--store", "another"]);
    assert_eq!(
        status(&finish({
            offline.env("HF_HUB_OFFLINE", "1");
            offline
        })),
        "ran"
    );
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());

    // Records tell which commit it was.
    let artifact = names(&world.space.path().join("another/artifacts"));
    let record = world.space.read(&format!("another/artifacts/{}/artifact.json", artifact[0]));
    assert!(record.contains(&format!("org/tiny@{FIRST}")), "{record}");
}

#[test]
fn a_fetch_that_was_killed_goes_on_where_it_was() {
    let world = world();
    world.hub.is_slow.store(true, SeqCst);
    let mut first = world.command(&["run", "recipe.yaml"]);
    let mut child = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let blobs = world.repository().join("blobs");
    let arrived = || {
        let files = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().ends_with(".incomplete")).find_map(|file| {
            let size = file.metadata().ok()?.len();
            (size >= 6_000).then_some(size)
        })
    };
    await_that("some of the weights have arrived", || arrived().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    let arrived = arrived().expect("what has arrived is kept");
    world.hub.take_requests();
    world.hub.is_slow.store(false, SeqCst);

    assert_eq!(world.status(&[]), "ran");
    let requests = world.hub.take_requests();
    assert!(requests.iter().any(|request| request.contains(&format!(" from {arrived}"))), "{arrived}: {requests:?}");
    let weights = world.repository().join("snapshots").join(FIRST).join("model.safetensors");
    assert_eq!(
        fs_err::read(weights).unwrap(),
        fs_err::read(world.space.path().join("model/model.safetensors")).unwrap()
    );
    assert!(names(&blobs).iter().all(|name| !name.ends_with(".incomplete")));
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let world = world();
    world.hub.is_breaking.store(true, SeqCst);
    assert_eq!(world.status(&[]), "ran");
    let requests = world.hub.take_requests();
    let of_weights: Vec<_> = requests.iter().filter(|request| request.contains("/cdn/")).collect();
    // More than there are pauses between tries that bring nothing.
    let size = world.space.path().join("model/model.safetensors").metadata().unwrap().len();
    assert_eq!(of_weights.len() as u64, size.div_ceil(5_000), "{requests:?}");
    for (index, request) in of_weights.iter().enumerate().skip(1) {
        assert!(request.ends_with(&format!(" from {}", index * 5_000)), "{requests:?}");
    }
}

#[test]
fn what_a_hub_refuses_is_said_in_plain_words() {
    let world = world();
    let said = |recipe: String| {
        world.space.write("recipe.yaml", recipe);
        let output = world.run(&[]);
        assert_eq!(output.status, 2, "{}", output.stderr);
        output.stderr
    };
    let model = |model: &str| said(format!("stages:\n  in:\n    import: {{ {model} }}\n"));
    for (name, expected) in [
        ("hub: org/gated", "org/gated is given only to those who have accepted its licence"),
        ("hub: org/absent", "127.0.0.1 has no model `org/absent`, or not for everybody"),
        ("hub: org/tiny, revision: v9", "org/tiny has no revision `v9`"),
        ("hub: ../tiny", "`../tiny` is no model's name"),
        ("hub: org/tiny, path: model", "`path` and `hub` both say where the model is"),
        ("tokenizer: model", "nothing says where the model is"),
    ] {
        let said = model(name);
        assert!(said.contains(expected), "{name}: {said}");
        assert!(said.contains("--> recipe.yaml:3:"), "{name}: {said}");
        assert!(said.contains("hint: "), "{name}: {said}");
    }
    let mut accepted = world.command(&["check", "recipe.yaml"]);
    world.space.write("recipe.yaml", "stages:\n  in:\n    import: { hub: org/gated }\n");
    let accepted = finish({
        accepted.env("HF_TOKEN", "accepted");
        accepted
    });
    assert_eq!(accepted.status, 0, "{}", accepted.stderr);

    // Bytes that aren't what the hub has listed are never used.
    world.space.write("recipe.yaml", RECIPE);
    world.hub.is_damaged.store(true, SeqCst);
    let output = world.run(&[]);
    assert_ne!(output.status, 0);
    assert!(output.stderr.contains("model.safetensors didn't arrive as it should be"), "{}", output.stderr);
    assert!(!world.repository().join("snapshots").join(FIRST).join("model.safetensors").exists());
    world.hub.is_damaged.store(false, SeqCst);
    assert_eq!(world.status(&[]), "ran");
}

#[test]
fn a_model_that_was_never_fetched_needs_a_connection() {
    let world = world();
    let mut offline = world.command(&["check", "recipe.yaml"]);
    let output = finish({
        offline.env("HF_HUB_OFFLINE", "1");
        offline
    });
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("HF_HUB_OFFLINE forbids to fetch it"), "{}", output.stderr);
    // A recipe's mistakes are told before any weights are fetched.
    world.space.write("recipe.yaml", format!("{RECIPE}  other:\n    import: {{ path: absent }}\n"));
    let output = finish(world.command(&["check", "recipe.yaml"]));
    assert_eq!(output.status, 2, "{}", output.stderr);
    let requests = world.hub.take_requests();
    assert!(requests.iter().any(|request| request.ends_with("/config.json")), "{requests:?}");
    assert!(requests.iter().all(|request| !request.contains("/cdn/")), "{requests:?}");
}

#[test]
fn a_model_by_name_is_learned_from() {
    let world = world();
    let write = |from: &str| {
        world.space.write("recipe.yaml", TINY.replace("      from: base\n", &format!("      from: {from}\n")));
    };
    write("{ hub: org/tiny }");
    let run = || status_of("topics", &world.run(&["--stage", "topics"]));
    assert_eq!(run(), "ran");
    write("{ checkpoint: model }");
    assert_eq!(run(), "hit");
}

#[test]
fn a_model_by_name_writes() {
    let world = world();
    let output = finish(world.command(&[
        "generate",
        "--hub",
        "org/tiny",
        "--prompt",
        "他",
        "--max-tokens",
        "3",
        "--device",
        "cpu",
    ]));
    assert_eq!(output.status, 0, "{}", output.stderr);
    let again = finish(world.space.command(&[
        "generate",
        "--checkpoint",
        "model",
        "--prompt",
        "他",
        "--max-tokens",
        "3",
        "--device",
        "cpu",
    ]));
    assert_eq!(again.stdout, output.stdout, "{}", again.stderr);
}

/// `huggingface_hub` finds in the cache what was fetched here, and what it has fetched isn't fetched again.
#[test]
fn the_cache_is_shared_with_python() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let world = world();
    let script = "import sys, huggingface_hub as h\nfor f in sys.argv[2:]: print(h.hf_hub_download('org/tiny', f, revision=sys.argv[1]))\n";
    let python = |arguments: &[&str], offline: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", script]).args(arguments).env("HF_ENDPOINT", &world.url).env("HF_HUB_OFFLINE", offline);
        command.env("HF_HUB_CACHE", world.space.path().join("cache")).env("HF_HUB_DISABLE_XET", "1");
        command.env("HF_HOME", world.space.path().join("home")).env_remove("HF_TOKEN");
        let output = finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stdout
    };
    let second = world.repository().join("snapshots").join(SECOND);
    let found = python(&[SECOND, "config.json", "model.safetensors"], "0");
    assert!(found.contains(&*second.join("model.safetensors").to_string_lossy()), "{found}");
    world.hub.take_requests();

    assert_eq!(world.status(&["--var", &format!("revision={SECOND}")]), "ran");
    let requests = world.hub.take_requests();
    assert!(
        requests.iter().all(|request| !request.contains("/cdn/") && !request.contains("/config.json")),
        "{requests:?}"
    );

    assert_eq!(world.status(&[]), "ran");
    world.hub.take_requests();
    let found = python(&["main", "config.json", "model.safetensors"], "1");
    let first = world.repository().join("snapshots").join(FIRST);
    assert!(found.contains(&*first.join("config.json").to_string_lossy()), "{found}");
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());
}
