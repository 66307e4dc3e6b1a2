//! From YAML text to a checked recipe.
//!
//! [`load`] does it all; [`Document`] reads once and checks often, as a sweep does. What comes out is either a
//! [`Checked`] recipe or [`Diagnostics`] with every mistake that could be found.

mod catalog;
mod check;
mod checked;
mod checks;
mod condition;
mod diagnostic;
mod diagnostics;
mod document;
mod draft;
mod expand;
mod extension;
mod flags;
mod halved;
mod kind;
mod kind_rules;
mod node;
mod open_place;
pub mod paths;
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

use std::path::Path;

pub use catalog::{Catalog, CheckpointCheck};
pub use checked::Checked;
pub use checks::Checks;
pub use condition::Condition;
pub use diagnostic::Diagnostic;
pub use diagnostics::Diagnostics;
pub use document::Document;
pub use draft::Draft;
pub use extension::{Extension, normalized};
pub use flags::Setting;
pub use halved::Halved;
pub use kind::{DevMetrics, Kind};
pub use kind_rules::KindRules;
pub use open_place::OpenPlace;
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

/// Tells the columns of a file from its header, or none if they cannot be known.
pub type Columns<'a> = dyn Fn(&crate::spec::Source, &Path) -> Option<Vec<String>> + 'a;

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
