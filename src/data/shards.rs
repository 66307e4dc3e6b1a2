//! Writes encoded documents to Parquet shards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, ListBuilder, PrimitiveBuilder, RecordBatch, UInt64Builder};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema, UInt16Type, UInt32Type};
use fs_err as fs;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Tokens of a file; it ends with the row group that reaches them.
pub const SHARD: usize = 32 << 20;
/// Tokens that are held in memory before they're written, as one row group.
const ROW_GROUP: usize = 1 << 20;

/// Writes `tokens-00000.parquet` and so on: a row a document, with its `tokens` (list of uint16 where the vocabulary
/// allows, else of uint32), `sentences` (list of uint32: where each sentence ends in `tokens`) and `hash` (uint64). The
/// same documents give the same bytes. Memory is bounded by a row group, and by the longest document.
pub struct ShardWriter {
    directory: PathBuf,
    /// Those that were begun, earlier ones included.
    shards: usize,
    writer: Option<ArrowWriter<fs::File>>,
    /// Tokens after which a new file is begun.
    most: usize,
    in_shard: usize,
    schema: Arc<Schema>,
    rows: Rows,
}

impl ShardWriter {
    /// Prepares to write into a directory that exists; `vocab_size` decides the integers' width.
    pub fn new(directory: &Path, vocab_size: usize) -> Self {
        Self::after(0, SHARD, directory, vocab_size)
    }

    /// As [`Self::new`], resuming after the first `shards`, which are finished, with files of `most` tokens.
    pub fn after(shards: usize, most: usize, directory: &Path, vocab_size: usize) -> Self {
        let narrow = vocab_size <= 1 << 16;
        let list = |item| DataType::List(Arc::new(Field::new("item", item, false)));
        let schema = Schema::new(vec![
            Field::new("tokens", list(if narrow { DataType::UInt16 } else { DataType::UInt32 }), false),
            Field::new("sentences", list(DataType::UInt32), false),
            Field::new("hash", DataType::UInt64, false),
        ]);
        let rows = Rows { narrow, ..Rows::default() };
        Self { directory: directory.into(), shards, writer: None, most, in_shard: 0, schema: schema.into(), rows }
    }

    /// Adds a document: the ids of each of its sentences, and the hash of its text.
    ///
    /// # Errors
    /// If a file can't be written, an id is too large for the vocabulary, or the document has more than 4 billion
    /// tokens.
    pub fn push(&mut self, sentences: &[Vec<u32>], hash: u64) -> Result<()> {
        for sentence in sentences {
            self.rows.tokens.extend(sentence);
            self.rows.sentence_lengths.push(sentence.len());
        }
        self.rows.sentences.push(sentences.len());
        self.rows.hashes.push(hash);
        if self.rows.tokens.len() >= ROW_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// The names of the finished shards.
    pub fn finished(&self) -> impl ExactSizeIterator<Item = String> + use<> {
        (0..self.shards - usize::from(self.writer.is_some())).map(name)
    }

    /// Writes what is left; without any documents there is one file without rows.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn finish(&mut self) -> Result<()> {
        if self.shards == 0 || !self.rows.hashes.is_empty() {
            self.flush()?;
        }
        self.close()
    }

    fn flush(&mut self) -> Result<()> {
        let tokens = self.rows.tokens.len();
        let batch = self.rows.take(&self.schema)?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.open()?,
        };
        writer.write(&batch).and_then(|()| writer.flush()).context("failed to write token shards")?;
        self.writer = Some(writer);
        self.in_shard += tokens;
        if self.in_shard >= self.most {
            self.close()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<ArrowWriter<fs::File>> {
        let file = fs::File::create(self.directory.join(name(self.shards)))?;
        self.shards += 1;
        // The writer would otherwise put its version into the file.
        let properties = WriterProperties::builder()
            .set_created_by("pipe".into())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(None);
        Ok(ArrowWriter::try_new(file, self.schema.clone(), Some(properties.build()))?)
    }

    fn close(&mut self) -> Result<()> {
        self.in_shard = 0;
        if let Some(writer) = self.writer.take() {
            writer.close().context("failed to write token shards")?;
        }
        Ok(())
    }
}

fn name(shard: usize) -> String {
    format!("tokens-{shard:05}.parquet")
}

/// Documents that are yet to be written.
#[derive(Default)]
struct Rows {
    narrow: bool,
    tokens: Vec<u32>,
    sentence_lengths: Vec<usize>,
    /// Sentences in each document.
    sentences: Vec<usize>,
    hashes: Vec<u64>,
}

impl Rows {
    fn take(&mut self, schema: &Arc<Schema>) -> Result<RecordBatch> {
        let tokens: ArrayRef =
            if self.narrow { self.token_lists::<UInt16Type>()? } else { self.token_lists::<UInt32Type>()? };
        let mut ends = ListBuilder::new(PrimitiveBuilder::<UInt32Type>::new()).with_field(Field::new(
            "item",
            DataType::UInt32,
            false,
        ));
        let mut lengths = self.sentence_lengths.iter();
        for &sentences in &self.sentences {
            let mut end = 0_usize;
            for length in lengths.by_ref().take(sentences) {
                end += length;
                ends.values().append_value(u32::try_from(end).context("a document has more than 2^32 tokens")?);
            }
            ends.append(true);
        }
        let mut hashes = UInt64Builder::with_capacity(self.hashes.len());
        hashes.append_slice(&self.hashes);
        *self = Self { narrow: self.narrow, ..Self::default() };
        Ok(RecordBatch::try_new(schema.clone(), vec![tokens, Arc::new(ends.finish()), Arc::new(hashes.finish())])?)
    }

    fn token_lists<T: ArrowPrimitiveType<Native: TryFrom<u32>>>(&self) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(PrimitiveBuilder::<T>::with_capacity(self.tokens.len()))
            .with_field(Field::new("item", T::DATA_TYPE, false));
        let mut tokens = self.tokens.iter();
        let mut lengths = self.sentence_lengths.iter();
        for &sentences in &self.sentences {
            let length = lengths.by_ref().take(sentences).sum();
            for &token in tokens.by_ref().take(length) {
                match T::Native::try_from(token) {
                    Ok(token) => lists.values().append_value(token),
                    Err(_) => bail!("token id {token} is outside the vocabulary"),
                }
            }
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }
}
