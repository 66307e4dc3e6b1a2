//! Where GPU backends keep what they find out: the kernels that they compiled, and which of several was the fastest.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

#[cfg(feature = "gpu")]
use cubecl_environment::{
    persistence::Database,
    records::{self, Record, RecordEffect, Records},
};
#[cfg(feature = "gpu")]
use serde::{Deserialize, Serialize};

static CACHES: OnceLock<PathBuf> = OnceLock::new();

/// Sessions, processes mostly, of which the backends' database keeps how they came by their kernels.
#[cfg(feature = "gpu")]
const SESSIONS: u32 = 8;

/// Keeps what is found out about drivers and kernels in this directory, for the processes to come on this host. To be called
/// before a device is opened; does nothing the second time.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn keep_caches(directory: &Path, host: &str) {
    if CACHES.set(directory.to_owned()).is_ok() {
        #[cfg(feature = "gpu")]
        keep_kernels(directory, host);
    }
}

/// Has backends keep what they compile and tune in this directory: in a database of each host's own, since processes of several
/// hosts can't write one on a network drive.
#[cfg(feature = "gpu")]
fn keep_kernels(directory: &Path, host: &str) {
    use burn_std::config::RuntimeConfig;
    use cubecl_runtime::config::CubeClRuntimeConfig;

    let settings = serde_json::json!({
        "environment": { "name": host, "path": { "directory": directory }, "records": { "keep_sessions": SESSIONS } },
        "compilation": { "cache": true },
    });
    if let Ok(config) = serde_json::from_value::<CubeClRuntimeConfig>(settings) {
        CubeClRuntimeConfig::try_set(config.override_from_env());
    }
}

/// Where they're kept, if anywhere.
pub(super) fn caches() -> Option<PathBuf> {
    CACHES.get().cloned()
}

/// How this process came by the kernels that it runs on GPUs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kernels {
    /// Those that it compiled, the others having been compiled before; of texts that drivers are given nobody knows.
    pub compiled: Option<usize>,
    /// Shapes for which it timed several of them, since it wasn't known which is the fastest.
    pub tuned: usize,
}

/// What this process has compiled and tuned for a device so far, where that is kept. `compiles` is whether its backend compiles
/// kernels at all.
#[cfg(feature = "gpu")]
pub fn made_kernels(compiles: bool) -> Option<Kernels> {
    use cubecl_server::compiler::{CompilationOutcome, CompilationRecord};

    caches()?;
    let database = Database::open_active()?;
    let session = records::write(RecordEffect::Observed, &Look)?.session;
    let records = Records::new(&database);
    let compiled = || {
        let compiled = records.read::<CompilationRecord>().into_iter();
        let compiled = compiled.filter(|kernel| kernel.record.outcome != CompilationOutcome::Loaded);
        compiled.filter(|kernel| kernel.stamp.session == session).count()
    };
    Some(Kernels {
        compiled: compiles.then(compiled),
        tuned: records.read::<Tuning>().iter().filter(|tuning| tuning.stamp.session == session).count(),
    })
}

/// None, in a build without GPUs.
#[cfg(not(feature = "gpu"))]
pub fn made_kernels(_compiles: bool) -> Option<Kernels> {
    None
}

/// That somebody has looked, by which this process' session is known.
#[cfg(feature = "gpu")]
#[derive(Serialize)]
struct Look;

#[cfg(feature = "gpu")]
impl Record for Look {
    const KIND: &'static str = "look";
}

/// That several kernels were timed.
#[cfg(feature = "gpu")]
#[derive(Deserialize)]
struct Tuning {}

#[cfg(feature = "gpu")]
impl Record for Tuning {
    const KIND: &'static str = "autotune";
}
