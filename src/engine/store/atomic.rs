//! Atomic writes: a file is written under a temporary name, brought to the disk and renamed to where readers look. Whatever
//! the moment of a power cut, there is the old file or the new one, and perhaps one with a temporary name, which is
//! cleared away when the store is opened next.

use std::{
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use fs_err as fs;
use tempfile::{Builder, NamedTempFile};

use super::holder;

/// What temporary names begin with; who makes the file follows.
const PREFIX: &str = ".new-";

/// How old a temporary file is at least that nobody writes any more, where its writer can't be looked for.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Creates a temporary file in a directory. Its permissions follow the umask, so that others who share the store can
/// read it; temporary files are readable by their owner alone otherwise.
pub(super) fn create(dir: &Path) -> std::io::Result<NamedTempFile> {
    let prefix = format!("{PREFIX}{}-", holder::mark());
    let mut file = Builder::new();
    file.prefix(&prefix);
    #[cfg(unix)]
    let file = file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    file.tempfile_in(dir)
}

/// A temporary file in a directory with these bytes, which are on the disk.
pub(super) fn prepare(dir: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut file = create(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes a file as a whole, in place of what's there.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file lies in a directory")?;
    let what = || format!("failed to write {}", path.display());
    prepare(dir, bytes).and_then(|file| Ok(file.persist(path)?)).with_context(what)?;
    sync_dir(dir)
}

/// Copies a file into the store as a whole; `mode` is its permissions where there are such.
///
/// # Errors
/// If the file can't be read, or the other not be written.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let dir = to.parent().context("a file lies in a directory")?;
    let what = || format!("failed to copy {} into the store", from.display());
    let mut source = fs::File::open(from)?;
    let mut file = create(dir).with_context(what)?;
    std::io::copy(&mut source, &mut file).with_context(what)?;
    #[cfg(unix)]
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).with_context(what)?;
    #[cfg(not(unix))]
    let _ = mode;
    file.as_file().sync_all().with_context(what)?;
    // Closed before, since a program that's open for writing can't be run.
    file.into_temp_path().persist(to).with_context(what)?;
    sync_dir(dir)
}

/// Syncs a directory, so that renames in it survive a power cut, where the platform can sync directories.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Whether there are temporary files in a directory.
pub(super) fn has_leftovers(dir: &Path) -> bool {
    leftovers(dir).next().is_some()
}

/// Removes the temporary files of processes that have ended, and those that don't tell whose they are once they're old; or
/// at once if no other process can be making `nameless` ones.
pub(super) fn clear(dir: &Path, nameless: bool) {
    for entry in leftovers(dir) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mark = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-')).map(|(mark, _)| mark);
        let age = || SystemTime::now().duration_since(entry.metadata().ok()?.modified().ok()?).ok();
        let is_left = match mark.map(holder::is_gone) {
            Some(Some(is_gone)) => is_gone,
            None if nameless => true,
            _ => age().is_some_and(|age| age > ABANDONED),
        };
        if is_left {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn leftovers(dir: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_left = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
    entries.filter(move |entry| is_left(entry) && entry.file_type().is_ok_and(|kind| kind.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn temporary_files_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (own, mark) = (prepare(dir.path(), b"half").unwrap(), holder::mark());
        let (pid, rest) = mark.split_once('.').unwrap();
        let dead = path(&format!(".new-{pid}.1{rest}-abcdef"));
        let (young, old, other) = (path(".new-abcdef"), path(".new-ghijkl"), path("new"));
        for file in [&dead, &young, &old, &other] {
            std::fs::write(file, "").unwrap();
        }
        let then = SystemTime::now() - 2 * ABANDONED;
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(then).unwrap();
        clear(dir.path(), false);
        assert_eq!([own.path(), &dead, &young, &old, &other].map(Path::exists), [true, false, true, false, true]);
        assert!(has_leftovers(dir.path()));
        clear(dir.path(), true);
        assert_eq!([own.path(), &young, &other].map(Path::exists), [true, false, true]);
        drop(own);
        assert!(!has_leftovers(dir.path()));
    }

    #[test]
    fn file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
