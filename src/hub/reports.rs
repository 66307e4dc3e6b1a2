//! Who is told what is fetched, and how far that is.

use std::sync::OnceLock;

static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// From now on `report` is told what is fetched, and how far that is.
pub fn report_with(report: fn(&str)) {
    // Whoever comes second has the same to tell to the same people.
    let _ = REPORT.set(report);
}

/// Tells it.
pub(super) fn report(line: &str) {
    if let Some(report) = REPORT.get() {
        report(line);
    }
}
