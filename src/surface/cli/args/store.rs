//! Arguments of the commands that manage the store and the remote.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::recipe::{Changes, Recipe};

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Ls {
    /// Show the total size per stage
    #[arg(long)]
    pub by_stage: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Log {
    /// The run, by its name or the beginning of it; `last` for the one that was begun last [default: lists the runs]
    pub run: Option<String>,
    /// Show only the stages that the run waited for, one after the other [default: of the last run]
    #[arg(long)]
    pub critical_path: bool,
    /// How many runs are listed
    #[arg(short = 'n', long = "number", default_value_t = 20, value_name = "N")]
    pub number: usize,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Show {
    /// A key or a prefix of one
    pub key: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Verify {
    /// Keys, or prefixes of keys, of the artifacts to verify [default: all]
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Gc {
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
pub(in crate::surface::cli) struct Pin {
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
pub(in crate::surface::cli) struct Unpin {
    /// The pin's name
    pub name: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Rm {
    /// Keys, or prefixes of keys, of the artifacts to remove
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(in crate::surface::cli) struct Transfer {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Only this stage and, for a push, the stages it depends on; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
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
