//! A directory of its own for each test, and the `pipe` command run in it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod objectives;
pub mod parity;
pub mod tensors;
pub mod web;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// A temporary directory with a store in it.
pub struct Space {
    dir: tempfile::TempDir,
}

/// What a finished command left.
#[derive(Debug)]
#[must_use = "look at what came out"]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Space {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, making its folders.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a written file");
        self
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("a readable file")
    }

    /// The command, with nothing in its environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for name in ["PIPE_KERNELS", "PIPE_STORE", "PIPE_REMOTE", "PIPE_TENSORBOARD", "MLFLOW_TRACKING_URI"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1");
        command
    }

    pub fn pipe(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments))
    }

    /// Runs with `--json` and expects success.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.pipe(&[arguments, &["--json"]].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// Runs a recipe and gives each stage's status, as `tokens=ran base=hit`.
    pub fn statuses(&self, arguments: &[&str]) -> String {
        let result = self.json(&[&["run"], arguments].concat());
        let stages = result["stages"].as_object().expect("stages");
        let mut list: Vec<_> =
            stages.iter().map(|(name, stage)| format!("{name}={}", stage["status"].as_str().unwrap_or("?"))).collect();
        list.sort();
        list.join(" ")
    }
}

pub fn finish(mut command: Command) -> Output {
    let output = command.output().expect("a running command");
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// SplitMix64: the same numbers on every machine.
pub struct Random(pub u64);

impl Random {
    /// A number from 0, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// The folder with the data sets and fixtures that don't belong to the project, if it's here.
pub fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PIPE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(part);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {part} is not here");
    None
}

/// A recipe that runs through all kinds of stages in a second or two.
pub const TINY: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ path: corpus.txt }]
  base:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 16, layers: 1, heads: 2, max_length: 64 } }
      objectives: [{ masked_lm: {} }, { generative: { blank_infilling: {} } }]
      train: { steps: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  topics:
    finetune:
      from: base
      data: { train: { path: train.tsv }, dev: { path: dev.tsv } }
      task:
        classification:
          template: "{{ text }}，这是[Classification]。"
          words: { 甲: 体育, 乙: 美食 }
      train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  test:
    eval: { model: topics, data: { path: test.tsv } }
"#;

/// A space with the tiny recipe and its data.
pub fn tiny() -> Space {
    let space = Space::new();
    let sport = [
        "球队昨晚赢了比赛",
        "他在场上跑得很快",
        "教练换上了新的前锋",
        "观众为进球欢呼",
        "决赛明天下午开始，体育台直播",
    ];
    let food = ["这碗面的汤很鲜", "妈妈炒的菜最香", "蛋糕刚刚出炉", "他喜欢吃辣的火锅", "早餐只有豆浆油条，不算美食"];
    let mut corpus = String::new();
    for _ in 0..4 {
        for texts in [sport, food] {
            texts.iter().for_each(|text| corpus.push_str(&format!("{text}。\n")));
            corpus.push('\n');
        }
    }
    let rows = |range: std::ops::Range<usize>| -> String {
        let pairs = sport.iter().map(|text| ("甲", text)).zip(food.iter().map(|text| ("乙", text)));
        let lines = pairs.skip(range.start).take(range.len());
        let lines = lines.map(|((a, sport), (b, food))| format!("{a}\t{sport}\n{b}\t{food}\n"));
        format!("label\ttext\n{}", lines.collect::<String>())
    };
    space.write("corpus.txt", corpus).write("recipe.yaml", TINY);
    space.write("train.tsv", rows(0..3)).write("dev.tsv", rows(3..4)).write("test.tsv", rows(2..5));
    space
}

/// How many cases a property test tries: `PIPE_CASES`, or so many.
pub fn cases(default: u32) -> proptest::test_runner::Config {
    let cases = std::env::var("PIPE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    proptest::test_runner::Config { cases, failure_persistence: None, ..proptest::test_runner::Config::default() }
}
