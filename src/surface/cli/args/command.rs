//! The command line as a whole: options of all commands, and the list of commands.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use super::{
    cluster::{Attach, Cancel, Doctor, Logs, Schema, Stage, Status},
    model::{Chat, Export, Generate, Predict},
    results::{Compare, Report},
    run::{Check, Ci, Data, Plan, Run, Sweep, Why},
    store::{Gc, Log, Ls, Pin, Rm, Show, Transfer, Unpin, Verify},
    tools::{Bench, Completions, Devices, Init, Reference},
};
use crate::surface::cli::exit;

/// Declarative language-model pipelines: tokenize, pretrain, finetune and evaluate from one recipe, cached by content
#[derive(Debug, Parser)]
#[command(
    name = "pipe",
    version,
    arg_required_else_help = true,
    after_help = exit::help()
)]
pub(in crate::surface::cli) struct Arguments {
    /// Directory of the artifact store
    #[arg(long, global = true, env = "PIPE_STORE", default_value = ".pipe", value_name = "DIR")]
    pub store: PathBuf,
    /// Cache shared between machines: s3://, gs://, az://, file:// or http(s)://; credentials come from the environment
    #[arg(long, global = true, env = "PIPE_REMOTE", hide_env_values = true, value_name = "URL")]
    pub remote: Option<String>,
    /// Only read the remote: what is computed here isn't written to it. `--remote-readonly=false` writes to it in any case
    /// [default: true for pull requests from forks, or else false]
    #[arg(long, global = true, env = "PIPE_REMOTE_READONLY", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub remote_readonly: Option<bool>,
    /// Log decisions and waits to stderr; twice for more. `PIPE_LOG` filters by part of the program, such as
    /// `PIPE_LOG=pipe::engine::remote=debug`
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(in crate::surface::cli) enum Command {
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
    /// Run what changed in recipes, compare it with what git has of them in another commit, and tell whether it's as the
    /// recipes expect: for reruns in CI
    Ci(Ci),
    /// Show a training stage's examples exactly as the model is given them: tokens, masks, segments, targets, loss weights,
    /// and what was cut off. Nothing is trained
    Data(Data),
    /// Show what past runs did: what ran, what failed and with what, what took longest, what the cache saved
    Log(Log),
    /// List the artifacts in the store, and those in the remote if one is named
    Ls(Ls),
    /// Show an artifact: what it was made from, its metrics and its files
    Show(Show),
    /// Read every artifact again, and all that the remote has if one is named, and list what is damaged
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
    /// Upload a recipe's artifacts as far as the remote lacks them, or has lost or damaged files of them
    Push(Transfer),
    /// Download a recipe's artifacts from the remote, with all their files
    Pull(Transfer),
    /// Write a commented recipe for your own data file, or one that comes with the program
    Init(Init),
    /// Print the JSON Schema of recipes, or of profiles
    Schema(Schema),
    /// Write the generated pages of the documentation
    #[command(hide = true)]
    Reference(Reference),
    /// List the devices that recipes can run on
    Devices(Devices),
    /// Time training steps on each device
    Bench(Bench),
    /// Print completions for a shell
    Completions(Completions),
    /// Follow a run on a cluster again, and submit what it lacks
    Attach(Attach),
    /// Show runs on clusters, or how far the stages of one are
    Status(Status),
    /// End the jobs of a run on a cluster
    Cancel(Cancel),
    /// Show what a stage's job has printed
    Logs(Logs),
    /// Look at a cluster before anything is run there: its machines, the store, and what the site refuses
    Doctor(Doctor),
    /// Compute the stage of the job on stdin, and report on stdout; or a task of a run on a cluster
    #[command(hide = true)]
    Stage(Stage),
}

impl Command {
    /// Whether it looks at a remote, if one is named. Where it doesn't, `--remote` is a mistake; `PIPE_REMOTE` is for others.
    pub(in crate::surface::cli) fn takes_remote(&self) -> bool {
        match self {
            Self::Run(_) | Self::Ci(_) | Self::Sweep(_) | Self::Plan(_) | Self::Why(_) | Self::Data(_) => true,
            Self::Compare(_) | Self::Report(_) | Self::Ls(_) | Self::Show(_) | Self::Verify(_) => true,
            Self::Gc(_) | Self::Pin(_) | Self::Push(_) | Self::Pull(_) => true,
            Self::Predict(_) | Self::Generate(_) | Self::Chat(_) | Self::Export(_) => true,
            Self::Check(check) => check.expect,
            Self::Log(_) | Self::Unpin(_) | Self::Rm(_) | Self::Init(_) | Self::Schema(_) | Self::Reference(_) => false,
            Self::Attach(_) | Self::Status(_) | Self::Cancel(_) | Self::Logs(_) | Self::Doctor(_) => false,
            Self::Devices(_) | Self::Bench(_) | Self::Completions(_) | Self::Stage(_) => false,
        }
    }
}
