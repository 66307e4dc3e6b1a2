//! One safetensors file, read a tensor at a time.

use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use fs_err::File;
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorInfo};

use super::header::{self, Header};

/// Elements that are converted at a time.
const CHUNK: usize = 1 << 16;

/// A safetensors file that was opened, its header read and checked.
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    /// Where the first tensor begins.
    start: u64,
    tensors: Header,
}

impl Reader {
    /// # Errors
    /// The file system's; files that aren't safetensors, are cut off, or whose header contradicts itself.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let mut open = || -> Result<(u64, Header)> {
            let size = file.metadata()?.len();
            ensure!(size >= 8, "it has {size} bytes only");
            let mut start = [0; 8];
            file.read_exact(&mut start)?;
            let length = header::length(start, size)?;
            let mut json = vec![0; length as usize];
            file.read_exact(&mut json)?;
            Ok((8 + length, header::parse(&json, size - 8 - length)?))
        };
        let opened = open().with_context(|| format!("{} is not a sound safetensors file", path.display()));
        opened.map(|(start, tensors)| Self { path: path.to_owned(), file, start, tensors })
    }

    /// The tensors' names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type, shape and place of a tensor, where there is one of this name.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The shape of a tensor, where there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).map(|info| &info.shape[..])
    }

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// A name that isn't there, a type that isn't a float, and the file system's.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.seek(name)?;
        let count = info.shape.iter().product();
        match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0.0; count];
                self.fill(bytemuck::cast_slice_mut(&mut values), name)?;
                Ok(values)
            }
            Dtype::F16 => self.halves(name, count, |bits| f16::from_bits(bits).to_f32()),
            Dtype::BF16 => self.halves(name, count, |bits| bf16::from_bits(bits).to_f32()),
            other => bail!("{}: {name} has the type {other}, not F32, F16 or BF16", self.path.display()),
        }
    }

    /// The bytes of a tensor, as they are stored.
    ///
    /// # Errors
    /// A name that isn't there, and the file system's.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let (from, to) = self.seek(name)?.data_offsets;
        let mut bytes = vec![0; to - from];
        self.fill(&mut bytes, name)?;
        Ok(bytes)
    }

    fn halves(&self, name: &str, count: usize, single: fn(u16) -> f32) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(count);
        let mut chunk = vec![0; CHUNK.min(count)];
        while values.len() < count {
            let chunk = &mut chunk[..CHUNK.min(count - values.len())];
            self.fill(bytemuck::cast_slice_mut(chunk), name)?;
            values.extend(chunk.iter().map(|&bits| single(u16::from_le(bits))));
        }
        Ok(values)
    }

    fn seek(&self, name: &str) -> Result<&TensorInfo> {
        let info = self.info(name).with_context(|| format!("{} has no tensor {name}", self.path.display()))?;
        (&self.file).seek(SeekFrom::Start(self.start + info.data_offsets.0 as u64))?;
        Ok(info)
    }

    fn fill(&self, bytes: &mut [u8], name: &str) -> Result<()> {
        (&self.file).read_exact(bytes).with_context(|| format!("{}: can't read {name}", self.path.display()))
    }
}
