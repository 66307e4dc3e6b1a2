//! Arguments of the commands for runs on clusters.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which store has the run.
#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Place {
    /// The profile that names the store, of the `pipe.toml` in this folder or of the user's own [default: that of `--store`]
    #[arg(long, value_name = "PROFILE")]
    pub on: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Attach {
    /// The run's name, or how it begins [default: the last one]
    pub run: Option<String>,
    #[command(flatten)]
    pub place: Place,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Status {
    /// The run's name, or how it begins [default: all of them, in a line each]
    pub run: Option<String>,
    #[command(flatten)]
    pub place: Place,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Cancel {
    /// The run's name, or how it begins [default: the last one]
    pub run: Option<String>,
    #[command(flatten)]
    pub place: Place,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Logs {
    /// The stage
    pub stage: String,
    /// The run's name, or how it begins [default: the last one]
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    #[command(flatten)]
    pub place: Place,
    /// Go on with what is added, until the stage has come to its end
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Doctor {
    /// The profile, of the `pipe.toml` in this folder or of the user's own
    #[arg(long, value_name = "PROFILE", required_unless_present = "job")]
    pub on: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Look, as a job of a cluster
    #[arg(long, value_name = "DIR", hide = true)]
    pub job: Option<PathBuf>,
    /// The remote by which to report, where machines share no disk
    #[arg(long, value_name = "URL", hide = true, requires = "job")]
    pub apart: Option<String>,
    /// The number of the task
    #[arg(long, value_name = "N", hide = true)]
    pub task: Option<usize>,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Schema {
    /// Whose schema
    #[arg(value_enum, default_value_t)]
    pub of: SchemaOf,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(in crate::surface::cli) enum SchemaOf {
    /// Recipes
    #[default]
    Recipe,
    /// Profiles in `pipe.toml`
    Profiles,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Stage {
    /// A run's folder in a store: compute a task of that run, as a job of a cluster
    #[arg(long, value_name = "DIR", requires_all = ["batch", "task"])]
    pub job: Option<PathBuf>,
    /// The remote that has the run, where machines share no disk
    #[arg(long, value_name = "URL", requires = "job")]
    pub apart: Option<String>,
    /// The number of the batch
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// The number of the task
    #[arg(long, value_name = "N")]
    pub task: Option<usize>,
}
