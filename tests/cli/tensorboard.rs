//! Event files of trainings: their bytes, and what TensorBoard's own reader makes of them. `PIPE_TENSORBOARD_PYTHON` names
//! a Python that has it.

use crate::common;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use common::{Space, TINY, need, needs::Need, tiny};
use serde_json::Value;

/// By tag, the steps with their values and times.
type Scalars = BTreeMap<String, Vec<(u64, f32, f64)>>;

/// What a file says of itself: its version, and how sessions began and ended.
#[derive(Debug, Default, PartialEq)]
struct Frame {
    version: Option<String>,
    sessions: Vec<u8>,
}

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    !crc
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Fields of a message, each with its number and bytes; numbers of varying length as eight.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let varint = |message: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                let value = varint(&mut message);
                fields.push((key >> 3, value.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = message.split_at(length);
        fields.push((key >> 3, value.to_vec()));
        message = rest;
    }
    fields
}

/// Reads a file whose checksums have to be right; a last frame that isn't whole yet is left out.
fn read(path: &Path) -> (Frame, Scalars) {
    let bytes = std::fs::read(path).expect("an event file");
    let (mut frame, mut scalars) = (Frame::default(), Scalars::new());
    let mut rest = &bytes[..];
    while rest.len() >= 12 {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes"));
        assert_eq!(masked(&rest[..8]).to_le_bytes(), rest[8..12], "checksum of a length");
        let end = 12 + length as usize;
        if rest.len() < end + 4 {
            break;
        }
        let data = &rest[12..end];
        assert_eq!(masked(data).to_le_bytes(), rest[end..end + 4], "checksum of data");
        rest = &rest[end + 4..];
        event(data, &mut frame, &mut scalars);
    }
    (frame, scalars)
}

fn event(data: &[u8], frame: &mut Frame, scalars: &mut Scalars) {
    let (mut at, mut step, mut values) = (0.0, 0, Vec::new());
    for (field, value) in fields(data) {
        match field {
            1 => at = f64::from_le_bytes(value.try_into().expect("a double")),
            2 => step = u64::from_le_bytes(value.try_into().expect("a number")),
            3 => frame.version = Some(String::from_utf8(value).expect("a text")),
            5 => {
                for (_, value) in fields(&value) {
                    let parts: BTreeMap<_, _> = fields(&value).into_iter().collect();
                    let number = f32::from_le_bytes(parts[&2].clone().try_into().expect("a float"));
                    values.push((String::from_utf8(parts[&1].clone()).expect("a tag"), number));
                }
            }
            7 => frame.sessions.push(fields(&value)[0].1[0]),
            other => panic!("field {other}"),
        }
    }
    for (tag, value) in values {
        scalars.entry(tag).or_default().push((step, value, at));
    }
}

/// The one event file of a stage.
fn event_file(root: &Path, stage: &str, key: &Value) -> PathBuf {
    let folder = root.join("recipe").join(stage).join(&key.as_str().expect("a key")[..12]);
    let files: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?} in {}", folder.display());
    let name = files[0].file_name();
    assert!(name.to_string_lossy().starts_with("events.out.tfevents."), "{name:?}");
    files[0].path()
}

/// Steps and values of a tag, as bits.
fn values(scalars: &Scalars, tag: &str) -> Vec<(u64, u32)> {
    scalars.get(tag).into_iter().flatten().map(|(step, value, _)| (*step, value.to_bits())).collect()
}

/// Sees that a file has exactly what the curve has.
fn has_curve(scalars: &Scalars, artifact: &Path) {
    let text = std::fs::read_to_string(artifact.join("curve.jsonl")).expect("a curve");
    let mut expected: BTreeMap<String, Vec<(u64, u32)>> = BTreeMap::new();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    let objectives: BTreeSet<&str> = lines.iter().filter_map(|line| line["objective"].as_str()).collect();
    for line in &lines {
        let step = line["step"].as_u64().expect("a step");
        let mut add = |tag: String, value: &Value| {
            let value = value.as_f64().expect("a number") as f32;
            expected.entry(tag).or_default().push((step, value.to_bits()));
        };
        match line["dev"].as_object() {
            Some(dev) => dev.iter().for_each(|(name, value)| add(format!("dev/{name}"), value)),
            None => {
                ["loss", "lr", "grad_norm"].iter().for_each(|name| add((*name).to_owned(), &line[name]));
                let objective = line["objective"].as_str().expect("a name");
                if objectives.len() > 1 {
                    add(format!("loss/{objective}"), &line["loss"]);
                }
            }
        }
    }
    for (tag, expected) in &expected {
        assert_eq!(&values(scalars, tag), expected, "{tag}");
    }
    let tags: Vec<_> = scalars.keys().filter(|tag| *tag != "tokens_per_second").collect();
    assert_eq!(tags, expected.keys().collect::<Vec<_>>());
    let last = expected["loss"].last().expect("a step").0;
    let speeds = &scalars["tokens_per_second"];
    assert_eq!(speeds.last().map(|(step, ..)| *step), Some(last));
    assert!(speeds.iter().all(|(_, speed, _)| *speed > 0.0 && speed.is_finite()));
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}

fn path(space: &Space, stage: &Value) -> PathBuf {
    space.path().join(stage["path"].as_str().expect("a path"))
}

#[test]
fn each_training_has_a_file_with_its_curve_and_its_times() {
    let space = tiny();
    let began = now();
    let result = space.json(&["run", "recipe.yaml", "--set", "stages.topics.train.log_every=1"]);
    let ended = now();
    for name in ["base", "topics"] {
        let stage = &result["stages"][name];
        let (frame, scalars) = read(&event_file(&space.path().join(".pipe/tensorboard"), name, &stage["key"]));
        assert_eq!(frame, Frame { version: Some("brain.Event:2".into()), sessions: vec![1, 2] });
        has_curve(&scalars, &path(&space, stage));
        for steps in scalars.values() {
            assert!(steps.iter().all(|(_, _, at)| (began..=ended).contains(at)));
            assert!(steps.is_sorted_by(|a, b| a.0 <= b.0 && a.2 <= b.2), "{steps:?}");
        }
    }
    let speeds = std::fs::read_to_string(path(&space, &result["stages"]["topics"]).join("artifact.json"));
    let record: Value = serde_json::from_str(&speeds.expect("a record")).expect("json");
    assert_eq!(
        record["provenance"]["pace"].as_array().map(Vec::len),
        result["stages"]["topics"]["metrics"]["steps"].as_u64().map(|steps| steps as usize)
    );
    // Nothing else has such a file.
    assert!(!space.path().join(".pipe/tensorboard/recipe/test").exists());
}

#[test]
fn a_stored_training_gets_its_file_once_and_the_same_figures() {
    let space = tiny();
    let first = space.json(&["run", "recipe.yaml"]);
    let root = space.path().join(".pipe/tensorboard");
    let of = |name: &str| event_file(&root, name, &first["stages"][name]["key"]);
    let (live, before) = (of("topics"), read(&of("topics")).1);
    space.json(&["run", "recipe.yaml"]);
    assert_eq!(of("topics"), live, "what is complete stays");

    // Half a file, as a killed process leaves it, and none at all.
    let bytes = std::fs::read(&live).expect("an event file");
    std::fs::write(&live, &bytes[..bytes.len() / 2]).expect("a file that was cut");
    std::fs::remove_dir_all(root.join("recipe/base")).expect("a folder that was there");
    space.json(&["run", "recipe.yaml"]);
    let stored = of("topics");
    assert_ne!(stored, live);
    let (frame, after) = read(&stored);
    assert_eq!(frame.sessions, [1, 2]);
    for name in ["base", "topics"] {
        has_curve(&read(&of(name)).1, &path(&space, &first["stages"][name]));
    }
    for (tag, steps) in &before {
        assert_eq!(values(&before, tag), values(&after, tag));
        let is_near = |(live, stored): (&(u64, f32, f64), &(u64, f32, f64))| (live.2 - stored.2).abs() < 1.0;
        assert!(steps.iter().zip(&after[tag]).all(is_near), "{steps:?} {:?}", after[tag]);
    }
    space.json(&["run", "recipe.yaml"]);
    assert_eq!(of("topics"), stored);
}

#[test]
fn a_training_is_followed_while_it_runs_and_has_each_step_once_after_it_was_killed() {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("steps: 8,", "steps: 1200, checkpoint_every: 20, log_every: 5,"));
    let run = ["run", "recipe.yaml", "--stage", "base", "--tensorboard", "logs"];
    let mut child = space.command(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let stage = space.path().join("logs/recipe/base");
    let running = || walkdir::WalkDir::new(&stage).into_iter().flatten().find(|entry| entry.file_type().is_file());
    let steps = |file: &Path| read(file).1.get("loss").map_or(0, Vec::len);
    common::await_that("steps are in the file", || running().is_some_and(|file| steps(file.path()) >= 30));
    assert_eq!(child.try_wait().expect("a process"), None, "the file is written while the training runs");
    child.kill().expect("a process to kill");
    let _ = child.wait();

    let told = space.pipe(&[&run[..], &["--json"]].concat());
    assert!(told.stderr.contains("resumes from the last checkpoint"), "{}", told.stderr);
    let result: Value = serde_json::from_str(&told.stdout).expect("json");
    let base = &result["stages"]["base"];
    let file = event_file(&space.path().join("logs"), "base", &base["key"]);
    let (frame, scalars) = read(&file);
    assert_eq!(frame.sessions, [1, 2]);
    has_curve(&scalars, &path(&space, base));
    assert_eq!(scalars["loss"].iter().map(|(step, ..)| *step).collect::<Vec<_>>(), (1..=1200).collect::<Vec<_>>());
    assert!(!space.path().join(".pipe/tensorboard").exists(), "they were wanted elsewhere");
}

#[test]
fn tensorboards_own_reader_finds_every_figure() {
    let python = need!(Need::Tensorboard.variable("PIPE_TENSORBOARD_PYTHON"));
    let space = tiny();
    let result = space.json(&["run", "recipe.yaml"]);
    for name in ["base", "topics"] {
        let stage = &result["stages"][name];
        let file = event_file(&space.path().join(".pipe/tensorboard"), name, &stage["key"]);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/read_events.py");
        let mut command = Command::new(&python);
        command.arg(script).arg(file.parent().expect("a folder"));
        let output = common::finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let found: BTreeMap<String, Vec<(u64, f64, f64)>> = serde_json::from_str(&output.stdout).expect("json");
        let scalars = |steps: Vec<(u64, f64, f64)>| -> Vec<(u64, f32, f64)> {
            steps.into_iter().map(|(step, value, at)| (step, value as f32, at)).collect()
        };
        let found: Scalars = found.into_iter().map(|(tag, steps)| (tag, scalars(steps))).collect();
        has_curve(&found, &path(&space, stage));
        assert_eq!(found, read(&file).1);
    }
}

#[test]
fn of_a_stage_in_the_remote_the_curve_alone_is_fetched_and_only_if_it_is_wanted() {
    let first = tiny();
    let remote = format!("file://{}", first.path().join("remote").display());
    let whole = first.json(&["run", "recipe.yaml", "--remote", &remote]);
    let other = tiny();
    let run = ["run", "recipe.yaml", "--remote", &remote];
    assert_eq!(other.json(&run)["remote"]["files"], 0);
    assert!(!other.path().join(".pipe/tensorboard").exists());
    let result = other.json(&[&run[..], &["--tensorboard", "logs"]].concat());
    assert_eq!(result["remote"]["files"], 2);
    for name in ["base", "topics"] {
        assert_eq!(result["stages"][name]["status"], "fetched");
        let file = event_file(&other.path().join("logs"), name, &result["stages"][name]["key"]);
        has_curve(&read(&file).1, &path(&first, &whole["stages"][name]));
    }
}

#[test]
fn files_go_where_they_are_wanted_or_nowhere() {
    let space = tiny();
    let run = ["run", "recipe.yaml", "--stage", "base"];
    let mut nowhere = space.command(&run);
    nowhere.env("PIPE_TENSORBOARD", "");
    assert_eq!(common::finish(nowhere).status, 0);
    assert!(!space.path().join(".pipe/tensorboard").exists());
    let result = space.json(&[&run[..], &["--tensorboard", "logs"]].concat());
    assert_eq!(result["stages"]["base"]["status"], "hit");
    event_file(&space.path().join("logs"), "base", &result["stages"]["base"]["key"]);

    space.write("file", "");
    let output = space.pipe(&[&run[..], &["--tensorboard", "file/logs"]].concat());
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("--tensorboard: there can't be files for TensorBoard"), "{}", output.stderr);
}

#[test]
fn what_can_not_be_written_is_told_once_and_changes_nothing() {
    let space = tiny();
    let expected = space.json(&["run", "recipe.yaml", "--tensorboard", ""]);
    let other = tiny();
    // Where the folder of the recipe should be, there is a file.
    other.write("logs/recipe", "");
    let output = other.pipe(&["run", "recipe.yaml", "--tensorboard", "logs", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(
        output.stderr.matches("warning: files for TensorBoard can't be written").count(),
        1,
        "{}",
        output.stderr
    );
    let result: Value = serde_json::from_str(&output.stdout).expect("json");
    for name in ["base", "topics", "test"] {
        assert_eq!(result["stages"][name]["digest"], expected["stages"][name]["digest"], "{name}");
    }
}

#[test]
fn event_files_go_with_their_artifacts() {
    let space = tiny();
    let key = |more: &[&str]| {
        space.json(&[&["run", "recipe.yaml", "--stage", "base"], more].concat())["stages"]["base"]["key"].clone()
    };
    let (kept, gone) = (key(&[]), key(&["--set", "stages.base.train.lr=2e-3"]));
    let root = space.path().join(".pipe/tensorboard");
    event_file(&root, "base", &gone);
    let result = space.json(&["gc", "recipe.yaml", "--grace", "0", "--delete"]);
    assert_eq!(result["remnants"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(result["remnants"][0]["what"], "events");
    event_file(&root, "base", &kept);
    assert!(!root.join("recipe/base").join(&gone.as_str().expect("a key")[..12]).exists());
}
