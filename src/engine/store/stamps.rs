//! The stamps of some files at one moment, by which it shows later whether any of them may have been changed meanwhile.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::digest_table::Stamp;

/// Files with the stamps that they had.
#[derive(Debug)]
pub(crate) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    /// As they are now. What can't be looked at has no stamp.
    pub(crate) fn now(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Whether each file had been left alone for so long that every later change shows in its stamp.
    pub(crate) fn are_settled(&self, now: SystemTime) -> bool {
        self.0.iter().all(|(_, stamp)| stamp.as_ref().is_none_or(|stamp| stamp.is_settled(now)))
    }

    /// The files that have been touched since.
    pub(crate) fn moved(&self) -> Vec<PathBuf> {
        let moved = self.0.iter().filter(|(path, then)| stamp(path) != *then);
        moved.map(|(path, _)| path.clone()).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}
