//! Reads every byte of artifacts again and compares.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use rayon::prelude::*;

use super::{Artifact, FileRecord, Store, artifact::RECORD};

/// Something in the store that isn't as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The artifact's key.
    pub key: String,
    /// The name of the stage that computed it, where its record can be read.
    pub stage: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: String,
}

/// What came of looking at artifacts.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Artifacts that were looked at.
    pub artifacts: usize,
    /// Files that were read, records not counted.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// What is damaged, by key and file.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Looks at these artifacts: at every file in full, on all cores. What's damaged is a miss from then on, even where the
    /// file system says that the file is unchanged. `progress` receives how
    /// many files have been read, and of how many.
    ///
    /// # Errors
    /// If the store can't be listed.
    pub fn verify(&self, keys: &[String], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Verification> {
        let mut verification = Verification { artifacts: keys.len(), ..Verification::default() };
        let mut sound = Vec::new();
        for key in keys {
            let dir = self.artifact_dir(key);
            match Artifact::record(&dir) {
                Ok(Some(artifact)) => {
                    verification.damage.extend(strays(&artifact));
                    sound.push(artifact);
                }
                // Removed concurrently.
                Ok(None) => verification.artifacts -= 1,
                Err(error) => verification.damage.push(Damage {
                    key: key.clone(),
                    stage: None,
                    file: dir.join(RECORD),
                    problem: format!("{:#}", error.root_cause()),
                }),
            }
        }
        let files: Vec<_> =
            sound.iter().flat_map(|artifact| artifact.files.iter().map(move |file| (artifact, file))).collect();
        verification.files = files.len();
        verification.bytes = files.iter().map(|(_, file)| file.bytes).sum();
        let done = AtomicUsize::new(0);
        let check = |(artifact, file): &(&Artifact, &FileRecord)| {
            let damage = self.damage(artifact, file);
            progress(1 + done.fetch_add(1, Ordering::Relaxed), files.len());
            damage
        };
        verification.damage.extend(files.par_iter().filter_map(check).collect::<Vec<_>>());
        verification.damage.sort_by(|a, b| (&a.key, &a.file).cmp(&(&b.key, &b.file)));
        Ok(verification)
    }

    fn damage(&self, artifact: &Artifact, file: &FileRecord) -> Option<Damage> {
        let path = artifact.file(&file.path);
        let problem = match artifact.metadata(file).and_then(|_| self.integrity.read(&path, &file.digest)) {
            Ok(true) => return None,
            Ok(false) => "its content does not match its digest".into(),
            Err(_) if !path.exists() => "it is missing".into(),
            Err(error) => format!("{error:#}"),
        };
        Some(Damage { key: artifact.key.clone(), stage: Some(artifact.provenance.stage.clone()), file: path, problem })
    }
}

/// The ending of files that are kept beside an artifact's own because they can be made of these again, such as the words of a
/// corpus. No record lists them, and whoever reads them checks them.
const DERIVED: &str = "bits";

/// Files in an artifact's directory that its record doesn't list. Readers go by what is there, so they'd be taken for its own.
fn strays(artifact: &Artifact) -> Vec<Damage> {
    let entries = walkdir::WalkDir::new(&artifact.path).min_depth(1).into_iter().flatten();
    let files = entries.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path);
    let is_known = |path: &Path| {
        let is_derived = path.extension().is_some_and(|ending| ending == DERIVED);
        is_derived
            || *path == artifact.file(RECORD)
            || artifact.files.iter().any(|file| *path == artifact.file(&file.path))
    };
    let stray = |file| Damage {
        key: artifact.key.clone(),
        stage: Some(artifact.provenance.stage.clone()),
        file,
        problem: "it is not in the record".into(),
    };
    files.filter(|path| !is_known(path)).map(stray).collect()
}
