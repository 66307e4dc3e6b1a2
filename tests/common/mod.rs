//! A directory of its own for each test, and the `pipe` command run in it.

#![allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "each binary uses its part")]

pub mod faulty;
pub mod hurry;
pub mod needs;
pub mod objectives;
pub mod outputs;
pub mod parity;
pub mod pausing;
pub mod tensors;
pub mod web;

use std::{
    ffi::OsStr,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

pub(crate) use needs::need;
use needs::{Need, Needed};
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

    /// In memory where the system has such a folder, for a test that makes very many files.
    pub fn in_memory() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { dir: dir.expect("a temporary directory") }
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
        for name in [
            "PIPE_AUTOTUNE",
            "PIPE_FAULT",
            "PIPE_FUSION",
            "PIPE_KERNELS",
            "PIPE_STORE",
            "PIPE_REMOTE",
            "PIPE_TENSORBOARD",
            "MLFLOW_TRACKING_URI",
        ] {
            command.env_remove(name);
        }
        for name in ["GITHUB_STEP_SUMMARY", "GITHUB_BASE_REF", "GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1");
        command
    }

    pub fn pipe(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments))
    }

    /// Runs a recipe up to a stage, in the store `other`, and exports the model that it makes to `model`.
    pub fn make_checkpoint(&self, recipe: &str, stage: &str) {
        let run = ["run", recipe, "--store", "other", "--stage", stage];
        for arguments in [&run[..], &["export", recipe, stage, "model", "--store", "other"]] {
            let output = self.pipe(arguments);
            assert_eq!(output.status, 0, "{}", output.stderr);
        }
    }

    /// Runs with `--json`, and expects success and what the schema says.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.pipe(&[arguments, &["--json"]].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        let json = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout));
        outputs::fits(arguments, &json);
        json
    }

    /// Runs a recipe and gives each stage's status, as `tokens=ran base=hit`.
    pub fn statuses(&self, arguments: &[&str]) -> String {
        let result = self.json(&[&["run"], arguments].concat());
        let stages = result["stages"].as_object().expect("stages");
        let written = stages.iter().filter(|(name, _)| !name.contains('.'));
        let mut list: Vec<_> =
            written.map(|(name, stage)| format!("{name}={}", stage["status"].as_str().unwrap_or("?"))).collect();
        list.sort();
        list.join(" ")
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub fn finish(mut command: Command) -> Output {
    command.output().expect("a running command").into()
}

/// What a started command leaves when it has ended.
pub fn ended(child: Child) -> Output {
    child.wait_with_output().expect("a process that ended").into()
}

/// Waits for what another process does.
#[track_caller]
pub fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "it's never so that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs an ignored test of this binary, given as `module::name`, in a process of its own; fails unless it passes.
pub fn run_alone(test: &str, environment: &[(&str, &OsStr)]) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([test, "--exact", "--ignored"]).envs(environment.iter().copied());
    let output = finish(command);
    let has_passed = output.status == 0 && output.stdout.contains("1 passed");
    assert!(has_passed, "{}{}", output.stdout, output.stderr);
}

/// A port that nobody listens at, of those that the system doesn't give to clients: one of these could find itself there before
/// the server does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = u64::from(std::process::id()) * 8;
    let mut ports = std::iter::repeat_with(|| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let listener = ports.find_map(|port| TcpListener::bind(("127.0.0.1", u16::try_from(port).ok()?)).ok());
    listener.expect("a free port").local_addr().expect("an address").port()
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

/// The folder with the data sets and fixtures that don't belong to the project.
pub fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var_os("PIPE_SHARED").map_or_else(beside, PathBuf::from)
}

/// A data set's folder, or a file of it.
pub fn data(part: &str) -> Needed<PathBuf> {
    let path = shared().join("data").join(part);
    if path.exists() { Ok(path) } else { Err(Need::Data.unmet(format!("there is no {part}"))) }
}

/// Waits until the file system's clock, which counts in steps, can tell a change from those before.
pub fn await_tick(dir: &Path) {
    // More than a step of any system's clock.
    const STEP: Duration = Duration::from_millis(25);
    let changed = || {
        let file = tempfile::NamedTempFile::new_in(dir).expect("a file");
        file.as_file().metadata().and_then(|metadata| metadata.modified()).expect("a time")
    };
    let first = changed();
    await_that("time has passed", || changed().duration_since(first).unwrap_or_default() >= STEP);
}

/// Waits until a file has been left alone for so long that its digest is remembered.
pub fn await_settled(file: &Path) {
    const SETTLED: Duration = Duration::from_millis(2_100);
    let age = || file.metadata().and_then(|metadata| metadata.modified()).expect("a time").elapsed();
    await_that("the file is settled", || age().unwrap_or_default() >= SETTLED);
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

/// A corpus with a line that isn't UTF-8, behind all that's looked at before a run, and that line's number.
pub fn with_bad_end(corpus: &str) -> (Vec<u8>, usize) {
    let mut bytes = format!("{corpus}\n{}", "good\n\n".repeat(1_001)).into_bytes();
    let row = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    bytes.extend_from_slice(b"bad \xff here\n");
    (bytes, row)
}

/// What another program prints that has to succeed in a folder; to git nobody's own settings are known there.
pub fn run_in(dir: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@example.org");
    }
    let output = finish(command);
    assert_eq!(output.status, 0, "{program} {arguments:?}: {}", output.stderr);
    output.stdout
}
