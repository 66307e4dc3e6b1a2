//! What there is in a remote: its records, and whether all of it is as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore};

use super::{
    Remote,
    blobs::{self, Obstacle},
    hints::{is_outage, reason},
    shared::{PARALLEL, Shared},
};
use crate::{
    engine::store::{Artifact, Damage, FileRecord, Verification},
    support::Hinted,
};

/// What came of looking at a remote.
#[derive(Clone, Debug, Default)]
pub struct RemoteVerification {
    /// The artifacts that are there, and what is damaged or missing of them.
    pub found: Verification,
    /// Keys that it has no record of.
    pub absent: Vec<String>,
    /// Keys whose artifact in the local store has other bytes than the one there.
    pub differing: Vec<String>,
}

impl Remote {
    /// The keys of all records, as they are now; `None` where they can't be listed, as those of a plain web server.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn keys(&self) -> Result<Option<BTreeSet<String>>> {
        self.runtime.block_on(self.shared.keys()).map_err(|error| self.shared.unasked(&error))
    }

    /// The records of all artifacts; those that were seen before where the remote can't be listed.
    pub fn list(&self) -> Vec<Artifact> {
        self.runtime.block_on(async {
            let Some(keys) = self.shared.keys_or_outage().await else { return self.shared.cache.matching("") };
            let found = keys.into_iter().map(|key| async move { self.shared.find(&key).await });
            let found: Vec<Option<Artifact>> = stream::iter(found).buffered(PARALLEL).collect().await;
            found.into_iter().flatten().collect()
        })
    }

    /// The records of keys that begin so.
    pub fn matching(&self, start: &str) -> Vec<Artifact> {
        let known = self.shared.cache.matching(start);
        if !known.is_empty() {
            return known;
        }
        let listed = || {
            let keys = self.runtime.block_on(self.shared.keys_or_outage()).unwrap_or_default();
            keys.into_iter().filter(|key| key.starts_with(start)).collect()
        };
        let keys = if start.len() == 64 { vec![start.to_owned()] } else { listed() };
        keys.iter().filter_map(|key| self.find(key)).collect()
    }

    /// The records that were seen before, without asking.
    pub fn known(&self) -> Vec<Artifact> {
        self.shared.cache.matching("")
    }

    /// Whether the remote has all files of an artifact that was [found](Self::find), as they should be.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn has_files(&self, artifact: &Artifact) -> Result<bool> {
        let found = self.runtime.block_on(self.shared.has_files(artifact));
        found.map_err(|error| self.shared.unasked(&error))
    }

    /// Looks at these artifacts: asks for each record, and reads every file of them in full. Nothing of it is kept.
    /// `progress` receives how many files have been read, and of how many.
    ///
    /// # Errors
    /// If the remote can't be asked, so that nothing is known of it.
    pub fn verify(&self, keys: &[String], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<RemoteVerification> {
        self.runtime.block_on(self.shared.verify(keys, progress))
    }
}

impl Shared {
    async fn keys(&self) -> object_store::Result<Option<BTreeSet<String>>> {
        let mut listed = self.objects.list(Some(&self.address.records()));
        let mut keys = BTreeSet::new();
        while let Some(entry) = listed.next().await {
            match entry {
                Ok(entry) => keys.extend(entry.location.filename().filter(|name| is_key(name)).map(str::to_owned)),
                Err(error) if is_outage(&error) => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(keys))
    }

    /// As [`Self::keys`]; that the remote can't be reached is told, and nothing is known then.
    async fn keys_or_outage(&self) -> Option<BTreeSet<String>> {
        self.keys().await.unwrap_or_else(|error| {
            self.unreachable(&error);
            None
        })
    }

    async fn verify(&self, keys: &[String], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<RemoteVerification> {
        let mut verification = RemoteVerification::default();
        let records = keys.iter().map(|key| async move { Ok((key, self.get_record(key).await?)) });
        let records: Vec<_> =
            stream::iter(records).buffered(PARALLEL).try_collect().await.map_err(|error| self.unasked(&error))?;
        let mut artifacts = Vec::new();
        for (key, text) in records {
            match text.map(|text| self.take(key, &text)) {
                Some(Ok(artifact)) => artifacts.push(artifact),
                Some(Err(damage)) => {
                    self.reject(key);
                    let (file, problem) = (self.address.shown(&self.address.record(key)), format!("{damage:#}"));
                    verification.found.damage.push(Damage { key: key.clone(), stage: None, file, problem });
                }
                None => {
                    self.cache.forget(key);
                    verification.absent.push(key.clone());
                }
            }
        }
        let files: BTreeMap<&str, &FileRecord> =
            artifacts.iter().flat_map(|artifact| &artifact.files).map(|file| (file.digest.as_str(), file)).collect();
        let (done, total) = (AtomicUsize::new(0), files.len());
        let problems = files.values().map(|file| async {
            let _permit = self.gate.acquire().await;
            let problem = match blobs::verify(self, file).await {
                Ok(()) => None,
                Err(Obstacle::Missing) => Some("is missing"),
                Err(Obstacle::Damaged) => Some("does not match its digest"),
                Err(Obstacle::Remote(error)) => return Err(self.unasked(&error)),
                Err(Obstacle::Local(error)) => return Err(error),
            };
            progress(1 + done.fetch_add(1, Ordering::Relaxed), total);
            Ok(problem.map(|problem| (file.digest.as_str(), problem)))
        });
        let problems: Vec<_> = stream::iter(problems).buffer_unordered(PARALLEL).try_collect().await?;
        let problems: BTreeMap<&str, &str> = problems.into_iter().flatten().collect();
        problems.keys().for_each(|digest| self.reject(digest));
        for artifact in &artifacts {
            for file in artifact.files.iter() {
                let Some(problem) = problems.get(file.digest.as_str()) else { continue };
                verification.found.damage.push(Damage {
                    key: artifact.key.clone(),
                    stage: Some(artifact.provenance.stage.clone()),
                    file: self.address.shown(&self.address.blob(&file.digest)),
                    problem: format!("{} {problem}", file.path),
                });
            }
            let here = self.store.record(&artifact.key).ok().flatten();
            if here.is_some_and(|here| here.digest != artifact.digest) {
                verification.differing.push(artifact.key.clone());
            }
        }
        verification.found.artifacts = keys.len() - verification.absent.len();
        verification.found.files = files.len();
        verification.found.bytes = files.values().map(|file| file.bytes).sum();
        verification.found.damage.sort_by(|a, b| (&a.key, &a.file).cmp(&(&b.key, &b.file)));
        Ok(verification)
    }

    /// That the remote's state isn't known, since it couldn't be asked.
    fn unasked(&self, error: &Error) -> anyhow::Error {
        let reason = reason(error);
        let message = format!("the remote {} can't be looked at: {}", self.address.url(), reason.message);
        Hinted { message, hint: reason.hint }.into()
    }
}

/// Whether a name is a key; others stand there for a moment while a file is written.
fn is_key(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
