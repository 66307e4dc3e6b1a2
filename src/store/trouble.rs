//! What a person can do about a disk that is full or can't be written to.

use std::io::ErrorKind;

use anyhow::Error;

use super::{Lost, Store};

impl Store {
    /// Adds to an error of writing to the store what follows from it.
    pub(super) fn explain(&self, error: Error) -> Error {
        if error.is::<Lost>() {
            return error;
        }
        let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        let root = self.root.display();
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => self.explain_full(error),
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => error.context(format!(
                "the store at {root} can't be written to: what it has can be used, and new results need another one (--store)"
            )),
            _ => error,
        }
    }

    /// Adds what follows if it's the disk that is full, in whatever form a library reports that.
    pub fn explain_full(&self, error: Error) -> Error {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
                || cause.to_string().contains("No space left on device")
        };
        if !error.chain().any(is_full) {
            return error;
        }
        let root = self.root.display();
        error.context(format!(
            "the disk of the store at {root} is full: nothing that was finished is lost; make room (`pipe gc` tells \
             what could go) and run it again"
        ))
    }
}
