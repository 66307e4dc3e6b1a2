//! Parquet files that may be damaged. The library panics on some of them; here that is an error like any other.

use std::{fs::File, path::Path};

use anyhow::{Result, anyhow};
use arrow::array::RecordBatch;
use fs_err as fs;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::panics;

/// A file whose footer has been read.
pub(super) type Builder = ParquetRecordBatchReaderBuilder<File>;

/// Opens a file.
///
/// # Errors
/// If it can't be read, or isn't a Parquet file.
pub(super) fn open(path: &Path) -> Result<Builder> {
    let file = fs::File::open(path)?.into_file();
    caught(|| Ok(Builder::try_new(file)?))
}

/// Its rows, at most so many at a time; ends after an error.
///
/// # Errors
/// If its footer contradicts itself.
pub(super) fn batches(builder: Builder, rows: usize) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send> {
    let mut reader = Some(caught(|| Ok(builder.with_batch_size(rows).build()?))?);
    Ok(std::iter::from_fn(move || {
        let batch = caught(|| Ok(reader.as_mut().and_then(Iterator::next).transpose()?)).transpose();
        if !matches!(batch, Some(Ok(_))) {
            reader = None;
        }
        batch
    }))
}

fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(read).unwrap_or_else(|_| Err(anyhow!("the file is damaged")))
}
