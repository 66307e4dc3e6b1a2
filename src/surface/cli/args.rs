//! What can be said on the command line.

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
    /// A cache that machines share: s3://, gs://, az://, file:// or http(s)://; credentials come from the environment
    #[arg(long, global = true, env = "PIPE_REMOTE", hide_env_values = true, value_name = "URL")]
    pub remote: Option<String>,
    /// Say on stderr what is decided and waited for; twice for more. `PIPE_LOG` chooses by part of the program, such as
    /// `PIPE_LOG=pipe::engine::remote=debug`
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a recipe; what hasn't changed isn't computed again
    Run(Run),
    /// Run a recipe's sweep: all its cells, sharing every stage that can be shared
    Sweep(Sweep),
    /// Put recipes, cells of sweeps or stored runs side by side: settings, figures with intervals, curves
    Compare(Compare),
    /// Write what is known of a recipe into one HTML file
    Report(Report),
    /// Show what a run would do, and why
    Plan(Plan),
    /// Show what differs between a stage and the nearest stored run, or between two stored runs (`why KEY KEY`), field by
    /// field
    Why(Why),
    /// Check a recipe without running anything
    Check(Check),
    /// List the artifacts in the store
    Ls(Ls),
    /// Show an artifact: what it was made from, its figures and its files
    Show(Show),
    /// Read every artifact again, and name what is damaged
    Verify(Verify),
    /// Show what could be removed from the store, and remove it with `--delete`
    Gc(Gc),
    /// Keep an artifact whatever `pipe gc` is told; without arguments, list what is kept so
    Pin(Pin),
    /// Let a pinned artifact go with the next `pipe gc`
    Unpin(Unpin),
    /// Remove artifacts from the store
    Rm(Rm),
    /// Classify texts with a finetuned stage
    Predict(Predict),
    /// Continue a text, or fill its blanks, with a trained model
    Generate(Generate),
    /// Talk with a trained model: questions on stdin, a line each
    Chat(Chat),
    /// Copy a stage's model out of the store, in Hugging Face's layout
    Export(Export),
    /// Give the remote what it lacks of a recipe's stages
    Push(Transfer),
    /// Bring a recipe's stages from the remote into the store, with their files
    Pull(Transfer),
    /// Write a commented recipe for your own data file
    Init(Init),
    /// Print the recipes' JSON Schema
    Schema,
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
    /// The recipe
    pub recipe: PathBuf,
    #[command(flatten)]
    pub changes: Changes,
}

/// Changes to a recipe.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Changes {
    /// Change a setting, such as `stages.base.train.lr=1e-4`; can be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Change a variable; can be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub vars: Vec<(String, String)>,
}

/// Where to run.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// Where tensors live: auto, cpu, cuda, cuda:N, vulkan, wgpu or metal
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices, which share each step of a training: cuda:0-3, cuda:0,cuda:2, or cuda or auto for all there are
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
}

/// Where and how to run.
#[derive(Args, Clone, Debug)]
pub(super) struct Running {
    #[command(flatten)]
    pub place: Place,
    /// Independent stages that run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Run even what seems too large for the device's memory
    #[arg(long)]
    pub ignore_memory: bool,
    /// How stages are computed: local, in this process, or process, in one for each
    #[arg(long, env = "PIPE_LAUNCHER", default_value = LOCAL, value_name = "NAME", hide = true)]
    pub launcher: String,
    /// Where event files for TensorBoard go; by default into the store's folder `tensorboard`, and with '' nowhere
    #[arg(long, env = "PIPE_TENSORBOARD", value_name = "DIR")]
    pub tensorboard: Option<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    pub recipe: Recipe,
    #[command(flatten)]
    pub running: Running,
    /// Run only this stage and what it needs; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Compute this stage even if the store has it; can be repeated
    #[arg(long, value_name = "NAME")]
    pub force: Vec<String>,
    /// Show what would run, and run nothing
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
    /// Run only cells for which this holds, such as `stages.cls.train.lr < 1e-3`; can be repeated
    #[arg(long, value_name = "CONDITION")]
    pub filter: Vec<String>,
    /// Show the cells, the distinct stages and how long they will take, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the cells to a CSV file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the cells to a Parquet file
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// Recipes, cells of a sweep as RECIPE:NUMBER, or keys of stored runs; the others are compared with the first
    #[arg(required = true, num_args = 2.., value_name = "RECIPE|RECIPE:CELL|KEY")]
    pub sides: Vec<String>,
    #[command(flatten)]
    pub changes: Changes,
    /// Times that the rows are drawn anew for an interval
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub resamples: u64,
    /// Seed of these draws
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
    /// The file to write; by default the recipe's name with .html, in the working directory
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Plan {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Plan only this stage and what it needs; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// The form of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
    /// The same as `--format json`
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
    /// The stage; or a key, to be compared with a key in the recipe's place
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
    /// Add up what the artifacts of each stage take
    #[arg(long)]
    pub by_stage: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// A key, or the beginning of one
    pub key: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// Beginnings of the keys of artifacts; all by default
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Gc {
    /// Recipes whose artifacts are kept, those of their sweeps too
    #[arg(value_name = "RECIPE")]
    pub recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    /// Keep what was used within this time, such as 12h or 7d
    #[arg(long, default_value = "7d", value_parser = period, value_name = "TIME")]
    pub grace: Duration,
    /// Remove what goes; without this it's only shown
    #[arg(long, visible_alias = "yes")]
    pub delete: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Pin {
    /// The beginning of an artifact's key; or a recipe
    pub target: Option<String>,
    /// The recipe's stage
    pub stage: Option<String>,
    #[command(flatten)]
    pub changes: Changes,
    /// The pin's name; by default the stage's
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
    /// Beginnings of the artifacts' keys
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
    /// A file of rows to classify (.txt, .tsv, .csv, .jsonl, .parquet); read as the stage's training rows where its
    /// name ends as theirs does, unless the options below say how
    #[arg(long, required_unless_present = "text")]
    pub file: Option<PathBuf>,
    /// The file's format: txt, tsv, csv, jsonl or parquet; by default its name tells
    #[arg(long, requires = "file", value_parser = format)]
    pub format: Option<Format>,
    /// Names for the columns of a .tsv or .csv without a header line, with commas between
    #[arg(long, requires = "file", value_delimiter = ',', value_name = "NAMES")]
    pub columns: Option<Vec<String>>,
    /// The character between two fields
    #[arg(long, requires = "file", value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// Where tensors live
    #[arg(long)]
    pub device: Option<String>,
    /// Print a JSON object a row
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
    /// A directory with a model in Hugging Face's layout, in place of a recipe's stage
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    /// Where tensors live
    #[arg(long)]
    pub device: Option<String>,
}

/// How text is written. What isn't given is as the checkpoint's `generation_config.json` has it, where there is one.
#[derive(Args, Debug)]
pub(super) struct Writing {
    /// Tokens to write at least
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub min_tokens: usize,
    /// Randomness: 0 always takes the likeliest token [default: 0.8]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Choose among this many likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that have this much probability together [default: 0.95]
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Make tokens that were there already less likely; 1 changes nothing [default: 1]
    #[arg(long, value_name = "PENALTY")]
    pub repetition_penalty: Option<f64>,
    /// End before this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the choices
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    #[command(flatten)]
    pub model: Trained,
    /// What to continue; `[MASK]`, `[sMASK]` or `[gMASK]` in it marks a blank to fill
    #[arg(long, default_value = "", conflicts_with = "file")]
    pub prompt: String,
    /// A file with a prompt a line
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Tokens to write at most, for each blank where there are any
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: Writing,
    /// Print a JSON object a prompt
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Chat {
    #[command(flatten)]
    pub model: Trained,
    /// What holds for the whole conversation, where the chat format has a place for it
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How the conversation is written [default: as the model's family does]
    #[arg(long, value_name = "FORMAT", value_parser = chat_formats())]
    pub format: Option<ChatFormat>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_tokens: usize,
    #[command(flatten)]
    pub writing: Writing,
    /// Print a JSON object an answer
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The stage
    pub stage: String,
    /// The directory to write to
    pub dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Transfer {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Only this stage and, in a push, what it needs; can be repeated
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
    /// The column that holds the text; by default the one with the longest values
    #[arg(long)]
    pub text: Option<String>,
    /// The column that holds the label; by default `label`, or else the one with the fewest values
    #[arg(long)]
    pub label: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Devices {
    /// Open this one device and tell what it can
    #[arg(long, hide = true, value_name = "DEVICE")]
    pub probe: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// The device; by default each that can be used, but for software drivers
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices, which share each step, such as cuda:0-3
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
    /// The model and its texts: small, bert-base, gpt2 or tiny
    #[arg(long, default_value = "small")]
    pub shape: String,
    /// The numbers to compute with: f32, bf16, f16 or mixed
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// Texts of a step [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Tokens of a text [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub length: Option<u32>,
    /// Steps that are counted, after five that aren't
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub steps: usize,
    /// Probability of dropping an activation
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub dropout: f64,
    /// What of a step is computed at a time: whole, auto or a number of tokens
    #[arg(long, default_value = "whole", value_name = "TOKENS")]
    pub micro_batch: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
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
    serde_json::from_value(text.into()).map_err(|_| "known are txt, tsv, csv, jsonl and parquet".to_owned())
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
