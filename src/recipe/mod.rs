//! From YAML text to a checked recipe.
//!
//! [`load`] does it all; [`Document`] reads once and checks often, as a sweep does. What comes out is either a
//! [`Checked`] recipe or [`Diagnostics`] with every mistake that could be found.

mod beside;
mod catalog;
mod chains;
mod check;
mod checked;
mod checks;
pub mod code;
mod coerce;
mod condition;
mod diagnostic;
mod diagnostics;
mod document;
mod draft;
mod dynamic;
mod expand;
mod extension;
mod flags;
mod halved;
mod kind;
mod kind_rules;
mod node;
mod open_place;
mod overrides;
pub mod paths;
pub mod place;
mod render;
mod scalar;
pub mod schema;
mod secret;
pub mod settings;
mod shape;
mod source;
mod supplement;
pub mod template;
mod toml;
mod typecheck;
pub mod walk;
mod written;

use std::path::Path;

pub use catalog::{Catalog, CheckpointCheck};
pub use chains::{Chains, Step};
pub use checked::Checked;
pub use checks::{Checks, Columns, DataFiles};
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
pub use overrides::Overrides;
pub use place::Span;
pub use supplement::Supplement;

pub(crate) use crate::support::suggest;

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
