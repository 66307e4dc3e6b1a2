//! What recipes may name, out of the registries.

use std::sync::LazyLock;

use crate::recipe::Catalog;

/// The catalog that recipes are read with: all that this program knows, and what was registered beside it.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::new(Vec::new()));
    &CATALOG
}
