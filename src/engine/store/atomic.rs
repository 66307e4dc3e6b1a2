//! Atomic writes: a file is written under a temporary name and renamed to where readers look.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use tempfile::{Builder, NamedTempFile};

/// Creates a temporary file in a directory. Its permissions follow the umask, so that others who share the store can
/// read it; temporary files are readable by their owner alone otherwise.
pub(super) fn create(dir: &Path) -> std::io::Result<NamedTempFile> {
    let mut file = Builder::new();
    file.prefix(".new-");
    #[cfg(unix)]
    let file = file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    file.tempfile_in(dir)
}

/// Syncs a directory, so that renames in it survive a power cut, where the platform can sync directories.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
