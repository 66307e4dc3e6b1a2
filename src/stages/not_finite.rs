//! What is done on a GPU about a training whose numbers are no longer finite. Drivers and compilers have faults that no trial
//! finds, so it isn't taken for a matter of its settings at once: it's computed again from its last checkpoint with a look at
//! what each kernel gives ([`watch`](crate::network::kernels::watch)), and where a kernel is to blame, once more without.

use anyhow::Result;

use super::Devices;
use crate::{
    engine::executor::{Computed, Event, Job},
    learning::train::Diverged,
    network::kernels::watch::Watch,
    support::Detailed,
};

/// Computes a stage, and again where that may help.
///
/// # Errors
/// Those of the stage; of a training that diverged whatever was tried, what was found out about it.
pub(super) fn recovered(job: &Job<'_>, devices: &Devices, compute: &dyn Fn() -> Result<Computed>) -> Result<Computed> {
    let first = match compute() {
        Err(error) if devices.choices().first.is_gpu() => error,
        done => return done,
    };
    let Some(Diverged { step, what, .. }) = Detailed::detail(&first) else { return Err(first) };
    let again = |what: &str, how: &str| {
        job.report(Event::Note(&format!("{what}; it's computed again, {how}")));
        job.starts_over()
    };
    again(what, "with a look at what each kernel gives")?;
    let watched = {
        let _watch = Watch::until(*step);
        compute()
    };
    let error = match watched {
        Ok(computed) => {
            job.report(Event::Note(&format!(
                "step {step} was finite the second time, so the device or its driver is unreliable"
            )));
            return Ok(computed);
        }
        Err(error) => error,
    };
    let Some(Diverged { what, .. }) = Detailed::detail(&error).filter(|diverged: &&Diverged| diverged.by_kernel) else {
        return Err(error);
    };
    again(what, "by burn's operations in the place of kernels")?;
    devices.give_up_kernels(what)?;
    compute().map_err(|last| if Detailed::detail::<Diverged>(&last).is_some() { error } else { last })
}
