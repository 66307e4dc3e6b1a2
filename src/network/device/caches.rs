//! Where GPU backends keep what they find out.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

static CACHES: OnceLock<PathBuf> = OnceLock::new();

/// Keeps what is found out about drivers in this directory, and what GPU backends find out about kernels, if they're built to
/// keep that (burn's feature `persistence`, which isn't among ours). To be called before a device is opened; does nothing the
/// second time.
pub fn keep_caches(directory: &Path) {
    let _ = CACHES.set(directory.to_owned());
    #[cfg(feature = "gpu")]
    {
        use burn_std::config::RuntimeConfig;
        use cubecl_runtime::config::CubeClRuntimeConfig;

        let settings = serde_json::json!({ "environment": { "path": { "directory": directory } } });
        if let Ok(config) = serde_json::from_value::<CubeClRuntimeConfig>(settings) {
            CubeClRuntimeConfig::try_set(config.override_from_env());
        }
    }
}

/// Where they're kept, if anywhere.
pub(super) fn caches() -> Option<PathBuf> {
    CACHES.get().cloned()
}
