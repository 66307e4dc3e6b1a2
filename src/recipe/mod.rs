//! From YAML text to a checked recipe.
//!
//! [`load`] does it all; [`Document`] reads once and checks often, as a sweep does. What comes out is either a
//! [`Checked`] recipe or [`Diagnostics`] with every mistake that could be found.

mod beside;
mod catalog;
mod check;
mod checked;
mod condition;
mod diagnostic;
mod diagnostics;
mod document;
mod expand;
mod extension;
mod flags;
mod halved;
mod kind;
mod node;
pub mod place;
mod render;
mod scalar;
pub mod schema;
mod secret;
mod shape;
mod source;
pub mod template;
mod typecheck;
pub mod walk;

use std::path::{Path, PathBuf};

pub use catalog::{Catalog, CheckpointCheck, OpenPlace};
pub use check::{Checks, Draft};
pub use checked::Checked;
pub use condition::Condition;
pub use diagnostic::Diagnostic;
pub use diagnostics::Diagnostics;
pub use document::Document;
pub use extension::{Extension, normalized};
pub use flags::Setting;
pub use halved::Halved;
pub use kind::{DevMetrics, Kind};
pub use place::Span;

pub(crate) use crate::support::suggest;

/// What the command line changes in a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--var NAME=VALUE`: other values for `vars`.
    pub vars: Vec<(String, String)>,
    /// `--set PATH=VALUE`: other values anywhere, by dotted path.
    pub sets: Vec<(String, String)>,
}

/// Tells the columns of a source's files, or none if they cannot be known.
pub type Columns<'a> = dyn Fn(&crate::spec::Source, &DataFiles) -> Option<Vec<String>> + 'a;

/// Files of rows, and what is wanted of them.
#[derive(Clone, Debug)]
pub struct DataFiles {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Columns that are asked for; of formats whose rows have columns of their own they are looked for in all rows.
    pub wanted: Vec<String>,
}

/// Reads and checks a recipe.
///
/// # Errors
/// All mistakes, each with its place.
pub fn load(
    path: &Path,
    catalog: &'static Catalog,
    overrides: &Overrides,
    columns: &Columns<'_>,
) -> Result<Checked, Diagnostics> {
    Document::read(path, catalog)?.check(overrides, columns)
}
