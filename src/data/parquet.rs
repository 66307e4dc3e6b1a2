//! Parquet files that may be damaged. The library panics on some of them; here that is an error like any other.

use std::{fs::File, path::Path};

use anyhow::{Result, anyhow, bail};
use arrow::array::RecordBatch;
use fs_err as fs;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    basic::Compression,
};

use crate::support::panics;

/// A file whose footer has been read.
pub(super) type Builder = ParquetRecordBatchReaderBuilder<File>;

/// Opens a file.
///
/// # Errors
/// If it can't be read, or isn't a Parquet file.
pub(super) fn open(path: &Path) -> Result<Builder> {
    let open = || Ok::<_, anyhow::Error>(fs::File::open(path)?.into_file());
    let file = open()?;
    caught(|| Ok(Builder::try_new(file)?)).or_else(|error| {
        // What the writer noted of its own types may be what isn't understood, of a column that nobody asks for.
        let (file, options) = (open()?, ArrowReaderOptions::new().with_skip_arrow_metadata(true));
        caught(|| Ok(Builder::try_new_with_options(file, options)?)).map_err(|_| error)
    })
}

/// The same file with these of its columns only.
pub(super) fn projected(builder: Builder, columns: Vec<usize>) -> Builder {
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    builder.with_projection(mask)
}

/// Looks whether columns of these names are compressed in a way that can be read.
///
/// # Errors
/// If one isn't.
pub(super) fn check_codecs(builder: &Builder, is_wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    for chunk in builder.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let name = chunk.column_path().parts().first().map(String::as_str).unwrap_or_default();
        if is_wanted(name) && chunk.compression() == Compression::LZO {
            bail!("column {name:?} is compressed with LZO; write it with another codec, such as zstd");
        }
    }
    Ok(())
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
