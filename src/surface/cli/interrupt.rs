//! Ctrl-C while text is written ends the text, and while stages are computed it pauses them, as SIGTERM does and SIGHUP, which
//! a terminal sends that is closed; at any other time, and the second time, it ends the program.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::exit::Exit;

/// Whether Ctrl-C was pressed, or would have nothing to end but the program.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Whether nothing is being done that could be ended early.
#[cfg(unix)]
static IDLE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Whether they are dealt with here.
static FOR_STAGES: AtomicBool = AtomicBool::new(false);

/// From now on, Ctrl-C is dealt with here. To be called once.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install() -> Result<()> {
    listen(SIGINT)
}

/// As [`install`], for SIGTERM and SIGHUP too: a shutdown leaves a few seconds' time. Once is enough.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install_for_stages() -> Result<()> {
    if FOR_STAGES.swap(true, SeqCst) {
        return Ok(());
    }
    listen(SIGINT)?;
    listen(SIGTERM)?;
    #[cfg(unix)]
    listen_for_hangup()?;
    Ok(())
}

/// Whether a job was told that its time is nearly over.
static WARNED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// As [`install_for_stages`], for a job of a cluster: SIGUSR1 tells it that its time is nearly over, and pauses it, too.
///
/// # Errors
/// If the system doesn't let us.
pub(super) fn install_for_jobs() -> Result<()> {
    install_for_stages()?;
    #[cfg(unix)]
    for told in [&ASKED, &WARNED] {
        let listen = flag::register(signal_hook::consts::SIGUSR1, Arc::clone(told));
        listen.context("failed to install the handler for SIGUSR1")?;
    }
    Ok(())
}

/// Whether a job was told that its time is nearly over.
pub(super) fn is_warned() -> bool {
    WARNED.load(SeqCst)
}

fn listen(signal: i32) -> Result<()> {
    // In this order, so that only the second one ends the program.
    let listen = flag::register_conditional_shutdown(signal, Exit::Interrupted.status().into(), Arc::clone(&ASKED))
        .and_then(|_| flag::register(signal, Arc::clone(&ASKED)));
    listen.map(|_| ()).context("failed to install the handler for Ctrl-C")
}

/// A terminal that's closed sends SIGHUP itself, and the shell in it once more, so a second one ends nothing. Where it was
/// ignored from the start, as by `nohup`, it still is.
#[cfg(unix)]
fn listen_for_hangup() -> Result<()> {
    use signal_hook::consts::SIGHUP;

    if is_ignored(SIGHUP) {
        return Ok(());
    }
    let listen = flag::register_conditional_shutdown(SIGHUP, Exit::Interrupted.status().into(), Arc::clone(&IDLE))
        .and_then(|_| flag::register(SIGHUP, Arc::clone(&ASKED)));
    listen.map(|_| ()).context("failed to install the handler for SIGHUP")
}

/// Whether a signal was ignored when the program began: what Linux tells; elsewhere nobody does, and `nohup` shows by an
/// output that isn't a terminal.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    use std::io::IsTerminal;

    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
            mask >> (signal - 1) & 1 == 1
        }
        Err(_) => !std::io::stdout().is_terminal(),
    }
}

/// Is set when Ctrl-C is pressed [`during`] something.
pub(super) fn flag() -> Arc<AtomicBool> {
    Arc::clone(&ASKED)
}

/// Does something that may be ended early.
pub(super) fn during<R>(work: impl FnOnce() -> R) -> R {
    set_idle(false);
    let result = work();
    set_idle(true);
    result
}

fn set_idle(idle: bool) {
    #[cfg(unix)]
    IDLE.store(idle, SeqCst);
    ASKED.store(idle, SeqCst);
}

/// Whether what is being done should end.
pub(super) fn requested() -> bool {
    ASKED.load(SeqCst)
}
