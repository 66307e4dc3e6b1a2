//! Ctrl-C while text is written ends the text; at any other time, and the second time, it ends the program.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use anyhow::{Context, Result};
use signal_hook::{consts::SIGINT, flag};

use super::INTERRUPTED;

/// Whether Ctrl-C was pressed, or would have nothing to end but the program.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// From now on, Ctrl-C is dealt with here. To be called once.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install() -> Result<()> {
    // In this order, so that only the second one ends the program.
    let listen = flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&ASKED))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&ASKED)));
    listen.map(|_| ()).context("can't listen for Ctrl-C")
}

/// Writes something that may be ended early.
pub(super) fn during<R>(write: impl FnOnce() -> R) -> R {
    ASKED.store(false, SeqCst);
    let result = write();
    ASKED.store(true, SeqCst);
    result
}

/// Whether what is being written should end.
pub(super) fn asked() -> bool {
    ASKED.load(SeqCst)
}
