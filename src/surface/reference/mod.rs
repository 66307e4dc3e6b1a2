//! The pages of the documentation that the program writes itself: every key of a recipe, every command, and what each
//! family of models can be used for.

mod commands;
mod examples;
mod keys;
pub(in crate::surface) mod markdown;
mod recipe;
mod support;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

pub use keys::{Key, keys};

/// The pages of the checkout in `root` that are generated as a whole or in part, with the text that they should have.
/// `command` is the program's command line, and `statuses` are those that it ends with.
///
/// # Errors
/// Keys of recipes that have no example, and pages that lack the marks around a generated part.
pub fn pages(root: &Path, command: clap::Command, statuses: &[(u8, &str)]) -> Result<Vec<(PathBuf, String)>> {
    let schema = crate::recipe::schema::published(crate::stages::catalog());
    let mut pages = vec![
        (root.join("docs/reference/recipe.md"), recipe::page(&schema)?),
        (root.join("docs/reference/commands.md"), commands::page(command)),
    ];
    for (page, name, text) in [
        ("README.md", "support", support::english()),
        ("README.zh.md", "support", support::chinese()),
        ("docs/guide/troubleshooting.md", "statuses", commands::statuses(statuses)),
    ] {
        let path = root.join(page);
        let text = markdown::spliced(&fs::read_to_string(&path)?, name, &text)
            .with_context(|| format!("{} has no `<!-- {name} -->` and `<!-- /{name} -->`", path.display()))?;
        pages.push((path, text));
    }
    Ok(pages)
}
