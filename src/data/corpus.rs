//! Reads token shards back: an encoded corpus in memory.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{DataType, UInt16Type, UInt32Type, UInt64Type};
use fs_err as fs;

use super::parquet;

/// Token ids, as narrow as they're stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ids {
    /// Vocabularies of up to 65,536 entries.
    U16(Vec<u16>),
    /// Larger ones.
    U32(Vec<u32>),
}

/// Encoded documents, all ids one after the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Corpus {
    ids: Ids,
    /// Where each document ends in the ids.
    document_ends: Vec<usize>,
    /// Where each sentence ends in the ids.
    sentence_ends: Vec<usize>,
    /// For each document, how many sentences there are up to its end.
    document_sentences: Vec<usize>,
    hashes: Vec<u64>,
}

/// One document of a corpus.
#[derive(Clone, Copy, Debug)]
pub struct DocumentView<'a> {
    corpus: &'a Corpus,
    index: usize,
}

impl Corpus {
    /// Reads all `tokens-*.parquet` of a directory, in the order of their names.
    ///
    /// # Errors
    /// If there is none, or one can't be read or isn't as [`ShardWriter`](super::ShardWriter) leaves it.
    pub fn load(directory: &Path) -> Result<Self> {
        let mut shards: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("tokens-") && name.ends_with(".parquet")) {
                shards.push(directory.join(name));
            }
        }
        shards.sort();
        if shards.is_empty() {
            bail!("{}: there are no token shards (tokens-00000.parquet, …)", directory.display());
        }
        let mut corpus = Self {
            ids: Ids::U16(Vec::new()),
            document_ends: Vec::new(),
            sentence_ends: Vec::new(),
            document_sentences: Vec::new(),
            hashes: Vec::new(),
        };
        for shard in shards {
            corpus.read(&shard).with_context(|| format!("{}: failed to read token shard", shard.display()))?;
        }
        Ok(corpus)
    }

    fn read(&mut self, shard: &Path) -> Result<()> {
        for batch in parquet::batches(parquet::open(shard)?, 4096)? {
            let batch = batch?;
            let (tokens, sentences) = (list(&batch, "tokens")?, list(&batch, "sentences")?);
            let hashes = batch.column_by_name("hash").and_then(|hashes| hashes.as_primitive_opt::<UInt64Type>());
            let hashes = hashes.ok_or_else(|| anyhow!("there is no column `hash` of uint64"))?;
            for row in 0..batch.num_rows() {
                let start = self.token_count();
                self.ids.extend(&tokens.value(row))?;
                let ends = sentences.value(row);
                let ends =
                    ends.as_primitive_opt::<UInt32Type>().ok_or_else(|| anyhow!("`sentences` isn't of uint32"))?;
                self.sentence_ends.extend(ends.values().iter().map(|&end| start + end as usize));
                let (end, sorted) = (self.token_count(), ends.values().is_sorted());
                if !sorted || ends.values().last().map_or(start, |&last| start + last as usize) != end {
                    bail!("document {} has sentences that don't cover its tokens", self.hashes.len() + 1);
                }
                self.document_ends.push(end);
                self.document_sentences.push(self.sentence_ends.len());
                self.hashes.push(hashes.value(row));
            }
        }
        Ok(())
    }

    /// Tokens in the whole corpus.
    pub fn token_count(&self) -> usize {
        match &self.ids {
            Ids::U16(ids) => ids.len(),
            Ids::U32(ids) => ids.len(),
        }
    }

    /// Sentences in the whole corpus.
    pub fn sentence_count(&self) -> usize {
        self.sentence_ends.len()
    }

    /// The ids in a range of places; what lies past the end is left out.
    pub fn ids(&self, range: Range<usize>) -> Vec<u32> {
        let mut ids = Vec::with_capacity(range.len());
        self.copy_ids(range, &mut ids);
        ids
    }

    /// [`ids`](Self::ids), put behind what a vector holds.
    pub fn copy_ids(&self, range: Range<usize>, to: &mut Vec<u32>) {
        let range = range.start.min(self.token_count())..range.end.min(self.token_count());
        match &self.ids {
            Ids::U16(ids) => to.extend(ids.get(range).unwrap_or_default().iter().map(|&id| u32::from(id))),
            Ids::U32(ids) => to.extend(ids.get(range).unwrap_or_default()),
        }
    }

    /// All ids, as they're stored.
    pub fn all_ids(&self) -> &Ids {
        &self.ids
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.document_ends.len()
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.document_ends.is_empty()
    }

    /// A document by its number, from 0.
    pub fn document(&self, index: usize) -> Option<DocumentView<'_>> {
        (index < self.len()).then_some(DocumentView { corpus: self, index })
    }

    /// All documents, in order.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = DocumentView<'_>> {
        (0..self.len()).map(|index| DocumentView { corpus: self, index })
    }

    /// The hash of each document's text.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

impl<'a> DocumentView<'a> {
    /// Its number, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// The places of its ids in the corpus.
    pub fn tokens(self) -> Range<usize> {
        start(&self.corpus.document_ends, self.index)..end(&self.corpus.document_ends, self.index)
    }

    /// Its ids.
    pub fn ids(self) -> Vec<u32> {
        self.corpus.ids(self.tokens())
    }

    /// The places of each sentence's ids in the corpus.
    pub fn sentences(self) -> impl ExactSizeIterator<Item = Range<usize>> + 'a {
        let ends = &self.corpus.document_sentences;
        let sentences = &self.corpus.sentence_ends;
        let first = start(ends, self.index);
        (first..end(ends, self.index)).map(move |sentence| start(sentences, sentence)..end(sentences, sentence))
    }

    /// The hash of its text.
    pub fn hash(self) -> u64 {
        self.corpus.hashes.get(self.index).copied().unwrap_or_default()
    }
}

fn end(ends: &[usize], index: usize) -> usize {
    ends.get(index).copied().unwrap_or_default()
}

fn start(ends: &[usize], index: usize) -> usize {
    index.checked_sub(1).map_or(0, |before| end(ends, before))
}

fn list<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ListArray> {
    let column = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>());
    column.ok_or_else(|| anyhow!("there is no column `{name}` of lists"))
}

impl Ids {
    fn extend(&mut self, tokens: &dyn Array) -> Result<()> {
        if let (Self::U16(ids), DataType::UInt32) = (&mut *self, tokens.data_type()) {
            *self = Self::U32(ids.iter().map(|&id| u32::from(id)).collect());
        }
        match (self, tokens.as_primitive_opt::<UInt16Type>(), tokens.as_primitive_opt::<UInt32Type>()) {
            (Self::U16(ids), Some(tokens), _) => ids.extend_from_slice(tokens.values()),
            (Self::U32(ids), Some(tokens), _) => ids.extend(tokens.values().iter().map(|&id| u32::from(id))),
            (Self::U32(ids), None, Some(tokens)) => ids.extend_from_slice(tokens.values()),
            _ => bail!("`tokens` is neither of uint16 nor of uint32"),
        }
        Ok(())
    }
}
