//! `predictions.parquet`: every evaluated row with what the model made of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use fs_err as fs;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Scored;
use super::report::worst_first;

/// Rows that are put into Arrow's form at a time.
const CHUNK: usize = 8192;

/// Writes the rows, worst errors first; the same rows give the same bytes.
///
/// Columns: `file` (uint32, from 1, in the order in which files are read), `row` (uint32, from 1: which of the file's rows it
/// is, a header not counted), `text`, `label`, `predicted`, `correct`, `p_LABEL` (float32) for each label, `loss`
/// (float64, nats), `leaked`.
///
/// # Errors
/// Where the file can't be written, or a row doesn't fit the labels.
pub fn write(path: &Path, labels: &[String], rows: &[Scored], leaked: &[bool]) -> Result<()> {
    ensure!(leaked.len() == rows.len(), "{} rows but {} leak flags", rows.len(), leaked.len());
    rows.iter().try_for_each(|row| row.check(labels.len()))?;
    let schema = schema(labels);
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let file = fs::File::create(path)?.into_file();
    let in_file = || format!("failed to write {}", path.display());
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).with_context(in_file)?;
    for order in worst_first(rows).chunks(CHUNK) {
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns(labels, rows, leaked, order))?;
        writer.write(&batch).with_context(in_file)?;
    }
    writer.close().with_context(in_file)?;
    Ok(())
}

/// A row of the file, without what only tables of errors need.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// The number of its data file, from 1.
    pub file: u32,
    /// Which of the file's rows it is, from 1.
    pub row: u32,
    /// Its text.
    pub text: String,
    /// Its label.
    pub label: String,
    /// What the model said.
    pub predicted: String,
    /// `−ln p(label)`, in nats.
    pub loss: f64,
}

/// Reads what [`write`] wrote, in its order.
///
/// # Errors
/// If the file can't be read, or isn't of that form.
pub fn read(path: &Path) -> Result<Vec<Predicted>> {
    let in_file = || format!("failed to read {}", path.display());
    let file = fs::File::open(path)?.into_file();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    let mut rows = Vec::new();
    for batch in reader.with_context(in_file)? {
        let batch = batch.with_context(in_file)?;
        let numbers: &UInt32Array = column(&batch, "row").with_context(in_file)?;
        // Files of before the third version of `eval` don't tell.
        let files: Option<&UInt32Array> = column(&batch, "file").ok();
        let texts: [&StringArray; 3] = [
            column(&batch, "text").with_context(in_file)?,
            column(&batch, "label").with_context(in_file)?,
            column(&batch, "predicted").with_context(in_file)?,
        ];
        let losses: &Float64Array = column(&batch, "loss").with_context(in_file)?;
        rows.extend((0..batch.num_rows()).map(|at| {
            let [text, label, predicted] = texts.map(|texts| texts.value(at).to_owned());
            let file = files.map_or(1, |files| files.value(at));
            Predicted { file, row: numbers.value(at), text, label, predicted, loss: losses.value(at) }
        }));
    }
    Ok(rows)
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
    column.with_context(|| format!("it lacks the column `{name}`, or has it in another form"))
}

fn schema(labels: &[String]) -> Arc<Schema> {
    let field = |name: &str, kind| Field::new(name, kind, false);
    let mut fields = vec![
        field("file", DataType::UInt32),
        field("row", DataType::UInt32),
        field("text", DataType::Utf8),
        field("label", DataType::Utf8),
        field("predicted", DataType::Utf8),
        field("correct", DataType::Boolean),
    ];
    fields.extend(labels.iter().map(|label| field(&format!("p_{label}"), DataType::Float32)));
    fields.extend([field("loss", DataType::Float64), field("leaked", DataType::Boolean)]);
    Arc::new(Schema::new(fields))
}

/// The columns of the rows that `order` names, in the order of the schema.
fn columns(labels: &[String], rows: &[Scored], leaked: &[bool], order: &[usize]) -> Vec<ArrayRef> {
    let chosen = || order.iter().map(|&index| &rows[index]);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(chosen().map(|row| row.file))),
        Arc::new(UInt32Array::from_iter_values(chosen().map(|row| row.row))),
        Arc::new(StringArray::from_iter_values(chosen().map(|row| row.text))),
        Arc::new(StringArray::from_iter_values(chosen().map(|row| &labels[row.gold]))),
        Arc::new(StringArray::from_iter_values(chosen().map(|row| &labels[row.predicted()]))),
        Arc::new(BooleanArray::from_iter(chosen().map(|row| Some(row.correct())))),
    ];
    for label in 0..labels.len() {
        columns.push(Arc::new(Float32Array::from_iter_values(chosen().map(|row| row.probabilities[label]))));
    }
    columns.push(Arc::new(Float64Array::from_iter_values(chosen().map(|row| row.loss()))));
    columns.push(Arc::new(BooleanArray::from_iter(order.iter().map(|&index| Some(leaked[index])))));
    columns
}
