//! A stage's state to resume from after a stop: files, and a record that vouches for them.
//!
//! The record is written aside and renamed, after the files that it names are on the disk: whatever the moment of a crash,
//! there is the old state or the new one. It carries the version of its form and of the program, the key of the
//! computation that it belongs to, the digests of its files and one of itself. What doesn't match is never resumed from.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{
    artifact::FileRecord,
    atomic::sync_dir,
    digest_table::digest_file,
    workspace::{remove, size},
};

/// The version of the form written by this code.
const FORMAT: u32 = 1;
const PIPE: &str = env!("CARGO_PKG_VERSION");

/// Knows whether what a state is made of was learned from what its key says.
pub trait Vouch: Debug + Send + Sync {
    /// Looks at what has been read by now.
    ///
    /// # Errors
    /// If it isn't, or may not be, what the key says.
    fn vouch(&self) -> Result<()>;

    /// Digests of what is read, by the field that names it.
    fn inputs(&self) -> &BTreeMap<String, String>;
}

/// A directory for the state of one computation. It's made when something is first kept.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
    key: String,
    voucher: Option<Arc<dyn Vouch>>,
}

/// The record: a line with the digest of the rest, and the rest as JSON.
#[derive(Deserialize, Serialize)]
struct Record<T> {
    format: u32,
    pipe: String,
    key: String,
    /// Digests of what it was learned from. Older records don't have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, String>,
    files: Vec<FileRecord>,
    body: T,
}

/// What other machines resume from.
#[derive(Debug)]
pub struct PackedState {
    /// The record's text.
    pub record: Vec<u8>,
    /// The files that it vouches for.
    pub files: Vec<FileRecord>,
}

impl State {
    /// The record's file name.
    pub const RECORD: &str = "state.json";

    /// The state of the computation with this key, kept in `dir`.
    pub fn new(dir: PathBuf, key: &str) -> Self {
        Self { dir, key: key.to_owned(), voucher: None }
    }

    /// The same; nothing is kept any more that this doesn't vouch for.
    pub fn vouched_by(self, voucher: Arc<dyn Vouch>) -> Self {
        Self { voucher: Some(voucher), ..self }
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        size(&self.dir)
    }

    /// Where the files lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of one of its files, or of one that is to become one; the directory is made.
    ///
    /// # Errors
    /// The file system's.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        Ok(self.dir.join(name))
    }

    /// Brings a written file to the disk, so that a record can vouch for it.
    ///
    /// # Errors
    /// The file system's.
    pub fn seal(&self, name: &str) -> Result<FileRecord> {
        let path = self.dir.join(name);
        let file = fs::File::open(&path)?;
        file.sync_all()?;
        Ok(FileRecord { path: name.to_owned(), bytes: file.metadata()?.len(), digest: digest_file(&path)? })
    }

    /// Keeps `body` and these files in place of what was kept before.
    ///
    /// # Errors
    /// The file system's, and that of [`Vouch::vouch`]; what was kept before is still there then.
    pub fn keep<T: Serialize>(&self, files: Vec<FileRecord>, body: &T) -> Result<()> {
        self.voucher.iter().try_for_each(|voucher| voucher.vouch())?;
        let inputs = self.voucher.as_ref().map(|voucher| voucher.inputs().clone()).unwrap_or_default();
        let record = Record { format: FORMAT, pipe: PIPE.to_owned(), key: self.key.clone(), inputs, files, body };
        let json = serde_json::to_vec(&record)?;
        let path = self.place(Self::RECORD)?;
        let aside = path.with_extension("new");
        let mut file = fs::File::create(&aside)?;
        file.write_all(format!("{}\n", blake3::hash(&json)).as_bytes())?;
        file.write_all(&json)?;
        file.sync_all()?;
        sync_dir(&self.dir)?;
        fs::rename(&aside, &path)?;
        sync_dir(&self.dir)?;
        sync_dir(self.dir.parent().context("a state's directory has a parent")?)?;
        let kept = |name: &str| name == Self::RECORD || record.files.iter().any(|file| file.path == name);
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !kept(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What was kept, once every file has been found as it was written; `None` if nothing was.
    ///
    /// # Errors
    /// Why it can't be resumed from: it's damaged, of another version of the program or of another computation.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(record) = self.record()? else { return Ok(None) };
        for file in &record.files {
            let path = self.dir.join(&file.path);
            ensure!(digest_file(&path)? == file.digest, "{} does not match its digest", path.display());
        }
        Ok(Some(record.body))
    }

    /// As [`Self::read`], without a look at the files.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Ok(self.record()?.map(|record| record.body))
    }

    /// The files that the record vouches for.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn files(&self) -> Result<Vec<FileRecord>> {
        Ok(self.record::<IgnoredAny>()?.map(|record| record.files).unwrap_or_default())
    }

    /// What was kept, to be sent elsewhere; `None` if nothing was.
    ///
    /// # Errors
    /// As [`Self::read`], but that no file is looked at.
    pub fn packed(&self) -> Result<Option<PackedState>> {
        let Some(record) = self.text()? else { return Ok(None) };
        Ok(Some(PackedState { files: Self::files_of(&record, &self.key)?, record }))
    }

    /// The files that a record's text vouches for.
    ///
    /// # Errors
    /// As [`Self::packed`].
    pub fn files_of(text: &[u8], key: &str) -> Result<Vec<FileRecord>> {
        Ok(parse::<IgnoredAny>(text, key).context("a record of a state can't be used")?.files)
    }

    /// Throws away what was kept.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&self) -> Result<()> {
        remove(&self.dir)
    }

    /// The record's text, if there's one.
    fn text(&self) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join(Self::RECORD);
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    fn record<T: DeserializeOwned>(&self) -> Result<Option<Record<T>>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let record: Record<T> = parse(&text, &self.key)?;
        if let Some(voucher) = &self.voucher
            && !record.inputs.is_empty()
        {
            ensure!(record.inputs == *voucher.inputs(), "it was learned from other data");
        }
        Ok(Some(record))
    }
}

/// A record, of this computation and this version of the program.
fn parse<T: DeserializeOwned>(text: &[u8], key: &str) -> Result<Record<T>> {
    let end = text.iter().position(|&byte| byte == b'\n').unwrap_or_default();
    let (digest, json) = (&text[..end], &text[(end + 1).min(text.len())..]);
    ensure!(digest == blake3::hash(json).to_hex().as_bytes(), "its record {} is damaged", State::RECORD);
    // The body may have another form in another version, so that comes first.
    let Record { format, pipe, key: of, .. } = serde_json::from_slice::<Record<IgnoredAny>>(json)?;
    if (format, pipe.as_str()) != (FORMAT, PIPE) {
        bail!("it was written by pipe {pipe} in format {format}, and this is pipe {PIPE} with format {FORMAT}");
    }
    ensure!(of == key, "it belongs to another computation");
    Ok(serde_json::from_slice(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"), "key");
        std::fs::write(state.place("one").unwrap(), "1").unwrap();
        state.keep(vec![state.seal("one").unwrap()], &7).unwrap();
        (folder, state)
    }

    fn names(state: &State) -> Vec<String> {
        let entries = std::fs::read_dir(state.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_kept_is_read_and_replaces_what_was_before() {
        let (_folder, state) = kept();
        assert_eq!(state.read::<u32>().unwrap(), Some(7));
        std::fs::write(state.place("two").unwrap(), "2").unwrap();
        assert_eq!(state.read::<u32>().unwrap(), Some(7), "a file that no record names yet is nothing");
        state.keep(vec![state.seal("two").unwrap()], &8).unwrap();
        assert_eq!(state.read::<u32>().unwrap(), Some(8));
        assert_eq!(names(&state), ["state.json", "two"]);
        state.clear().unwrap();
        assert_eq!(state.read::<u32>().unwrap(), None);
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_found() {
        let (_folder, state) = kept();
        for name in ["one", "state.json"] {
            let path = state.dir().join(name);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                std::fs::write(&path, damaged).unwrap();
                assert!(state.read::<u32>().is_err(), "byte {at} of {name}");
                std::fs::write(&path, &whole[..at]).unwrap();
                assert!(state.read::<u32>().is_err(), "{at} bytes of {name}");
            }
            std::fs::write(&path, whole).unwrap();
        }
        std::fs::remove_file(state.dir().join("one")).unwrap();
        assert!(state.read::<u32>().is_err());
    }

    #[test]
    fn another_computation_s_and_another_version_s_state_is_refused() {
        let (_folder, state) = kept();
        let other = State::new(state.dir().to_owned(), "other");
        assert_eq!(other.read::<u32>().unwrap_err().to_string(), "it belongs to another computation");

        let path = state.dir().join(State::RECORD);
        let text = std::fs::read_to_string(&path).unwrap();
        let json = text.split_once('\n').unwrap().1.replace(&format!("\"pipe\":\"{PIPE}\""), "\"pipe\":\"0.0.0\"");
        std::fs::write(&path, format!("{}\n{json}", blake3::hash(json.as_bytes()))).unwrap();
        let error = state.read::<u32>().unwrap_err().to_string();
        assert!(error.starts_with("it was written by pipe 0.0.0 in format 1"), "{error}");
    }
}
