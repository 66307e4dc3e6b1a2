//! Arguments of the commands that show results.

use std::path::PathBuf;

use clap::Args;

use super::recipe::{Changes, Recipe};

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Compare {
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
pub(in crate::surface::cli) struct Report {
    #[command(flatten)]
    pub recipe: Recipe,
    /// File to write [default: the recipe's name with .html, in the working directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
