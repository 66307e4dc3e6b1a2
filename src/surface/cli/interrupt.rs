//! Ctrl-C while text is written ends the text, and while stages are computed it pauses them, as SIGTERM does; at any other
//! time, and the second time, it ends the program.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::exit::INTERRUPTED;

/// Whether Ctrl-C was pressed, or would have nothing to end but the program.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// From now on, Ctrl-C is dealt with here. To be called once.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install() -> Result<()> {
    listen(SIGINT)
}

/// As [`install`], for SIGTERM too: a shutdown leaves a few seconds' time.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install_for_stages() -> Result<()> {
    listen(SIGINT)?;
    listen(SIGTERM)
}

fn listen(signal: i32) -> Result<()> {
    // In this order, so that only the second one ends the program.
    let listen = flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&ASKED))
        .and_then(|_| flag::register(signal, Arc::clone(&ASKED)));
    listen.map(|_| ()).context("failed to install the handler for Ctrl-C")
}

/// Is set when Ctrl-C is pressed [`during`] something.
pub(super) fn flag() -> Arc<AtomicBool> {
    Arc::clone(&ASKED)
}

/// Does something that may be ended early.
pub(super) fn during<R>(work: impl FnOnce() -> R) -> R {
    ASKED.store(false, SeqCst);
    let result = work();
    ASKED.store(true, SeqCst);
    result
}

/// Whether what is being done should end.
pub(super) fn requested() -> bool {
    ASKED.load(SeqCst)
}
