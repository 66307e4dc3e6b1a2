//! How much room a disk has, and whether an error means that it has none.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Bytes that can still be written below a path, whether it's there yet or not; `None` where nobody tells.
pub fn free_space(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|path| path.exists())?;
    // What POSIX has for it; the standard library has nothing.
    let told = Command::new("df").arg("-Pk").arg(there).env("LC_ALL", "C").stderr(Stdio::null()).output().ok()?;
    parse(std::str::from_utf8(&told.stdout).ok()?)
}

/// The column before that of percents, which is the last but for the place: names may contain spaces.
fn parse(text: &str) -> Option<u64> {
    let words: Vec<_> = text.lines().nth(1)?.split_whitespace().collect();
    let percents = words.iter().position(|word| word.strip_suffix('%').is_some_and(|n| n.parse::<u64>().is_ok()))?;
    Some(words.get(percents.checked_sub(1)?)?.parse::<u64>().ok()?.saturating_mul(1024))
}

/// Whether an error means that a disk is full, in whatever form a library reports that.
pub fn is_full(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(StorageFull | QuotaExceeded)) || cause.to_string().contains("No space left on device")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_of_free_blocks_is_read() {
        let text = "Filesystem     1024-blocks      Used Available Capacity Mounted on\n\
                    some name        959786032 700000 245813924      73% /my disk\n";
        assert_eq!(parse(text), Some(245_813_924 * 1024));
        assert_eq!(parse("df: no such thing\n"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(&dir.path().join("a/b")).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn full_disk_is_known_by_kind_and_by_words() {
        let kind = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull)).context("writing");
        assert!(is_full(&kind) && is_full(&anyhow::anyhow!("I/O: No space left on device (os error 28)")));
        assert!(!is_full(&anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::NotFound))));
    }
}
