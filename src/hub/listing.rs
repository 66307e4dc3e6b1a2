//! Which files a model has at a commit, and which of them are needed.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::reference::Wanted;

/// Endings of files that describe a model: its config, its tokenizer, how it's used.
const DESCRIPTION: [&str; 5] = [".json", ".txt", ".model", ".jinja", ".tiktoken"];
/// How the names of weights begin and end, the kinds that are taken first before others.
const WEIGHTS: [(&str, &str); 2] = [("model", ".safetensors"), ("pytorch_model", ".bin")];
const ADAPTER: [(&str, &str); 2] = [("adapter_model", ".safetensors"), ("adapter_model", ".bin")];

/// The files of a model at a commit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Listing {
    pub(super) commit: String,
    files: Vec<Listed>,
}

/// A file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Listed {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// What the cache calls its content: the SHA-256 of a large file, Git's SHA-1 of a small one.
    pub(super) blob: String,
}

impl Listed {
    /// Whether its content is known by its SHA-256.
    pub(super) fn is_large(&self) -> bool {
        self.blob.len() == 64
    }
}

impl Listing {
    /// The files that are needed. Code is none of them, and of several kinds of weights one is.
    pub(super) fn wanted(&self, wanted: Wanted) -> impl Iterator<Item = &Listed> {
        let kinds = [WEIGHTS, ADAPTER]
            .map(|kinds| kinds.into_iter().find(|kind| self.files.iter().any(|file| is(file, *kind))));
        self.files.iter().filter(move |file| {
            let describes = !file.path.contains('/') && DESCRIPTION.iter().any(|ending| file.path.ends_with(ending));
            // Lists of weights are small, and of use with those that they list only.
            describes || wanted == Wanted::Model && kinds.iter().flatten().any(|kind| is(file, *kind))
        })
    }
}

/// Whether a file has weights of this kind: all of them, or a numbered part.
fn is(file: &Listed, (start, end): (&str, &str)) -> bool {
    let between = file.path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    between.is_some_and(|part| {
        part.is_empty() || part.starts_with('-') && part[1..].chars().all(|c| c.is_ascii_digit() || "-of".contains(c))
    })
}

/// What `api/models/NAME/revision/REVISION?blobs=true` answers.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

/// # Errors
/// Answers that lack what is needed, and names that lead out of the model's folder.
pub(super) fn parse(body: &[u8]) -> Result<Listing> {
    let Answer { sha, siblings } = serde_json::from_slice(body)?;
    let is_hash = |text: &str, digits: usize| text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit());
    ensure!(is_hash(&sha, 40), "its commit is `{sha}`");
    let file = |sibling: Sibling| {
        let Sibling { rfilename: path, size, blob_id, lfs } = sibling;
        let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
        ensure!(path.split('/').all(safe), "a file is called `{path}`");
        let (blob, bytes) = match lfs {
            Some(lfs) => (Some(lfs.sha256), lfs.size.or(size)),
            None => (blob_id, size),
        };
        let (blob, bytes) = blob.zip(bytes).with_context(|| format!("it has neither size nor digest of {path}"))?;
        ensure!(is_hash(&blob, 40) || is_hash(&blob, 64), "the digest of {path} is `{blob}`");
        Ok(Listed { path, bytes, blob: blob.to_ascii_lowercase() })
    };
    Ok(Listing { commit: sha.to_ascii_lowercase(), files: siblings.into_iter().map(file).collect::<Result<_>>()? })
}
