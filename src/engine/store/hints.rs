//! What a person can do about a disk that is full or can't be written to.

use std::{fmt, io::ErrorKind, path::PathBuf};

use anyhow::Error;

use super::{Lost, Store, is_full};

/// The disk is full.
#[derive(Debug)]
struct Full {
    root: PathBuf,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk of the store at {} is full: no finished result is lost; free some space (`pipe gc` lists what can be \
             removed) and run again",
            self.root.display()
        )
    }
}

impl Store {
    /// Adds to an error of writing to the store what follows from it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        match kind {
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) if !error.is::<Lost>() => {
                error.context(format!(
                    "the store at {} is not writable: stored results can be used, but new ones need another store (--store)",
                    self.root.display()
                ))
            }
            _ => self.explain_full(error),
        }
    }

    /// Adds what follows if it's the disk that is full, in whatever form a library reports that.
    pub fn explain_full(&self, error: Error) -> Error {
        if error.is::<Full>() || !is_full(&error) {
            return error;
        }
        error.context(Full { root: self.root.clone() })
    }
}
