//! Exit statuses, and whether a failure comes after work has begun.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Everything was done.
pub(super) const DONE: u8 = 0;

/// A stage failed, an artifact is damaged, or something else went wrong after work had begun.
pub(super) const FAILED: u8 = 1;

/// Nothing was run: the recipe or the command line is wrong, or something that's needed can't be read.
pub(super) const WRONG: u8 = 2;

/// Ended by Ctrl-C, as shells count it.
pub(super) const INTERRUPTED: u8 = 130;

/// Whether anything was run, written or removed by now.
static WORKED: AtomicBool = AtomicBool::new(false);

/// From now on something is run, written or removed, so that an error no longer means that nothing was.
pub(super) fn work_begins() {
    WORKED.store(true, Relaxed);
}

/// The status of an error: [`FAILED`] if work has begun, or else [`WRONG`].
pub(super) fn of_error() -> u8 {
    if WORKED.load(Relaxed) { FAILED } else { WRONG }
}
