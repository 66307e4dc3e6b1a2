//! .parquet and .arrow: columns of text, numbers, booleans and dates, read a record batch at a time. Only the columns that
//! are asked for are read, so that the others may hold anything.

mod ipc;
mod values;

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use arrow::{
    array::RecordBatch,
    compute::can_cast_types,
    datatypes::{DataType, SchemaRef},
};

use self::values::Column;
use super::{
    places::places,
    row::{Fields, Rows},
};
use crate::{data::parquet, spec::Format};

/// Rows that are made into text at a time.
const ROWS: usize = 1024;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Opens a file, for its columns of text and the like or for some. Nulls are empty fields; lists and structs are JSON in
/// columns that may hold them.
pub(super) fn open(format: Format, file: &Path, wanted: Option<&[String]>, nested: &[&str]) -> Result<Rows> {
    let name = file.display().to_string();
    let table = Table::open(format, file)?;
    let schema = table.schema();
    let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let (names, places) = match wanted {
        Some(wanted) => (wanted.to_vec(), places(file, &all, wanted)?),
        None => {
            let plain = |place: &usize| is_plain(schema.field(*place).data_type());
            let places: Vec<usize> = (0..all.len()).filter(plain).collect();
            (places.iter().filter_map(|&place| all.get(place).cloned()).collect(), places)
        }
    };
    for (column, &place) in names.iter().zip(&places) {
        if all.iter().filter(|other| *other == column).count() > 1 {
            bail!("{name}: duplicate column {column:?}");
        }
        let holds = schema.field(place).data_type();
        if !is_readable(holds, nested.contains(&column.as_str())) {
            bail!("{name}: column {column:?} holds {holds}, not text or numbers");
        }
    }
    // Columns come in the order of the file.
    let mut order = places.clone();
    order.sort_unstable();
    let order: Vec<usize> = places.iter().filter_map(|place| order.iter().position(|other| other == place)).collect();
    let batches = table.batches(places).with_context(|| format!("{name}: failed to read"))?;
    let columns = names.clone();
    let mut before = 0;
    let parts = batches.flat_map(|batch| match batch {
        Ok(batch) => {
            let rows = batch.num_rows();
            let part = move |start| Ok(batch.slice(start, ROWS.min(rows - start)));
            Box::new((0..rows).step_by(ROWS).map(part)) as Batches
        }
        Err(error) => Box::new(std::iter::once(Err(error))),
    });
    let rows = parts.flat_map(move |part| {
        let rows = part.and_then(|part| fields(&part, &names, &order, before));
        match rows.with_context(|| format!("{name}: failed to read the rows after row {before}")) {
            Ok(rows) => {
                before += rows.len();
                rows.into_iter().map(Ok).collect::<Vec<_>>()
            }
            Err(error) => vec![Err(error)],
        }
    });
    Ok(Rows::new(columns, rows))
}

/// The names of all columns.
pub(super) fn columns(format: Format, file: &Path) -> Result<Vec<String>> {
    Ok(Table::open(format, file)?.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Looks at what is compressed in a file: of some columns, or all.
///
/// # Errors
/// If it's in a way that can't be read.
pub(super) fn check(format: Format, file: &Path, wanted: Option<&[String]>) -> Result<()> {
    if let Table::Parquet(builder) = Table::open(format, file)? {
        let is_wanted = |column: &str| wanted.is_none_or(|wanted| wanted.iter().any(|name| name == column));
        parquet::check_codecs(&builder, &is_wanted).with_context(|| format!("{}: can't be read", file.display()))?;
    }
    Ok(())
}

fn fields(batch: &RecordBatch, names: &[String], order: &[usize], before: usize) -> Result<Vec<Fields>> {
    let column =
        |(name, &place): (&String, &usize)| Column::of(batch.column(place)).with_context(|| format!("column {name:?}"));
    let columns = names.iter().zip(order).map(column).collect::<Result<Vec<_>>>()?;
    let row = |row: usize| {
        let number = before + row + 1;
        let field = |(column, name): (&Column, &String)| {
            column.field(row).with_context(|| format!("row {number}, column {name:?}"))
        };
        Ok((number, columns.iter().zip(names).map(field).collect::<Result<_>>()?))
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Columns that are read where nobody says which.
fn is_plain(holds: &DataType) -> bool {
    match holds {
        DataType::Dictionary(_, values) => is_plain(values),
        DataType::RunEndEncoded(_, values) => is_plain(values.data_type()),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => false,
        other => !other.is_nested() && can_cast_types(other, &DataType::Utf8),
    }
}

/// Columns that can be read where they're asked for.
fn is_readable(holds: &DataType, may_be_nested: bool) -> bool {
    match holds {
        DataType::Dictionary(_, values) => is_readable(values, may_be_nested),
        DataType::RunEndEncoded(_, values) => is_readable(values.data_type(), may_be_nested),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        other if other.is_nested() => may_be_nested && values::is_json(other),
        other => can_cast_types(other, &DataType::Utf8),
    }
}

/// A file whose schema is known.
enum Table {
    Parquet(Box<parquet::Builder>),
    Arrow(Box<ipc::File>),
}

impl Table {
    fn open(format: Format, file: &Path) -> Result<Self> {
        let name = file.display();
        if format == Format::Arrow {
            let opened = ipc::File::open(file).with_context(|| format!("{name}: can't be read as an Arrow file"))?;
            return Ok(Self::Arrow(Box::new(opened)));
        }
        let opened = parquet::open(file).with_context(|| format!("{name}: can't be read as a Parquet file"))?;
        Ok(Self::Parquet(Box::new(opened)))
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Parquet(builder) => Arc::clone(builder.schema()),
            Self::Arrow(file) => file.schema(),
        }
    }

    /// The columns at these places, in their order in the file.
    fn batches(self, mut places: Vec<usize>) -> Result<Batches> {
        places.sort_unstable();
        Ok(match self {
            Self::Parquet(builder) => Box::new(parquet::batches(parquet::projected(*builder, places), ROWS)?),
            Self::Arrow(file) => Box::new(file.batches(places)),
        })
    }
}
