//! The commands and their arguments. Their texts are those of `--help` and of `docs/reference/commands.md`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{
    ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{
    session::launch::LOCAL,
    spec::{ChatFormat, Format},
};

/// Declarative language-model pipelines: tokenize, pretrain, finetune and evaluate from one recipe, cached by content
#[derive(Debug, Parser)]
#[command(
    name = "pipe",
    version,
    arg_required_else_help = true,
    after_help = "Exit status: 0 if everything was done, 1 if a stage failed or anything else went wrong after work had begun, \
                  2 if nothing was run, 130 if Ctrl-C stopped it and the same command resumes."
)]
pub(super) struct Arguments {
    /// Directory of the artifact store
    #[arg(long, global = true, env = "PIPE_STORE", default_value = ".pipe", value_name = "DIR")]
    pub store: PathBuf,
    /// Cache shared between machines: s3://, gs://, az://, file:// or http(s)://; credentials come from the environment
    #[arg(long, global = true, env = "PIPE_REMOTE", hide_env_values = true, value_name = "URL")]
    pub remote: Option<String>,
    /// Log decisions and waits to stderr; twice for more. `PIPE_LOG` filters by part of the program, such as
    /// `PIPE_LOG=pipe::engine::remote=debug`
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a recipe; stages that haven't changed are not computed again
    Run(Run),
    /// Run all cells of a recipe's sweep; stages that cells have in common are computed once
    Sweep(Sweep),
    /// Compare recipes, sweep cells or stored runs: settings, metrics with confidence intervals, curves
    Compare(Compare),
    /// Write a report of a recipe's stored results as a single HTML file
    Report(Report),
    /// Show what a run would do, and why
    Plan(Plan),
    /// Show, field by field, how a stage differs from the nearest stored run, or how two stored runs differ (`why KEY
    /// KEY`)
    Why(Why),
    /// Check a recipe without running anything
    Check(Check),
    /// List the artifacts in the store
    Ls(Ls),
    /// Show an artifact: what it was made from, its metrics and its files
    Show(Show),
    /// Read every artifact again and list the damaged ones
    Verify(Verify),
    /// List unreferenced artifacts and their size, and why the others are kept; `--delete` removes them
    Gc(Gc),
    /// Protect an artifact from `pipe gc`; without arguments, list the pins
    Pin(Pin),
    /// Remove a pin, so that `pipe gc` may remove the artifact
    Unpin(Unpin),
    /// Remove artifacts from the store
    Rm(Rm),
    /// Classify texts with a finetuned stage
    Predict(Predict),
    /// Continue a prompt, or fill in its blanks, with a trained model
    Generate(Generate),
    /// Chat with a trained model; each line of stdin is a question
    Chat(Chat),
    /// Copy a stage's model out of the store, in Hugging Face's layout
    Export(Export),
    /// Upload a recipe's artifacts that the remote lacks
    Push(Transfer),
    /// Download a recipe's artifacts from the remote, with all their files
    Pull(Transfer),
    /// Write a commented recipe for your own data file
    Init(Init),
    /// Print the JSON Schema of recipes
    Schema,
    /// Write the generated pages of the documentation
    #[command(hide = true)]
    Reference(Reference),
    /// List the devices that recipes can run on
    Devices(Devices),
    /// Time training steps on each device
    Bench(Bench),
    /// Print completions for a shell
    Completions(Completions),
    /// Compute the stage of the job on stdin, and report on stdout
    #[command(hide = true)]
    Stage,
}

/// A recipe, and changes to it.
#[derive(Args, Clone, Debug)]
pub(super) struct Recipe {
    /// The recipe file
    pub recipe: PathBuf,
    #[command(flatten)]
    pub changes: Changes,
}

/// Changes to a recipe.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Changes {
    /// Override a setting, such as `stages.base.train.lr=1e-4`; can be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Override a variable of `vars`; can be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub vars: Vec<(String, String)>,
}

/// Where to run.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// Device to run on: auto, cpu, cuda, cuda:N, vulkan, wgpu or metal [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices that share each training step: cuda:0-3 or cuda:0,cuda:2; cuda or auto for all of them
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
}

/// Where and how to run.
#[derive(Args, Clone, Debug)]
pub(super) struct Running {
    #[command(flatten)]
    pub place: Place,
    /// How many independent stages may run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Run even if the estimate says that a stage won't fit into the device's memory
    #[arg(long)]
    pub ignore_memory: bool,
    /// How stages are computed: local, in this process, or process, in one for each
    #[arg(long, env = "PIPE_LAUNCHER", default_value = LOCAL, value_name = "NAME", hide = true)]
    pub launcher: String,
    /// Directory for TensorBoard event files; '' writes none [default: the store's folder `tensorboard`]
    #[arg(long, env = "PIPE_TENSORBOARD", value_name = "DIR")]
    pub tensorboard: Option<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    pub recipe: Recipe,
    #[command(flatten)]
    pub running: Running,
    /// Run only this stage and the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Compute this stage even if the store has it; can be repeated
    #[arg(long, value_name = "NAME")]
    pub force: Vec<String>,
    /// Show what would run without running it
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Sweep {
    #[command(flatten)]
    pub recipe: Recipe,
    #[command(flatten)]
    pub running: Running,
    /// Run only the first N cells
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_cells: Option<u64>,
    /// Run only cells that meet this condition, such as `stages.cls.train.lr < 1e-3`; can be repeated
    #[arg(long, value_name = "CONDITION")]
    pub filter: Vec<String>,
    /// Show the cells, the distinct stages and the estimated time without running anything
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the results as a CSV file, one row per cell
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the results as a Parquet file, one row per cell
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// Recipes, sweep cells as RECIPE:NUMBER, or keys of stored runs; all are compared with the first
    #[arg(required = true, num_args = 2.., value_name = "RECIPE|RECIPE:CELL|KEY")]
    pub sides: Vec<String>,
    #[command(flatten)]
    pub changes: Changes,
    /// Bootstrap resamples for each confidence interval
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub resamples: u64,
    /// Seed of the resampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Report {
    #[command(flatten)]
    pub recipe: Recipe,
    /// File to write [default: the recipe's name with .html, in the working directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Plan {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Plan only this stage and the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
    /// Same as `--format json`
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum PlanFormat {
    /// A table
    #[default]
    Text,
    /// JSON
    Json,
    /// A Mermaid flow chart
    Mermaid,
}

#[derive(Args, Debug)]
pub(super) struct Why {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The stage; or a second key, if a key is given in place of the recipe
    pub stage: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Ls {
    /// Show the total size per stage
    #[arg(long)]
    pub by_stage: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// A key or a prefix of one
    pub key: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// Keys, or prefixes of keys, of the artifacts to verify [default: all]
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Gc {
    /// Recipes whose artifacts are kept, including those of their sweeps
    #[arg(value_name = "RECIPE")]
    pub recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    /// Keep artifacts used within this time, such as 12h or 7d
    #[arg(long, default_value = "7d", value_parser = period, value_name = "TIME")]
    pub grace: Duration,
    /// Remove the artifacts instead of only listing them
    #[arg(long, visible_alias = "yes")]
    pub delete: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Pin {
    /// An artifact's key or a prefix of it; or a recipe
    pub target: Option<String>,
    /// The recipe's stage
    pub stage: Option<String>,
    #[command(flatten)]
    pub changes: Changes,
    /// Name of the pin [default: the stage's]
    #[arg(long, value_name = "NAME", requires = "target")]
    pub name: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Unpin {
    /// The pin's name
    pub name: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Rm {
    /// Keys, or prefixes of keys, of the artifacts to remove
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Predict {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The finetuned stage
    pub stage: String,
    /// A text to classify; can be repeated
    #[arg(long, conflicts_with = "file")]
    pub text: Vec<String>,
    /// A file of rows to classify (.txt, .tsv, .csv, .jsonl, .parquet); a file with the training data's extension is
    /// read
    /// like the training data, unless the options below say otherwise
    #[arg(long, required_unless_present = "text")]
    pub file: Option<PathBuf>,
    /// The file's format: txt, tsv, csv, jsonl or parquet [default: by its extension]
    #[arg(long, requires = "file", value_parser = format)]
    pub format: Option<Format>,
    /// Comma-separated column names for a .tsv or .csv file without a header line
    #[arg(long, requires = "file", value_delimiter = ',', value_name = "NAMES")]
    pub columns: Option<Vec<String>>,
    /// The character that separates fields
    #[arg(long, requires = "file", value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// Print one JSON object per row
    #[arg(long)]
    pub json: bool,
}

/// A trained model: a stage of a recipe, or a checkpoint.
#[derive(Args, Debug)]
pub(super) struct Trained {
    /// The recipe
    #[arg(required_unless_present = "checkpoint", conflicts_with = "checkpoint")]
    pub recipe: Option<PathBuf>,
    /// The trained stage
    #[arg(required_unless_present = "checkpoint")]
    pub stage: Option<String>,
    /// A model directory in Hugging Face's layout, instead of a recipe and a stage
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    /// Device to run on [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
}

/// How text is generated. A checkpoint's `generation_config.json` gives the defaults, if it has one.
#[derive(Args, Debug)]
pub(super) struct Writing {
    /// Minimum number of tokens to generate
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub min_tokens: usize,
    /// Sampling temperature; 0 always picks the likeliest token [default: 0.8]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Sample from the K likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the likeliest tokens whose total probability reaches P [default: 0.95]
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Penalty on tokens that have already occurred; 1 means none [default: 1]
    #[arg(long, value_name = "PENALTY")]
    pub repetition_penalty: Option<f64>,
    /// Stop before this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    #[command(flatten)]
    pub model: Trained,
    /// The text to continue; `[MASK]`, `[sMASK]` and `[gMASK]` mark blanks to fill in
    #[arg(long, default_value = "", conflicts_with = "file")]
    pub prompt: String,
    /// A file with one prompt per line
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Maximum number of tokens to generate, per blank if there are any
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: Writing,
    /// Print one JSON object per prompt
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Chat {
    #[command(flatten)]
    pub model: Trained,
    /// System message, for chat formats that have one
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Chat format [default: the one the model was trained with, or its family's]
    #[arg(long, value_name = "FORMAT", value_parser = chat_formats())]
    pub format: Option<ChatFormat>,
    /// Maximum number of tokens in an answer
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: Writing,
    /// Print one JSON object per answer
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The stage whose model is copied
    pub stage: String,
    /// The directory to write to
    pub dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Transfer {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Only this stage and, for a push, the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Init {
    /// The directory to write to
    pub dir: PathBuf,
    /// Your labelled data (.tsv, .csv, .jsonl or .parquet)
    #[arg(long)]
    pub data: PathBuf,
    /// The column with the text [default: the one with the longest values]
    #[arg(long)]
    pub text: Option<String>,
    /// The column with the label [default: `label`, or else the one with the fewest distinct values]
    #[arg(long)]
    pub label: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Devices {
    /// Open this one device and report what it can do
    #[arg(long, hide = true, value_name = "DEVICE")]
    pub probe: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// The device [default: each usable one, except software drivers]
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices that share each step, such as cuda:0-3
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
    /// Model and sequence shape: small, bert-base, gpt2 or tiny
    #[arg(long, default_value = "small")]
    pub shape: String,
    /// Precision: f32, bf16, f16 or mixed
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// Sequences per step [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Tokens per sequence [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub length: Option<u32>,
    /// Timed steps, after five warm-up steps
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub steps: usize,
    /// Dropout probability
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub dropout: f64,
    /// Micro-batch: whole, auto or a number of tokens
    #[arg(long, default_value = "whole", value_name = "TOKENS")]
    pub micro_batch: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Reference {
    /// The project's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// List the pages that are out of date instead of writing them
    #[arg(long)]
    pub check: bool,
}

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `pipe completions`.
pub(super) fn completions(command: &Completions) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Arguments::command(), "pipe", &mut script);
    super::progress::put(&String::from_utf8_lossy(&script))?;
    Ok(super::DONE)
}

fn format(text: &str) -> Result<Format, String> {
    serde_json::from_value(text.into()).map_err(|_| "expected txt, tsv, csv, jsonl or parquet".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` isn't of the form NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// A number and a unit: s, m, h, d or w.
fn period(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` isn't a time such as 90s, 30m, 12h, 7d or 4w");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ if text == "0" => 0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Names of chat formats.
fn chat_formats() -> impl TypedValueParser<Value = ChatFormat> {
    let names = ChatFormat::ALL.map(ChatFormat::name);
    PossibleValuesParser::new(names).try_map(|name| ChatFormat::named(&name).ok_or("it is no chat format"))
}
