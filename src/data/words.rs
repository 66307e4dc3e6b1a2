//! Which tokens of a corpus make a word, found once and kept beside it.
//!
//! Cutting a corpus into words takes a while, so a thread goes through the documents in the background, and a document
//! that's asked for before its turn is cut at once. What comes out doesn't depend on which of the two it was. When all
//! are done they're written to a file, which the next one to ask reads instead.
//!
//! The file has a line that names its form, the BLAKE3 of what follows, and for each document a bit a token, from the
//! lowest bit of the first byte on, filled up to whole bytes: whether the token continues the word of the one before it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
};

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use super::{
    Corpus,
    text::{Pieces, WORDS_VERSION},
};

/// The file's first line.
fn form() -> String {
    format!("words {WORDS_VERSION}\n")
}

/// The name of the file that is kept beside a corpus.
pub fn words_file() -> String {
    format!("words-{WORDS_VERSION}.bits")
}

/// The words of a corpus.
#[derive(Debug)]
pub struct CorpusWords {
    corpus: Arc<Corpus>,
    pieces: Arc<Pieces>,
    documents: Vec<OnceLock<Box<[u8]>>>,
}

impl CorpusWords {
    /// Those in the file, if it has them; otherwise they're found in the background, and written to it. A file that is
    /// damaged or of another version is replaced; one that can't be written does no harm.
    pub fn open(corpus: Arc<Corpus>, pieces: Arc<Pieces>, file: PathBuf) -> Arc<Self> {
        if let Ok(documents) = read(&corpus, &file) {
            return Arc::new(Self { corpus, pieces, documents });
        }
        let documents = std::iter::repeat_with(OnceLock::new).take(corpus.len()).collect();
        let words = Arc::new(Self { corpus, pieces, documents });
        let weak = Arc::downgrade(&words);
        // Without the thread each document is cut when it's asked for.
        let _ = std::thread::Builder::new().name("words".into()).spawn(move || find_all(&weak, &file));
        words
    }

    /// Of each token of a document, whether it continues the word of the one before it.
    pub fn continuations(&self, document: usize) -> Vec<bool> {
        let Some(view) = self.corpus.document(document) else { return Vec::new() };
        let bits = self.bits(document);
        let bit = |at: usize| bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        (0..view.tokens().len()).map(bit).collect()
    }

    fn bits(&self, document: usize) -> &[u8] {
        let cut = || {
            let ids = self.corpus.document(document).map(|view| view.ids()).unwrap_or_default();
            let mut bits = vec![0_u8; ids.len().div_ceil(8)];
            for (at, continues) in self.pieces.continuations(&ids).into_iter().enumerate() {
                bits[at / 8] |= u8::from(continues) << (at % 8);
            }
            bits.into()
        };
        self.documents.get(document).map_or(&[], |bits| bits.get_or_init(cut))
    }

    fn write(&self, file: &Path) -> Result<()> {
        let directory = file.parent().context("a file has a folder")?;
        let mut hash = blake3::Hasher::new();
        for document in 0..self.documents.len() {
            hash.update(self.bits(document));
        }
        let mut aside = tempfile::Builder::new();
        aside.prefix(".words-");
        // Others who share the store read it too.
        #[cfg(unix)]
        aside.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let aside = aside.tempfile_in(directory)?;
        let mut out = std::io::BufWriter::new(&aside);
        out.write_all(form().as_bytes())?;
        out.write_all(hash.finalize().as_bytes())?;
        for document in 0..self.documents.len() {
            out.write_all(self.bits(document))?;
        }
        out.flush()?;
        drop(out);
        aside.persist(file)?;
        Ok(())
    }
}

/// Cuts all documents, as long as anybody wants them, and writes the file.
fn find_all(words: &Weak<CorpusWords>, file: &Path) {
    let mut document = 0;
    while let Some(words) = words.upgrade() {
        if document == words.documents.len() {
            // It can be made again at any time, so that it's no failure if there's no place for it.
            let _ = words.write(file);
            return;
        }
        words.bits(document);
        document += 1;
    }
}

/// Reads the file of a corpus.
fn read(corpus: &Corpus, file: &Path) -> Result<Vec<OnceLock<Box<[u8]>>>> {
    let bytes = fs::read(file)?;
    let rest = bytes.strip_prefix(form().as_bytes()).context("it's of another version")?;
    let (digest, mut rest) = rest.split_at_checked(blake3::OUT_LEN).context("it's too short")?;
    ensure!(blake3::hash(rest).as_bytes() == digest, "it's damaged");
    let mut documents = Vec::with_capacity(corpus.len());
    for document in corpus.documents() {
        let (bits, left) =
            rest.split_at_checked(document.tokens().len().div_ceil(8)).context("it's of another corpus")?;
        documents.push(OnceLock::from(Box::from(bits)));
        rest = left;
    }
    ensure!(rest.is_empty(), "it's of another corpus");
    Ok(documents)
}
