//! Writing safetensors files: the same tensors give the same bytes.

use std::{
    collections::HashMap,
    io::{BufWriter, Write},
    ops::Range,
    path::Path,
};

use anyhow::{Result, ensure};
use burn::tensor::{Bytes, DType, TensorData};
use fs_err::{self as fs, File};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde_json::{Map, Value, json};

use crate::network::checkpoint::{INDEX, WEIGHTS};

/// A tensor that is to be written; its values are fetched when its turn comes.
pub(crate) struct TensorEntry<'a> {
    pub(crate) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    values: Values<'a>,
}

/// Fetches values, a part at a time, and gives them to what writes them.
type Values<'a> = Box<dyn FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a>;

/// Bytes that a part of a tensor has about.
const PART: usize = 1 << 26;

impl<'a> TensorEntry<'a> {
    /// A tensor of f32.
    pub(crate) fn single(name: String, shape: Vec<usize>, values: impl FnOnce() -> Result<TensorData> + 'a) -> Self {
        Self::new(name, Dtype::F32, shape, || single(values()?))
    }

    /// A tensor of f32 whose rows are fetched some at a time, so that there's no second one of a large table while it's written.
    pub(crate) fn by_rows(
        name: String,
        shape: Vec<usize>,
        values: impl Fn(Range<usize>) -> Result<TensorData> + 'a,
    ) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        let row = shape.iter().skip(1).product::<usize>() * size_of::<f32>();
        let most = (PART / row.max(1)).max(1);
        let parts = move |write: &mut dyn FnMut(&[u8]) -> Result<()>| {
            (0..rows).step_by(most).try_for_each(|first| write(&single(values(first..rows.min(first + most))?)?))
        };
        Self { name, dtype: Dtype::F32, shape, values: Box::new(parts) }
    }

    /// A tensor of any type, whose values come as they are to be stored.
    pub(crate) fn new(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        values: impl FnOnce() -> Result<Bytes> + 'a,
    ) -> Self {
        let whole = |write: &mut dyn FnMut(&[u8]) -> Result<()>| write(&values()?);
        Self { name, dtype, shape, values: Box::new(whole) }
    }

    /// How many bytes it takes.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The bytes of values of f32.
fn single(values: TensorData) -> Result<Bytes> {
    ensure!(values.dtype() == DType::F32, "values of {:?} where f32 is to be stored", values.dtype());
    Ok(values.into_bytes())
}

/// Writes tensors in the order of their names.
///
/// # Errors
/// The file system's, and those of fetching values.
pub(crate) fn write(path: &Path, mut entries: Vec<TensorEntry>) -> Result<()> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let infos = entries.iter().map(|entry| {
        let start = end;
        end += entry.bytes();
        let info = TensorInfo { dtype: entry.dtype, shape: entry.shape.clone(), data_offsets: (start, end) };
        (entry.name.clone(), info)
    });
    // transformers refuses files that don't say which framework they are for.
    let format = HashMap::from([("format".into(), "pt".into())]);
    let mut header = serde_json::to_vec(&Metadata::new(Some(format), infos.collect())?)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for entry in entries {
        let size = entry.bytes();
        let mut written = 0;
        (entry.values)(&mut |bytes| {
            written += bytes.len();
            Ok(file.write_all(bytes)?)
        })?;
        ensure!(written == size, "{} changed its size while being stored", entry.name);
    }
    file.flush()?;
    Ok(())
}

/// Writes the weights of a checkpoint into `directory`: `model.safetensors`, or, where that would be larger than
/// `most` bytes, shards of at most that many (but of one tensor at least) with their index.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_in_shards(directory: &Path, mut entries: Vec<TensorEntry>, most: u64) -> Result<()> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let total: usize = entries.iter().map(TensorEntry::bytes).sum();
    let mut shards: Vec<(u64, Vec<TensorEntry>)> = Vec::new();
    for entry in entries {
        let bytes = entry.bytes() as u64;
        match shards.last_mut() {
            Some((size, shard)) if *size + bytes <= most => {
                *size += bytes;
                shard.push(entry);
            }
            _ => shards.push((bytes, vec![entry])),
        }
    }
    if shards.len() <= 1 {
        return write(&directory.join(WEIGHTS), shards.into_iter().flat_map(|(_, shard)| shard).collect());
    }
    let count = shards.len();
    let mut places = Map::new();
    for (number, (_, shard)) in (1..).zip(shards) {
        let name = format!("model-{number:05}-of-{count:05}.safetensors");
        places.extend(shard.iter().map(|entry| (entry.name.clone(), Value::from(name.as_str()))));
        write(&directory.join(&name), shard)?;
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
    Ok(fs::write(directory.join(INDEX), format!("{index:#}\n"))?)
}
