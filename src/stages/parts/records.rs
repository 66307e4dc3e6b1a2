//! Small Parquet files that model artifacts carry along: what the model has seen, and its labelled rows.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context, Result};
use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray, UInt64Array},
    datatypes::{Field, Schema},
};
use fs_err as fs;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

/// Hashes of all texts that a model was trained on; in every trained model's artifact.
pub(in crate::stages) const SEEN: &str = "seen.parquet";
/// Texts and labels that a model was finetuned on.
pub(in crate::stages) const ROWS: &str = "rows.parquet";

/// Writes hashes, ascending.
pub(in crate::stages) fn write_seen(path: &Path, seen: &BTreeSet<u64>) -> Result<()> {
    let hashes: ArrayRef = Arc::new(UInt64Array::from_iter_values(seen.iter().copied()));
    write(path, vec![("hash", hashes)])
}

/// Reads what [`write_seen`] wrote in a model's directory; of a checkpoint from elsewhere nothing is known.
pub(in crate::stages) fn read_seen(dir: &Path) -> Result<BTreeSet<u64>> {
    let mut seen = BTreeSet::new();
    let path = &dir.join(SEEN);
    if !path.exists() {
        return Ok(seen);
    }
    for batch in read(path)? {
        let batch = batch?;
        let hashes = column::<UInt64Array>(&batch, "hash", path)?;
        seen.extend(hashes.values().iter().copied());
    }
    Ok(seen)
}

/// Writes rows, as pairs of text and label.
pub(in crate::stages) fn write_rows(path: &Path, rows: &[(String, String)]) -> Result<()> {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(text, _)| text)));
    let labels: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, label)| label)));
    write(path, vec![("text", texts), ("label", labels)])
}

/// Reads what [`write_rows`] wrote.
pub(in crate::stages) fn read_rows(path: &Path) -> Result<Vec<(String, String)>> {
    let mut rows = Vec::new();
    for batch in read(path)? {
        let batch = batch?;
        let texts = column::<StringArray>(&batch, "text", path)?;
        let labels = column::<StringArray>(&batch, "label", path)?;
        rows.extend((0..batch.num_rows()).map(|row| (texts.value(row).to_owned(), labels.value(row).to_owned())));
    }
    Ok(rows)
}

/// Writes columns of equal length; one may have nulls if it has some.
///
/// # Errors
/// The file system's.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
    let field =
        |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), column.null_count() > 0);
    let fields: Vec<_> = columns.iter().map(field).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path)?.into_file(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close().with_context(|| format!("failed to write {}", path.display()))?;
    Ok(())
}

fn read(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let open =
        || -> Result<_> { Ok(ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path)?.into_file())?.build()?) };
    let reader = open().with_context(|| format!("failed to read {}", path.display()))?;
    Ok(reader.map(|batch| Ok(batch?)))
}

fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a T> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
    column.with_context(|| format!("{} lacks the column `{name}`, or has it in another form", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SEEN);
        let seen = BTreeSet::from([3, 1, u64::MAX]);
        write_seen(&path, &seen).unwrap();
        assert_eq!(read_seen(dir.path()).unwrap(), seen);
        let rows = vec![("早上好".to_owned(), "甲".to_owned()), (String::new(), "乙".to_owned())];
        write_rows(&path, &rows).unwrap();
        assert_eq!(read_rows(&path).unwrap(), rows);
        assert!(read_seen(dir.path()).is_err());
    }
}
