//! Encoded corpora as language-model objectives read them.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, ensure};

use crate::{
    data,
    data::{
        CorpusWords,
        text::{Pieces, Tokenizer},
        words_file,
    },
    learning::objectives::{self, AnswerForm, TokenizedDocument, TokenizedText},
    network::batch::MadeOf,
    spec::Source,
    stages::{Sources, TokenRange, Told},
};

/// The corpora of a tokenize stage.
pub(in crate::stages) struct Encoded {
    corpus: Arc<data::Corpus>,
    /// Where they lie.
    directory: PathBuf,
    words: OnceLock<Arc<CorpusWords>>,
}

impl Deref for Encoded {
    type Target = data::Corpus;

    fn deref(&self) -> &data::Corpus {
        &self.corpus
    }
}

impl Encoded {
    /// Their words, kept beside them, since every stage that reads them finds the same.
    fn words(&self, tokenizer: &Tokenizer) -> &CorpusWords {
        let open = || {
            let (pieces, file) = (Arc::new(Pieces::of(tokenizer)), self.directory.join(words_file()));
            CorpusWords::open(Arc::clone(&self.corpus), pieces, file)
        };
        self.words.get_or_init(open)
    }
}

/// The documents of a corpus, or some of them.
struct Documents {
    corpus: Arc<Encoded>,
    tokenizer: Arc<Tokenizer>,
    chosen: Vec<usize>,
}

impl TokenizedText for Documents {
    fn documents(&self) -> usize {
        self.chosen.len()
    }

    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>> {
        let document = self.corpus.document(self.chosen[index]).context("there is no such document")?;
        let start = document.tokens().start;
        let sentence_ends = document.sentences().map(|sentence| (sentence.end - start) as u32).collect();
        Ok(TokenizedDocument { tokens: Cow::Owned(document.ids()), sentence_ends: Cow::Owned(sentence_ends) })
    }

    fn continuations(&self, index: usize) -> Result<Vec<bool>> {
        Ok(self.corpus.words(&self.tokenizer).continuations(self.chosen[index]))
    }
}

/// Loads the corpora of a tokenize stage.
pub(in crate::stages) fn load(dir: &Path) -> Result<Arc<Encoded>> {
    let corpus = data::Corpus::load(dir)?;
    ensure!(!corpus.is_empty(), "the tokenize stage has no `corpus`, so there is no text");
    Ok(Arc::new(Encoded { corpus: Arc::new(corpus), directory: dir.to_owned(), words: OnceLock::new() }))
}

/// The documents that `wanted` chooses by their hashes, ready for objectives of models with this form.
pub(in crate::stages) fn corpus(
    corpus: &Arc<Encoded>,
    tokenizer: &Arc<Tokenizer>,
    form: AnswerForm,
    wanted: impl Fn(u64) -> bool,
) -> objectives::Corpus {
    let chosen = (0..corpus.len()).filter(|&index| wanted(corpus.hashes()[index])).collect();
    let text = Arc::new(Documents { corpus: Arc::clone(corpus), tokenizer: Arc::clone(tokenizer), chosen });
    objectives::Corpus { text, specials: tokenizer.special, form }
}

/// Characters of the documents that `wanted` chooses. `counted` is what the tokenize stage has counted in all texts: tokens
/// spell a text without what the tokenizer's normalizer has taken out, so a part of the documents is given the part of
/// the count that their tokens spell.
pub(in crate::stages) fn characters(
    corpus: &data::Corpus,
    tokenizer: &Tokenizer,
    counted: Option<u64>,
    wanted: impl Fn(u64) -> bool,
) -> Result<u64> {
    let all = corpus.hashes().iter().all(|&hash| wanted(hash));
    if let (Some(counted), true) = (counted, all) {
        return Ok(counted);
    }
    let (mut part, mut whole) = (0_u64, 0_u64);
    for document in corpus.documents() {
        let spelt = tokenizer.decode(&document.ids(), true)?.chars().count() as u64;
        whole += spelt;
        part += if wanted(document.hash()) { spelt } else { 0 };
    }
    let share = |counted: u64| (counted as f64 * part as f64 / whole.max(1) as f64).round() as u64;
    Ok(counted.map_or(part, share))
}

/// Knows the documents that a language model learns from.
pub(in crate::stages) struct TrainingDocuments {
    corpus: Arc<data::Corpus>,
    tokenizer: Arc<Tokenizer>,
    /// What was encoded, where that's known: sources with their files.
    files: Vec<(Source, Vec<PathBuf>)>,
}

/// Bytes of corpora up to which the files are read to find documents in them.
const LOOKED_THROUGH: u64 = 256 << 20;

/// A document in its file.
struct Found {
    /// Its number in the corpora, from 0.
    document: usize,
    file: PathBuf,
    /// Its place in the file, from 1.
    place: usize,
}

impl TrainingDocuments {
    pub(in crate::stages) fn new(corpus: &Encoded, tokenizer: &Arc<Tokenizer>) -> Self {
        Self { corpus: Arc::clone(&corpus.corpus), tokenizer: Arc::clone(tokenizer), files: Vec::new() }
    }

    /// Finds documents in the files that were encoded, up to the one of the number `last`. They're in the same order there
    /// but that those which came to no tokens are missing among the encoded ones; texts tell by their hashes.
    fn find(&self, last: usize, wanted: impl Fn(usize, usize) -> bool) -> Result<Vec<Found>> {
        let hashes = self.corpus.hashes();
        let (mut document, mut found) = (0, Vec::new());
        for (source, files) in &self.files {
            for file in files {
                for (place, read) in (1..).zip(data::documents(source, file)?) {
                    if hashes.get(document) != Some(&read?.hash()) {
                        continue;
                    }
                    if wanted(document, place) {
                        found.push(Found { document, file: file.clone(), place });
                    }
                    if document == last {
                        return Ok(found);
                    }
                    document += 1;
                }
            }
        }
        Ok(found)
    }

    /// Whether the files are small enough to be read.
    fn are_small(&self) -> bool {
        let files = self.files.iter().flat_map(|(_, files)| files);
        let bytes = files.map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len()));
        bytes.sum::<u64>() <= LOOKED_THROUGH
    }
}

impl Sources for TrainingDocuments {
    fn tell(&self, made_of: &[MadeOf]) -> Result<Vec<Told>> {
        let wanted: HashSet<usize> = made_of.iter().filter_map(|made_of| Some(made_of.number()? as usize)).collect();
        let mut found = HashMap::new();
        if let Some(&last) = wanted.iter().max().filter(|_| self.are_small()) {
            let places = self.find(last, |document, _| wanted.contains(&document))?;
            found.extend(places.into_iter().map(|found| (found.document, found)));
        }
        let tell = |made_of: &MadeOf| {
            let MadeOf::Text { document, tokens } = made_of else { return Ok(Told::default()) };
            let number = *document as usize;
            let ids = self.corpus.document(number).context("there is no such document")?.ids();
            let part = ids.get(tokens.start as usize..tokens.end as usize).unwrap_or_default();
            let range = TokenRange { start: tokens.start, end: tokens.end, of: ids.len() as u32 };
            let place = found.get(&number);
            Ok(Told {
                file: place.map(|found| found.file.clone()),
                document: Some(place.map_or(number + 1, |found| found.place)),
                range: Some(range),
                text: Some(self.tokenizer.decode(part, false)?),
                ..Told::default()
            })
        };
        made_of.iter().map(tell).collect()
    }

    fn at(&self, place: usize) -> Result<BTreeSet<u64>> {
        if self.files.is_empty() || !self.are_small() {
            return Ok(place.checked_sub(1).map(|number| number as u64).into_iter().collect());
        }
        let found = self.find(usize::MAX, |_, of_file| of_file == place)?;
        Ok(found.into_iter().map(|found| found.document as u64).collect())
    }

    fn name_files(&mut self, corpora: Vec<(Source, Vec<PathBuf>)>) {
        self.files = corpora;
    }
}

/// Hashes of all documents.
pub(in crate::stages) fn hashes(corpus: &data::Corpus) -> BTreeSet<u64> {
    corpus.hashes().iter().copied().collect()
}
