//! From YAML text to a checked recipe.
//!
//! [`load`] does it all; [`Document`] reads once and checks often, as a sweep does. What comes out is either a
//! [`Checked`] recipe or [`Diagnostics`] with every mistake that could be found.

mod check;
mod checked;
mod condition;
pub mod diagnostic;
mod document;
mod expand;
pub mod families;
mod flags;
mod halved;
mod node;
pub mod place;
mod render;
mod scalar;
pub mod schema;
mod secret;
mod shape;
mod source;
pub(crate) mod suggest;
mod typecheck;
pub mod walk;

use std::path::Path;

pub use checked::Checked;
pub use condition::Condition;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use document::{Document, Setting};
pub use halved::Halved;

/// What the command line changes in a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--var NAME=VALUE`: other values for `vars`.
    pub vars: Vec<(String, String)>,
    /// `--set PATH=VALUE`: other values anywhere, by dotted path.
    pub sets: Vec<(String, String)>,
}

/// Tells the columns of a file from its header, or none if they cannot be known.
pub type Columns<'a> = dyn Fn(&crate::spec::Source, &Path) -> Option<Vec<String>> + 'a;

/// Reads and checks a recipe.
///
/// # Errors
/// All mistakes, each with its place.
pub fn load(path: &Path, overrides: &Overrides, columns: &Columns<'_>) -> Result<Checked, Diagnostics> {
    Document::read(path)?.check(overrides, columns)
}
