//! Values of columns as text: numbers as they're written, dates in ISO 8601, lists and structs as JSON.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, OffsetSizeTrait, StringArray},
    compute::{CastOptions, cast_with_options},
    datatypes::DataType,
};

/// Casts fail rather than leave out what they can't do.
const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// A column of a batch.
pub(super) enum Column {
    Text(StringArray),
    /// Text whose encoding nobody vouches for.
    Bytes(ArrayRef),
    Json(Json),
}

impl Column {
    pub(super) fn of(array: &ArrayRef) -> Result<Self> {
        let array = &plain(array)?;
        Ok(match array.data_type() {
            holds if is_bytes(holds) => Self::Bytes(cast(array, &DataType::LargeBinary)?),
            holds if holds.is_nested() => Self::Json(Json::of(array)?),
            _ => Self::Text(cast(array, &DataType::Utf8)?.as_string().clone()),
        })
    }

    /// The value of a row.
    pub(super) fn field(&self, row: usize) -> Result<String> {
        match self {
            Self::Text(texts) => Ok(if texts.is_null(row) { String::new() } else { texts.value(row).to_owned() }),
            Self::Bytes(bytes) if bytes.is_null(row) => Ok(String::new()),
            Self::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes.as_binary::<i64>().value(row));
                Ok(text.context("the bytes aren't text in UTF-8")?.to_owned())
            }
            Self::Json(json) if json.is_null(row) => Ok(String::new()),
            Self::Json(json) => {
                let mut text = String::new();
                json.write(row, &mut text);
                Ok(text)
            }
        }
    }
}

/// Whether lists and structs of this type can be written as JSON.
pub(super) fn is_json(holds: &DataType) -> bool {
    match holds {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::Map(item, _) => is_json(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_json(field.data_type())),
        DataType::Dictionary(_, values) => is_json(values),
        DataType::RunEndEncoded(_, values) => is_json(values.data_type()),
        DataType::Union(..) => false,
        _ => true,
    }
}

/// Values as JSON.
pub(super) enum Json {
    Null,
    Text(StringArray),
    /// Numbers and booleans.
    Plain(StringArray),
    List {
        array: ArrayRef,
        ranges: Vec<(usize, usize)>,
        items: Box<Json>,
    },
    Object {
        array: ArrayRef,
        fields: Vec<(String, Json)>,
    },
}

impl Json {
    fn of(array: &ArrayRef) -> Result<Self> {
        let array = plain(array)?;
        if let Some((ranges, items)) = items(&array) {
            let items = Box::new(Self::of(&items)?);
            return Ok(Self::List { array, ranges, items });
        }
        let holds = array.data_type().clone();
        Ok(match &holds {
            DataType::Null => Self::Null,
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let columns = columns.map(|(field, column)| Ok((field.name().clone(), Self::of(column)?)));
                let fields = columns.collect::<Result<_>>()?;
                Self::Object { array, fields }
            }
            DataType::Boolean | DataType::Float16 | DataType::Float32 | DataType::Float64 => plain_text(&array)?,
            holds if holds.is_integer() => plain_text(&array)?,
            holds if is_bytes(holds) => {
                // Such as images beside the words of a conversation.
                let bytes = cast(&array, &DataType::LargeBinary)?;
                let bytes = bytes.as_binary::<i64>();
                Self::Text(bytes.iter().map(|bytes| bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())).collect())
            }
            holds if holds.is_nested() => bail!("holds {holds}, which isn't read"),
            _ => Self::Text(cast(&array, &DataType::Utf8)?.as_string().clone()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Text(texts) | Self::Plain(texts) => texts.is_null(row),
            Self::List { array, .. } | Self::Object { array, .. } => array.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return out.push_str("null");
        }
        match self {
            Self::Null => {}
            Self::Text(texts) => out.push_str(&serde_json::Value::from(texts.value(row)).to_string()),
            Self::Plain(texts) => match texts.value(row) {
                "NaN" | "inf" | "-inf" => out.push_str("null"),
                number => out.push_str(number),
            },
            Self::List { ranges, items, .. } => {
                out.push('[');
                let (start, end) = ranges.get(row).copied().unwrap_or_default();
                for item in start..end {
                    if item > start {
                        out.push(',');
                    }
                    items.write(item, out);
                }
                out.push(']');
            }
            Self::Object { fields, .. } => {
                out.push('{');
                for (index, (name, values)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    out.push(':');
                    values.write(row, out);
                }
                out.push('}');
            }
        }
    }
}

/// The items of all rows of a column of lists, and which of them each row has.
fn items(array: &ArrayRef) -> Option<(Vec<(usize, usize)>, ArrayRef)> {
    Some(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (between(list.value_offsets()), list.values().clone())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (between(list.value_offsets()), list.values().clone())
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            (from(list.offsets(), list.sizes()), list.values().clone())
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            (from(list.offsets(), list.sizes()), list.values().clone())
        }
        DataType::FixedSizeList(_, size) => {
            let size = *size as usize;
            let ranges = (0..array.len()).map(|row| (row * size, (row + 1) * size)).collect();
            (ranges, array.as_fixed_size_list().values().clone())
        }
        DataType::Map(..) => {
            let map = array.as_map();
            (between(map.value_offsets()), Arc::new(map.entries().clone()))
        }
        _ => return None,
    })
}

/// Ranges from each of these to the next.
fn between<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<(usize, usize)> {
    offsets.windows(2).map(|ends| (ends[0].as_usize(), ends[1].as_usize())).collect()
}

/// Ranges that begin there and are so long.
fn from<O: OffsetSizeTrait>(starts: &[O], lengths: &[O]) -> Vec<(usize, usize)> {
    starts.iter().zip(lengths).map(|(start, length)| (start.as_usize(), start.as_usize() + length.as_usize())).collect()
}

fn plain_text(array: &ArrayRef) -> Result<Json> {
    if let Some(flags) = array.as_any().downcast_ref::<BooleanArray>() {
        let word = |flag: Option<bool>| flag.map(|flag| if flag { "true" } else { "false" });
        return Ok(Json::Plain(flags.iter().map(word).collect()));
    }
    Ok(Json::Plain(cast(array, &DataType::Utf8)?.as_string().clone()))
}

/// The same values without a dictionary or runs.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        DataType::RunEndEncoded(_, values) => cast(array, values.data_type()),
        _ => Ok(array.clone()),
    }
}

fn is_bytes(holds: &DataType) -> bool {
    matches!(holds, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &STRICT)?)
}
