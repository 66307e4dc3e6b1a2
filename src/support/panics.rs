//! Panics of libraries and drivers, taken as answers.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Result, anyhow};

/// Tasks at whose panics nobody is to hear anything, on whatever thread they are.
static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether that holds for this thread.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// What a panic said, if it said something.
pub fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Runs `task`; a panic of its thread makes an error, and nothing on stderr.
///
/// # Errors
/// The first line of what the panic said.
pub(crate) fn caught<T>(task: impl FnOnce() -> T) -> Result<T> {
    keep_quiet();
    let outer = HERE.replace(true);
    // What was being done is given up after a panic, so nobody sees it in between two states.
    let outcome = catch_unwind(AssertUnwindSafe(task));
    HERE.set(outer);
    outcome.map_err(|payload| {
        anyhow!("{}", text(&*payload).unwrap_or("it failed without a word").lines().next().unwrap_or_default())
    })
}

/// The same where other threads panic too, as those of drivers do.
///
/// # Errors
/// The first line of what the panic said.
pub(crate) fn caught_everywhere<T>(task: impl FnOnce() -> T) -> Result<T> {
    EVERYWHERE.fetch_add(1, Ordering::SeqCst);
    let outcome = caught(task);
    EVERYWHERE.fetch_sub(1, Ordering::SeqCst);
    outcome
}

/// Puts a hook before the one there is, once.
fn keep_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |panic| {
            if !HERE.get() && EVERYWHERE.load(Ordering::SeqCst) == 0 {
                tell(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_and_tasks_may_be_within_others() {
        let inner = caught_everywhere(|| caught(|| panic!("no {}\nat all", "driver")).map(|()| 0));
        assert_eq!(inner.unwrap().unwrap_err().to_string(), "no driver");
        assert_eq!(caught(|| 7).unwrap(), 7);
        assert!(!HERE.get());
    }
}
