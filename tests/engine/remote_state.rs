//! A remote is what it is now: what was emptied, lost, cut or damaged there is found by whoever asks, mended by a push from a
//! store that has it, and seen alike by all commands.

use crate::common;
use std::path::{Path, PathBuf};

use common::{
    Output, Space, TINY, tiny,
    web::{Serves, serve},
};
use serde_json::Value;

const RECIPE: &str = "recipe.yaml";
const STAGES: [&str; 4] = ["tokens", "base", "topics", "test"];
const AWAY: &str = "http://127.0.0.1:1/cache";

/// A machine that has run the tiny recipe, its result, and the remote's folder and URL.
struct Filled {
    first: Space,
    result: Value,
    remote: Space,
    url: String,
}

impl Filled {
    fn new() -> Self {
        let remote = Space::new();
        let url = format!("file://{}", remote.path().display());
        let first = tiny();
        let result = first.json(&["run", RECIPE, "--remote", &url]);
        Self { first, result, remote, url }
    }

    fn key(&self, stage: &str) -> &str {
        self.result["stages"][stage]["key"].as_str().unwrap()
    }

    fn record(&self, stage: &str) -> PathBuf {
        self.remote.path().join("v1/records").join(self.key(stage))
    }

    /// The remote's copy of a stage's file.
    fn blob(&self, stage: &str, name: &str) -> PathBuf {
        let record: Value = serde_json::from_slice(&std::fs::read(self.record(stage)).unwrap()).unwrap();
        let files = record["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"] == name).unwrap();
        self.remote.path().join("v1/blobs").join(file["digest"].as_str().unwrap())
    }

    fn empty(&self) {
        std::fs::remove_dir_all(self.remote.path().join("v1")).unwrap();
    }

    /// What a command says on the first machine.
    fn says(&self, arguments: &[&str]) -> Output {
        self.first.pipe(&[arguments, &["--remote", &self.url]].concat())
    }

    /// What became of each stage in a push.
    fn push(&self) -> Value {
        self.first.json(&["push", RECIPE, "--remote", &self.url])["stages"].take()
    }

    /// Another machine has everything from the remote, as it was made.
    fn assert_pulled(&self) {
        let other = tiny();
        let pulled = other.json(&["pull", RECIPE, "--remote", &self.url]);
        assert!(STAGES.iter().all(|stage| pulled["stages"][stage] == "fetched"), "{pulled}");
        for stage in STAGES {
            let dir = PathBuf::from(".pipe/artifacts").join(self.key(stage));
            for file in std::fs::read_dir(self.first.path().join(&dir)).unwrap().map(|file| file.unwrap().path()) {
                let there = other.path().join(&dir).join(file.file_name().unwrap());
                assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(there).unwrap(), "{}", file.display());
            }
        }
        assert_eq!(other.pipe(&["verify"]).status, 0);
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(10).unwrap();
}

fn all(word: &str) -> Value {
    let stages = STAGES.iter().chain(&["topics.linear"]);
    stages.map(|stage| ((*stage).to_owned(), Value::from(word))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn push_mends_whatever_is_wrong_in_the_remote() {
    let filled = Filled::new();
    assert_eq!(filled.push(), all("here"));
    let lose: fn(&Path) = |path| std::fs::remove_file(path).unwrap();
    for harm in [lose, cut, flip] {
        let model = filled.blob("base", "model.safetensors");
        harm(&model);
        let pushed = filled.push();
        assert_eq!((&pushed["base"], &pushed["test"]), (&"pushed".into(), &"here".into()), "{pushed}");
        assert_eq!(filled.push(), all("here"));
        filled.assert_pulled();
        // Of a record, too.
        harm(&filled.record("test"));
        let pushed = filled.push();
        assert_eq!((&pushed["base"], &pushed["test"]), (&"here".into(), &"pushed".into()), "{pushed}");
        filled.assert_pulled();
    }
    filled.empty();
    assert_eq!(filled.push(), all("pushed"));
    filled.assert_pulled();
}

#[test]
fn push_that_cannot_mend_the_remote_fails() {
    let filled = Filled::new();
    let model = filled.blob("base", "model.safetensors");
    std::fs::remove_file(&model).unwrap();
    // It can be read from alone.
    let url = serve(filled.remote.path(), Serves::Reading);
    let output = filled.first.pipe(&["push", RECIPE, "--remote", &url, "--json"]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert_eq!(output.stderr.matches("warning").count(), 1, "{}", output.stderr);
    let pushed: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&pushed["stages"]["base"], &pushed["stages"]["tokens"]), (&"not pushed".into(), &"here".into()));
    // It isn't here either.
    let other = tiny();
    let output = other.pipe(&["push", RECIPE, "--remote", &filled.url]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stdout.contains("base: missing") && output.stdout.contains("tokens: remote"), "{}", output.stdout);
    assert!(output.stderr.contains("base: its files in the remote aren't whole"), "{}", output.stderr);
    // It's away.
    let output = filled.first.pipe(&["push", RECIPE, "--remote", AWAY]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(!output.stdout.contains(": here"), "{}", output.stdout);
    assert_eq!(output.stderr.matches("warning").count(), 1, "{}", output.stderr);
}

#[test]
fn pull_asks_whatever_was_seen_before() {
    let filled = Filled::new();
    let other = tiny();
    other.json(&["run", RECIPE, "--remote", &filled.url]);
    filled.empty();
    // It's remembered for runs.
    let plan = other.json(&["plan", RECIPE, "--remote", &filled.url]);
    assert_eq!(plan["stages"]["tokens"]["status"], "remote");
    let output = other.pipe(&["pull", RECIPE, "--remote", &filled.url]);
    assert_eq!(output.status, 1, "{}", output.stdout);
    assert!(output.stdout.contains("tokens: missing"), "{}", output.stdout);
    // What was found out isn't forgotten.
    let plan = other.json(&["plan", RECIPE, "--remote", &filled.url]);
    assert_eq!(plan["stages"]["tokens"]["status"], "miss");
}

#[test]
fn run_computes_what_an_emptied_remote_was_believed_to_have() {
    let filled = Filled::new();
    let other = tiny();
    other.json(&["run", RECIPE, "--remote", &filled.url]);
    filled.empty();
    other.write(RECIPE, TINY.replace("48, lr: 1.0e-3 }\n  test", "48, lr: 2.0e-3 }\n  test"));
    let result = other.json(&["run", RECIPE, "--remote", &filled.url]);
    for stage in ["tokens", "base"] {
        assert_eq!(result["stages"][stage]["status"], "ran", "{result}");
        assert_eq!(result["stages"][stage]["digest"], filled.result["stages"][stage]["digest"]);
    }
    assert_eq!(result["remote"]["pushed"], 5);
}

#[test]
fn verify_reads_the_remote_too() {
    let filled = Filled::new();
    let verify = |arguments: &[&str]| {
        let output = filled.says(&[&["verify", "--json"], arguments].concat());
        let found: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        (output.status, found)
    };
    let (status, found) = verify(&[]);
    assert_eq!((status, &found["remote"]["artifacts"]), (0, &5.into()), "{found}");
    // A byte of a file, whose times are set back.
    let model = filled.blob("base", "model.safetensors");
    let time = model.metadata().unwrap().modified().unwrap();
    flip(&model);
    std::fs::File::options().write(true).open(&model).unwrap().set_modified(time).unwrap();
    let (status, found) = verify(&[]);
    let damage = &found["remote"]["damaged"];
    assert_eq!((status, damage.as_array().map(Vec::len)), (1, Some(1)), "{found}");
    assert_eq!((&damage[0]["stage"], &damage[0]["key"]), (&"base".into(), &filled.key("base").into()));
    assert!(damage[0]["problem"].as_str().unwrap().contains("model.safetensors does not match"), "{damage}");
    assert!(found["damaged"].as_array().is_some_and(Vec::is_empty), "{found}");
    assert_eq!(verify(&[filled.key("tokens")]).0, 0, "another stage is whole");
    assert_eq!(filled.push()["base"], "pushed");
    assert_eq!(verify(&[]).0, 0);
    // A machine that has nothing reads all that the remote has.
    flip(&filled.record("test"));
    let output = tiny().pipe(&["verify", "--remote", &filled.url]);
    assert!(output.status == 1 && output.stdout.contains("its checksum does not match"), "{output:?}");
    assert!(output.stderr.contains("`pipe push`"), "{}", output.stderr);
    filled.empty();
    let (status, found) = verify(&[]);
    assert_eq!((status, found["remote"]["absent"].as_array().map(Vec::len)), (0, Some(5)), "{found}");
    // That it can't be asked isn't soundness.
    let output = filled.first.pipe(&["verify", "--remote", AWAY]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains("can't be looked at") && output.stderr.contains("no damage found"), "{output:?}");
    assert_eq!(tiny().pipe(&["verify", "--remote", AWAY]).status, 1);
}

#[test]
fn files_that_no_record_lists_are_found() {
    let space = tiny();
    let result = space.json(&["run", RECIPE]);
    let of = |stage: &str| PathBuf::from(".pipe/artifacts").join(result["stages"][stage]["key"].as_str().unwrap());
    // What can be made again of what is there may lie beside it.
    space.write(of("tokens").join(pipe::data::words_file()).to_str().unwrap(), "");
    assert_eq!(space.pipe(&["verify"]).status, 0);
    let dir = of("base");
    space.write(dir.join("adapter/config.json").to_str().unwrap(), "{}");
    let output = space.pipe(&["verify"]);
    assert!(output.status == 1 && output.stdout.contains("it is not in the record"), "{output:?}");
    assert!(output.stdout.contains("adapter/config.json"), "{output:?}");
}

#[test]
fn what_a_transfer_left_is_not_believed_by_its_length() {
    let filled = Filled::new();
    let other = tiny();
    let whole = std::fs::read(filled.blob("base", "model.safetensors")).unwrap();
    let name = blake3::hash(&whole).to_hex();
    let parts = format!(".pipe/remote/parts/{}", filled.key("base"));
    let mut bytes = whole.clone();
    bytes[whole.len() - 512..].fill(0);
    other.write(&format!("{parts}/{name}"), &bytes);
    let pulled = other.json(&["pull", RECIPE, "--remote", &filled.url]);
    assert_eq!(pulled["stages"]["base"], "fetched");
    assert_eq!(
        std::fs::read(other.path().join(".pipe/artifacts").join(filled.key("base")).join("model.safetensors")).unwrap(),
        whole
    );
    assert_eq!(other.pipe(&["verify"]).status, 0);

    // Sound ones aren't fetched again, and what nobody goes on with is cleared away.
    let third = tiny();
    third.write(&format!("{parts}/{name}"), &whole);
    third.write(&format!("{parts}/{}.part", "0".repeat(64)), "begun");
    let left = third.json(&["gc", "--grace", "0s"]);
    assert_eq!(left["remnants"][0]["what"], "transfer", "{left}");
    let kept = third.json(&["gc", "--grace", "1h"]);
    assert_eq!(kept["remnants"].as_array().map(Vec::len), Some(0), "{kept}");
    let pulled = third.json(&["pull", RECIPE, "--remote", &filled.url]);
    let expected = tiny().json(&["pull", RECIPE, "--remote", &filled.url])["remote"]["bytes"].as_u64().unwrap();
    assert_eq!(pulled["remote"]["bytes"].as_u64().unwrap(), expected - whole.len() as u64);
}

#[test]
fn all_commands_see_what_the_remote_has() {
    let filled = Filled::new();
    let other = tiny();
    let at = ["--remote", &filled.url];
    let says = |arguments: &[&str]| other.pipe(&[arguments, &at].concat());
    let why = says(&["why", RECIPE, "test"]);
    assert!(why.stdout.contains("unchanged, in the remote as"), "{why:?}");
    let lines = |space: &Space, arguments: &[&str]| {
        assert_eq!(space.pipe(arguments).status, 0);
        space.read("page.html").matches("not run").count()
    };
    let here = lines(&filled.first, &["report", RECIPE, "-o", "page.html"]);
    assert_eq!(lines(&other, &["report", RECIPE, "-o", "page.html", at[0], at[1]]), here);
    let (ours, theirs) = (filled.first.read("page.html"), other.read("page.html"));
    assert_eq!(ours.matches("<svg").count(), theirs.matches("<svg").count(), "curves and calibration are there");
    assert_eq!(other.pipe(&["report", RECIPE, "-o", "page.html"]).status, 0);
    assert!(other.read("page.html").matches("not run").count() > here, "without the remote there's nothing");

    let compared = |space: &Space, more: &[&str]| space.json(&[&["compare", RECIPE, RECIPE], more].concat());
    let compare = compared(&other, &at);
    assert_eq!(compare, compared(&filled.first, &[]));
    let test = compare[0]["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "test").unwrap();
    assert!(test["paired"]["rows"].as_u64().unwrap() > 0, "predictions are there: {test}");

    let list = other.json(&["ls", "--remote", &filled.url]);
    assert!(list.as_array().unwrap().len() == 5 && list[0]["path"].is_null(), "{list}");
    assert!(says(&["ls"]).stdout.contains("in the remote"));
    let key = filled.key("topics");
    let shown = tiny().pipe(&["show", &key[..10], at[0], at[1]]);
    assert!(shown.status == 0 && shown.stdout.contains("in the remote"), "{shown:?}");
    let keys = [&filled.key("topics")[..12], &filled.key("base")[..12]];
    assert_eq!(tiny().pipe(&["why", keys[0], keys[1], at[0], at[1]]).status, 0);
    assert_eq!(tiny().pipe(&["compare", keys[0], keys[0], at[0], at[1]]).status, 0);
    // A miss is compared with what was seen in the remote.
    other.write(RECIPE, TINY.replace("48, lr: 1.0e-3 }\n  test", "48, lr: 2.0e-3 }\n  test"));
    let why = says(&["why", RECIPE, "topics"]);
    assert!(why.stdout.contains("compared with the stored run") && why.stdout.contains("lr"), "{why:?}");
    assert_eq!(says(&["pin", RECIPE, "base"]).status, 0);
    assert!(other.path().join(".pipe/artifacts").join(filled.key("base")).is_dir(), "what is pinned is kept here");
}

#[test]
fn sweeps_of_another_machine_are_seen_by_all_commands() {
    let sweep = "\nsweep: { grid: { stages.topics.train.seed: [1, 2] }, maximize: stages.test.metrics.accuracy }\n";
    let remote = Space::new();
    let url = format!("file://{}", remote.path().display());
    let (first, other) = (tiny(), tiny());
    for space in [&first, &other] {
        space.write(RECIPE, format!("{TINY}{sweep}"));
    }
    first.json(&["sweep", RECIPE, "--remote", &url]);
    let cell = |number: usize| format!("{RECIPE}:{number}");
    let compare = |space: &Space, more: &[&str]| space.json(&[&["compare", &cell(1), &cell(2)], more].concat());
    assert_eq!(compare(&other, &["--remote", &url]), compare(&first, &[]));
    let report = |space: &Space, more: &[&str]| {
        assert_eq!(space.pipe(&[&["report", RECIPE, "-o", "page.html"], more].concat()).status, 0);
        space.read("page.html").matches("not run").count()
    };
    assert_eq!(report(&other, &["--remote", &url]), report(&first, &[]));
}

#[test]
fn a_file_that_the_remote_has_lost_is_told_with_the_way_out() {
    let filled = Filled::new();
    let other = tiny();
    std::fs::remove_file(filled.blob("topics", "model.safetensors")).unwrap();
    let output = other.pipe(&["predict", RECIPE, "topics", "--text", "他喜欢吃面", "--remote", &filled.url]);
    assert_ne!(output.status, 0);
    assert!(output.stderr.contains("model.safetensors is missing in the remote"), "{}", output.stderr);
    assert!(output.stderr.contains("pipe run recipe.yaml --stage topics --force topics"), "{}", output.stderr);
    let run = ["run", RECIPE, "--stage", "topics", "--force", "topics", "--remote", &filled.url];
    assert_eq!(other.pipe(&run).status, 0);
    assert!(filled.blob("topics", "model.safetensors").exists(), "it's mended");
    // A report goes without the file, and says so.
    std::fs::remove_file(filled.blob("test", "report.json")).unwrap();
    let output = other.pipe(&["report", RECIPE, "--remote", &filled.url]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("report.json is missing in the remote"), "{}", output.stderr);
}

#[test]
fn commands_without_a_use_for_a_remote_say_so() {
    let space = tiny();
    for arguments in [&["rm", "00ff"] as &[&str], &["check", RECIPE], &["devices"]] {
        let output = space.pipe(&[arguments, &["--remote", AWAY]].concat());
        assert_eq!(output.status, 2, "{output:?}");
        assert!(output.stderr.contains("takes no --remote"), "{output:?}");
    }
    let mut command = space.command(&["check", RECIPE]);
    command.env("PIPE_REMOTE", AWAY);
    assert_eq!(common::finish(command).status, 0);
}

#[test]
fn a_remote_that_is_away_is_told_once_by_every_command() {
    let filled = Filled::new();
    let key = filled.key("test");
    let commands: [&[&str]; 12] = [
        &["plan", RECIPE],
        &["why", RECIPE, "test"],
        &["report", RECIPE, "-o", "page.html"],
        &["compare", RECIPE, RECIPE],
        &["ls"],
        &["show", key],
        &["data", RECIPE, "topics"],
        &["predict", RECIPE, "topics", "--text", "他喜欢吃面"],
        &["export", RECIPE, "base", "out"],
        &["pin", RECIPE, "base"],
        &["run", RECIPE],
        &["run", RECIPE, "--dry-run"],
    ];
    for arguments in commands {
        // With everything here the remote is hardly needed.
        let output = filled.first.pipe(&[arguments, &["--remote", AWAY]].concat());
        assert_eq!(output.status, 0, "{arguments:?}: {output:?}");
        assert!(output.stderr.matches("warning").count() <= 1, "{arguments:?}: {}", output.stderr);
    }
    for arguments in [&["plan", RECIPE] as &[&str], &["why", RECIPE, "test"], &["ls"]] {
        let output = tiny().pipe(&[arguments, &["--remote", AWAY]].concat());
        assert_eq!(output.status, 0, "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.matches("warning").count(), 1, "{arguments:?}: {}", output.stderr);
    }
}
