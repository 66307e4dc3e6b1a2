//! What GPU backends do of themselves in this process: as its recipes say, or as was found to go wrong.

use parking_lot::Mutex;

#[cfg(feature = "gpu")]
use crate::network::kernels;
use crate::spec::Gpu;

static KEPT_TO: Mutex<Gpu> = Mutex::new(Gpu { fusion: true, autotune: true });

/// Has GPU backends do no more than this, in devices that are still to be opened; what they were kept from before they stay
/// kept from.
pub fn keep_to(gpu: Gpu) {
    let mut kept = KEPT_TO.lock();
    *kept = kept.and(gpu);
}

/// What GPU backends do. `PIPE_FUSION=0` and `PIPE_AUTOTUNE=0` keep them from it too.
pub fn gpu() -> Gpu {
    let asked = Gpu { fusion: asked(FUSION) != Some(false), autotune: asked(AUTOTUNE) != Some(false) };
    KEPT_TO.lock().and(asked)
}

/// What keeps another process of this program to `gpu`, in its environment.
pub fn environment(gpu: Gpu) -> impl Iterator<Item = (&'static str, &'static str)> {
    let kept = [(FUSION, gpu.fusion), (AUTOTUNE, gpu.autotune)].into_iter().filter(|(_, does)| !does);
    kept.map(|(variable, _)| (variable, "0"))
}

const FUSION: &str = "PIPE_FUSION";
const AUTOTUNE: &str = "PIPE_AUTOTUNE";

fn asked(variable: &str) -> Option<bool> {
    match std::env::var(variable).as_deref() {
        Ok("0") => Some(false),
        Ok("1") => Some(true),
        _ => None,
    }
}

/// Keeps backends from what they're not to do, before a device is opened. Operations are fused on a software driver where
/// `PIPE_FUSION` is 1 only: on SwiftShader burn 0.22's fused operations give wrong gradients, of a linear layer below a softmax
/// for one.
#[cfg(feature = "gpu")]
pub(super) fn limit(software: bool) {
    let Gpu { fusion, autotune } = gpu();
    if !fusion || software && asked(FUSION) != Some(true) {
        stop_fusing();
    }
    if !autotune {
        kernels::stop_tuning();
    }
}

/// Has burn compute every operation by itself from now on, in the whole process.
#[cfg(feature = "gpu")]
fn stop_fusing() {
    use burn_std::config::{BurnConfig, RuntimeConfig};

    let settings = serde_json::json!({ "fusion": { "beam_search": { "max_explorations": 0 } } });
    if let Ok(config) = serde_json::from_value::<BurnConfig>(settings) {
        // Does nothing the second time.
        BurnConfig::try_set(config);
    }
}

/// What there is to say of a GPU whose backend is kept from something.
pub(super) fn kept_from() -> impl Iterator<Item = String> {
    let Gpu { fusion, autotune } = gpu();
    let said = [(fusion, "without fusion"), (autotune, "without autotune")];
    said.into_iter().filter(|(done, _)| !done).map(|(_, what)| what.to_owned())
}
