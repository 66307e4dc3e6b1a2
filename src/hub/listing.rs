//! Which files a model or a data set has at a commit, and which of them are needed.

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use serde::{Deserialize, Serialize};

use super::reference::Wanted;

/// Endings of files that describe a model: its config, its tokenizer, how it's used.
const DESCRIPTION: [&str; 5] = [".json", ".txt", ".model", ".jinja", ".tiktoken"];
/// How the names of weights begin and end, the kinds that are taken first before others.
const WEIGHTS: [(&str, &str); 2] = [("model", ".safetensors"), ("pytorch_model", ".bin")];
const ADAPTER: [(&str, &str); 2] = [("adapter_model", ".safetensors"), ("adapter_model", ".bin")];

/// The files of a model or a data set at a commit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Listing {
    /// The commit's hash; where a hub doesn't tell it, a digest of what the files are.
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
    /// The files that are needed. Of a model's, code is none of them, and of several kinds of weights one is.
    pub(super) fn wanted<'a>(&'a self, wanted: Wanted<'a>) -> impl Iterator<Item = &'a Listed> {
        let kinds = [WEIGHTS, ADAPTER]
            .map(|kinds| kinds.into_iter().find(|kind| self.files.iter().any(|file| is(file, *kind))));
        self.files.iter().filter(move |file| {
            let describes = !file.path.contains('/') && DESCRIPTION.iter().any(|ending| file.path.ends_with(ending));
            match wanted {
                Wanted::Files(takes) => takes(&file.path),
                Wanted::Description => describes,
                // Lists of weights are small, and of use with those that they list only.
                Wanted::Model => describes || kinds.iter().flatten().any(|kind| is(file, *kind)),
            }
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

/// What Hugging Face answers: `api/models/NAME/revision/REVISION?blobs=true`.
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
pub(super) fn of_hugging_face(body: &[u8]) -> Result<Listing> {
    let Answer { sha, siblings } = serde_json::from_slice(body)?;
    ensure!(is_hash(&sha, 40), "its commit is `{sha}`");
    let file = |Sibling { rfilename, size, blob_id, lfs }: Sibling| match lfs {
        Some(lfs) => listed(rfilename, lfs.size.or(size), Some(lfs.sha256)),
        None => listed(rfilename, size, blob_id),
    };
    Ok(Listing { commit: sha.to_ascii_lowercase(), files: siblings.into_iter().map(file).collect::<Result<_>>()? })
}

/// What ModelScope answers: `api/v1/models/NAME/repo/files?Revision=REVISION&Recursive=true`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Files {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    path: String,
    #[serde(default)]
    r#type: String,
    size: Option<u64>,
    sha256: Option<String>,
}

/// # Errors
/// As [`of_hugging_face`].
pub(super) fn of_model_scope(body: &[u8]) -> Result<Listing> {
    let Files { data } = serde_json::from_slice(body)?;
    let entries = data.files.into_iter().filter(|entry| entry.r#type != "tree");
    let mut files: Vec<Listed> =
        entries.map(|Entry { path, size, sha256, .. }| listed(path, size, sha256)).collect::<Result<_>>()?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    // Which commit that is isn't told.
    let mut whole = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    files.iter().for_each(|file| whole.update(format!("{} {}\n", file.blob, file.path).as_bytes()));
    Ok(Listing { commit: HEXLOWER.encode(whole.finish().as_ref()), files })
}

fn listed(path: String, bytes: Option<u64>, blob: Option<String>) -> Result<Listed> {
    let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    ensure!(path.split('/').all(safe), "a file is called `{path}`");
    let (blob, bytes) = blob.zip(bytes).with_context(|| format!("it has neither size nor digest of {path}"))?;
    ensure!(is_hash(&blob, 40) || is_hash(&blob, 64), "the digest of {path} is `{blob}`");
    Ok(Listed { path, bytes, blob: blob.to_ascii_lowercase() })
}

fn is_hash(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit())
}
