//! .parquet: columns of text, numbers and booleans, read a record batch at a time.

use std::path::Path;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::row::{Fields, Rows};
use crate::data::parquet;

/// Nulls are empty fields.
pub(super) fn open(file: &Path) -> Result<Rows> {
    let name = file.display().to_string();
    let builder = parquet::open(file).with_context(|| format!("{name}: can't be read as a Parquet file"))?;
    let mut columns = Vec::new();
    for field in builder.schema().fields() {
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::Binary | DataType::LargeBinary) {
            bail!("{name}: column {:?} holds {}, not text or numbers", field.name(), field.data_type());
        }
        columns.push(field.name().clone());
    }
    let reader = parquet::batches(builder, 1024).with_context(|| format!("{name}: failed to read"))?;
    let mut before = 0;
    let rows = reader.flat_map(move |batch| {
        let batch = batch.and_then(|batch| fields(&batch));
        match batch.with_context(|| format!("{name}: failed to read the rows after row {before}")) {
            Ok(rows) => {
                let first = before + 1;
                before += rows.len();
                rows.into_iter().enumerate().map(|(index, row)| Ok((first + index, row))).collect::<Vec<_>>()
            }
            Err(error) => vec![Err(error)],
        }
    });
    Ok(Rows::new(columns, rows.map(|row: Result<Fields>| row)))
}

fn fields(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
    let text = |column: &StringArray, row| if column.is_null(row) { "" } else { column.value(row) }.to_owned();
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| text(column, row)).collect()).collect())
}
