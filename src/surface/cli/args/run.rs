//! Arguments of the commands that run recipes or show what a run would do.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use super::recipe::{Changes, DeviceOptions, Recipe};
use crate::session::launch::FITTING;

/// Where and how to run.
#[derive(Args, Clone, Debug)]
pub(in crate::surface::cli) struct RunOptions {
    #[command(flatten)]
    pub device_options: DeviceOptions,
    /// How many independent stages may run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Run even if the estimate says that a stage won't fit into the device's memory
    #[arg(long)]
    pub ignore_memory: bool,
    /// How stages are computed: local, in this process; process, in one for each; or fitting, in one for each that a GPU computes
    #[arg(long, env = "PIPE_LAUNCHER", default_value = FITTING, value_name = "NAME", hide = true)]
    pub launcher: String,
    /// Directory for TensorBoard event files; '' writes none [default: the store's folder `tensorboard`]
    #[arg(long, env = "PIPE_TENSORBOARD", value_name = "DIR")]
    pub tensorboard: Option<OsString>,
}

/// Whether to run elsewhere.
#[derive(Args, Clone, Debug)]
pub(in crate::surface::cli) struct OnOptions {
    /// Have the stages computed on a cluster, as this profile in `pipe.toml` says
    #[arg(long, value_name = "PROFILE")]
    pub on: Option<String>,
    /// Leave when everything is submitted; `pipe attach` follows it later
    #[arg(long, requires = "on")]
    pub detach: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Run {
    #[command(flatten)]
    pub recipe: Recipe,
    #[command(flatten)]
    pub running: RunOptions,
    #[command(flatten)]
    pub on: OnOptions,
    /// Run only this stage and the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Compute this stage even if the store has it; can be repeated
    #[arg(long, value_name = "NAME")]
    pub force: Vec<String>,
    /// Check everything and show what would run, without running it
    #[arg(long)]
    pub dry_run: bool,
    /// Write what became of the stages and of what is expected of them as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Sweep {
    #[command(flatten)]
    pub recipe: Recipe,
    #[command(flatten)]
    pub running: RunOptions,
    #[command(flatten)]
    pub on: OnOptions,
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
pub(in crate::surface::cli) struct Plan {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Plan only this stage and the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    #[command(flatten)]
    pub device_options: DeviceOptions,
    /// Show what would be submitted to a cluster, as this profile in `pipe.toml` says
    #[arg(long, value_name = "PROFILE", conflicts_with = "format")]
    pub on: Option<String>,
    /// Print what would be submitted and nothing else, such as Kubernetes' manifests
    #[arg(long, requires = "on", conflicts_with = "json")]
    pub manifest: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
    /// Same as `--format json`
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(in crate::surface::cli) enum PlanFormat {
    /// A table
    #[default]
    Text,
    /// JSON
    Json,
    /// A Mermaid flow chart
    Mermaid,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Why {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The stage; or a second key, if a key is given in place of the recipe
    pub stage: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Data {
    #[command(flatten)]
    pub recipe: Recipe,
    /// The training stage
    pub stage: String,
    /// Examples to show, in the order in which the stage is given them; of a mix so many of each objective. `all` shows
    /// all that it's ever given
    #[arg(short = 'n', long = "number", default_value = "5", value_name = "N|all", value_parser = number)]
    pub number: Number,
    /// Show the examples of this step, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub step: Option<u64>,
    /// Show the examples that are made of this row of the data, counted as in messages; of corpora, of this document
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub row: Option<u64>,
    /// Print one JSON object per example
    #[arg(long)]
    pub json: bool,
}

/// So many, or all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::surface::cli) struct Number(pub Option<usize>);

fn number(text: &str) -> Result<Number, String> {
    match text {
        "all" => Ok(Number(None)),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(Number(Some(number))),
            _ => Err("expected a number above 0, or `all`".to_owned()),
        },
    }
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Check {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Hold stored results against what the recipe expects of them, too
    #[arg(long)]
    pub expect: bool,
    /// Write what became of that as JUnit's XML
    #[arg(long, value_name = "FILE", requires = "expect")]
    pub junit: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Ci {
    /// The recipe files
    #[arg(required = true, value_name = "RECIPE")]
    pub recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub running: RunOptions,
    /// The commit to compare with, as git knows it; a remote's branch is fetched where the clone lacks it [default: on GitHub
    /// and GitLab the branch that the pull request is for, or what was there before the push; or else origin/main]
    #[arg(long, value_name = "REVISION")]
    pub base: Option<String>,
    /// Write what was found as Markdown; on GitHub it's shown with the job's step in any case
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Count expectations that can't be judged as broken, such as those of a drop where the base has no stored result
    #[arg(long)]
    pub strict: bool,
    /// Write what became of the stages and of what is expected of them as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
