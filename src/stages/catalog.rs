//! What recipes may name, out of the registries.

use parking_lot::Mutex;

use super::{KINDS, check};
use crate::recipe::{Catalog, Kind};

/// The catalog that recipes are read with: all that this program knows, and what has been registered beside it.
pub fn catalog() -> &'static Catalog {
    /// The one of so many registrations.
    static CATALOG: Mutex<Option<(usize, &'static Catalog)>> = Mutex::new(None);
    let registrations = KINDS.registrations();
    let mut made = CATALOG.lock();
    match *made {
        Some((count, catalog)) if count == registrations => catalog,
        _ => {
            let kinds = KINDS.all().into_iter().map(|kind| kind as &'static dyn Kind).collect();
            let catalog: &'static Catalog = Box::leak(Box::new(Catalog::new(kinds, Vec::new(), check::checkpoint)));
            *made = Some((registrations, catalog));
            catalog
        }
    }
}
