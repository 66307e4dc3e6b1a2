//! Arguments that several commands share: a recipe, changes to it, and devices.

use std::path::PathBuf;

use clap::Args;

/// A recipe, and changes to it.
#[derive(Args, Clone, Debug)]
pub(in crate::surface::cli) struct Recipe {
    /// The recipe file
    pub recipe: PathBuf,
    #[command(flatten)]
    pub changes: Changes,
}

/// Changes to a recipe.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::surface::cli) struct Changes {
    /// Override a setting, such as `stages.base.train.lr=1e-4`; can be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Override a variable of `vars`; can be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub vars: Vec<(String, String)>,
}

/// Where to run.
#[derive(Args, Clone, Debug)]
pub(in crate::surface::cli) struct DeviceOptions {
    /// Device to run on: auto, cpu, cuda, cuda:N, vulkan, wgpu or metal [default: the recipe's]
    #[arg(long)]
    pub device: Option<String>,
    /// Several devices that share each training step: cuda:0-3 or cuda:0,cuda:2; cuda or auto for all of them
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` isn't of the form NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}
