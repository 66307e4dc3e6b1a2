//! Safetensors files, read and written one tensor at a time.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;
use fs_err::File;
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

/// Longer headers are a mistake, or meant to fill the memory.
const LONGEST_HEADER: u64 = 100_000_000;

/// A tensor that is to be written; its values are fetched when its turn comes.
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Box<dyn FnOnce() -> Result<TensorData> + 'a>,
}

/// Writes f32 tensors in the order of their names: the same tensors give the same bytes.
///
/// # Errors
/// The file system's, and those of fetching values.
pub(crate) fn write(path: &Path, mut entries: Vec<Entry>) -> Result<()> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let infos = entries.iter().map(|entry| {
        let start = end;
        end += entry.shape.iter().product::<usize>() * size_of::<f32>();
        let info = TensorInfo { dtype: Dtype::F32, shape: entry.shape.clone(), data_offsets: (start, end) };
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
        let data = (entry.values)()?;
        let fits = data.shape().as_slice() == entry.shape;
        let values = data.as_slice::<f32>().ok().filter(|_| fits);
        let values = values.with_context(|| format!("{} changed its shape or type while being stored", entry.name))?;
        file.write_all(bytemuck::cast_slice(values))?;
    }
    file.flush()?;
    Ok(())
}

/// A safetensors file that was opened, its header read and checked.
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    /// Where the first tensor begins.
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Reader {
    /// # Errors
    /// The file system's; files that aren't safetensors, or are cut off.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let broken = || format!("{} is not a complete safetensors file", path.display());
        let mut length = [0; 8];
        file.read_exact(&mut length).with_context(broken)?;
        let length = u64::from_le_bytes(length);
        ensure!(length <= LONGEST_HEADER.min(size), broken());
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).with_context(broken)?;
        let metadata: Metadata = serde_json::from_slice(&header).with_context(broken)?;
        let start = 8 + length;
        let data = metadata.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
        ensure!(size == start + data as u64, broken());
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { path: path.to_owned(), file, start, tensors })
    }

    /// The tensors' names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, where there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| &info.shape[..])
    }

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// A name that isn't there, a type that isn't a float, and the file system's.
    pub(crate) fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let Self { path, file, start, tensors } = self;
        let info = tensors.get(name).with_context(|| format!("{} has no tensor {name}", path.display()))?;
        let (from, to) = info.data_offsets;
        file.seek(SeekFrom::Start(*start + from as u64))?;
        let mut halves = |halves: &mut [u16]| file.read_exact(bytemuck::cast_slice_mut(halves));
        let count = (to - from) / (info.dtype.bitsize() / 8).max(1);
        match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0.0; count];
                file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
                Ok(values)
            }
            Dtype::F16 => {
                let mut values = vec![0; count];
                halves(&mut values)?;
                Ok(values.into_iter().map(|bits| half::f16::from_bits(bits).to_f32()).collect())
            }
            Dtype::BF16 => {
                let mut values = vec![0; count];
                halves(&mut values)?;
                Ok(values.into_iter().map(|bits| half::bf16::from_bits(bits).to_f32()).collect())
            }
            other => bail!("{}: tensor {name} has the type {other:?}, not F32, F16 or BF16", path.display()),
        }
    }
}
