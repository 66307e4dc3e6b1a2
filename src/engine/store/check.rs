//! What must hold of a record, wherever it comes from: a record is a file like others, and may be damaged or made to do
//! harm.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{
    Artifact, FileRecord,
    artifact::{RECORD, output_digest},
};

impl Artifact {
    /// Holds the record against itself: the key is its manifest's, the digest its files', and each file lies within the
    /// artifact's directory, under a name of its own.
    ///
    /// # Errors
    /// What doesn't hold.
    pub fn check(&self) -> Result<()> {
        ensure!(self.key == self.manifest.key(), "its key does not match its manifest");
        ensure!(self.digest == output_digest(&self.files), "its digest does not match its files");
        let mut paths = BTreeSet::new();
        for file in &self.files {
            ensure!(is_within(&file.path), "it names a file outside its directory: {:?}", file.path);
            ensure!(is_digest(&file.digest), "the digest of {:?} is malformed", file.path);
            ensure!(paths.insert(&file.path), "it lists {:?} twice", file.path);
        }
        Ok(())
    }

    /// Its files, those of equal bytes once.
    pub fn blobs(&self) -> Vec<&FileRecord> {
        let mut seen = BTreeSet::new();
        self.files.iter().filter(|file| seen.insert(&file.digest)).collect()
    }
}

/// Whether a path goes down from the artifact's directory and nowhere else, on any system.
fn is_within(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    path != RECORD && path.split('/').all(plain)
}

/// Whether a text is a BLAKE3 digest as it's written here, and so a file name too.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
