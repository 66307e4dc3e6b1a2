//! Our side and the peers' on the same work, in turn, in one run: `just bench`.
//!
//! Every run is a process of its own, and a round has one run of each side, so that a machine that slows down slows all of
//! them. What counts is the median of the ratios within the rounds; their spread says how far to trust it. Without a Python
//! that has the peers' packages only our side runs.

mod nothing_changed;
mod pretraining;
mod tokenization;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;

/// Times recipes/bench.yaml, and the peers' scripts on the same work.
#[derive(Debug, Parser)]
struct Args {
    /// The `pipe` to time
    #[arg(long, default_value = "target/release/pipe")]
    pipe: PathBuf,
    /// The folder with the peers' scripts
    #[arg(long, default_value = "../shared/peers")]
    peers: PathBuf,
    /// A Python with the peers' requirements
    #[arg(long, env = "PEERS_PYTHON")]
    python: Option<PathBuf>,
    /// The `dvc` to time where nothing has changed
    #[arg(long, env = "PEERS_DVC")]
    dvc: Option<PathBuf>,
    /// The corpus: a sentence a line, a blank line between documents
    #[arg(long, default_value = "../shared/data/cluecorpus_small/CLUECorpusSmall_bert_sampled.txt")]
    text: PathBuf,
    /// The `tokenizer.json` of both sides
    #[arg(long, default_value = "../shared/peers/bpe8000.json")]
    tokenizer: PathBuf,
    /// Runs of each side
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Timed steps of a training run
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Only the cases whose names contain this
    #[arg(long, default_value = "")]
    only: String,
}

impl Args {
    /// Runs `pipe run recipes/bench.yaml` with these vars for one stage, anew, and gives what it says of the stage.
    fn ours(&self, store: &std::path::Path, stage: &str, vars: &[(&str, String)]) -> Result<Value> {
        let mut command = Command::new(&self.pipe);
        command.arg("--store").arg(store).args(["run", "recipes/bench.yaml", "--json", "--stage", stage]);
        command.args(["--force", stage]).arg("--var").arg(format!("text={}", self.text.display()));
        for (name, value) in vars {
            command.arg("--var").arg(format!("{name}={value}"));
        }
        let mut said = output(&mut command)?;
        Ok(said["stages"][stage].take())
    }

    /// Runs a script of the peers' and gives the line that it prints; `None` where there is no Python for it.
    fn theirs(&self, script: &str, options: &[(&str, String)], flags: &[&str]) -> Result<Option<Value>> {
        let Some(python) = &self.python else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(self.peers.join(script)).arg("--text").arg(&self.text);
        for (name, value) in options {
            command.arg(format!("--{name}")).arg(value);
        }
        output(command.args(flags)).map(Some)
    }
}

/// What a program prints, as JSON.
fn output(command: &mut Command) -> Result<Value> {
    let done = command.stderr(Stdio::piped()).output().with_context(|| format!("can't run {command:?}"))?;
    ensure!(done.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).with_context(|| format!("{command:?} didn't print JSON"))
}

/// A number of what a program printed.
fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}` in {value}"))
}

/// The middle one, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The median and the ends, such as `2.1 (1.9–2.3)`.
fn spread(values: &[f64], digits: usize) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let [least, most] = [f64::min, f64::max].map(|choose| values.iter().copied().reduce(choose).unwrap_or(f64::NAN));
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(values))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program")]
fn main() -> Result<()> {
    let mut args = Args::parse();
    if !args.peers.join("hf_pretrain.py").exists() {
        args.python = None;
    }
    if args.python.is_none() {
        eprintln!("no peers: give a Python that has their requirements with --python or PEERS_PYTHON");
    }
    let store = tempfile::tempdir()?;
    let parts = [pretraining::run, tokenization::run, nothing_changed::run];
    for part in parts {
        let table = part(&args, store.path())?;
        if !table.is_empty() {
            println!("{table}\n");
        }
    }
    Ok(())
}
