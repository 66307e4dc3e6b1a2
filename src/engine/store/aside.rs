//! New files, written aside and then renamed to where readers look.

use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// A file in a directory, with a name that nobody looks for. Whoever may use the store may read it, as the user's mask
/// says; temporary files are otherwise their owner's alone.
pub(super) fn create(dir: &Path) -> std::io::Result<NamedTempFile> {
    let mut file = Builder::new();
    file.prefix(".new-");
    #[cfg(unix)]
    let file = file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    file.tempfile_in(dir)
}
