//! One safetensors file, read a tensor at a time.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Bytes;
use fs_err::File;
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::TensorInfo};

use super::header::{self, Header};
use crate::network::kernels::Mapped;

/// Elements of two bytes that are read at a time.
const BLOCK: usize = 1 << 22;
/// Those of them that a thread converts at a time.
const CHUNK: usize = 1 << 16;

/// A safetensors file that was opened, its header read and checked.
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    /// Where the first tensor begins.
    start: u64,
    tensors: Header,
    /// The file as memory, once someone asks for it; none where that can't be had.
    mapped: OnceLock<Option<Mapped>>,
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
        opened.map(|(start, tensors)| Self { path: path.to_owned(), file, start, tensors, mapped: OnceLock::new() })
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
        let count = self.info(name).map_or(0, |info| info.shape.iter().product());
        self.read_part(name, 0..count)
    }

    /// The values of some of a tensor's elements, as f32.
    ///
    /// # Errors
    /// As [`Self::read`]; elements that it doesn't have.
    pub(crate) fn read_part(&self, name: &str, elements: Range<usize>) -> Result<Vec<f32>> {
        let bytes = self.info(name).map_or(0, |info| info.dtype.bitsize() / 8);
        let info = self.seek(name, elements.start * bytes..elements.end * bytes)?;
        let count = elements.len();
        match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0.0; count];
                self.fill(bytemuck::cast_slice_mut(&mut values), name)?;
                Ok(values)
            }
            Dtype::F16 => {
                self.halves(name, count, |bits, out| bits.reinterpret_cast::<f16>().convert_to_f32_slice(out))
            }
            Dtype::BF16 => {
                self.halves(name, count, |bits, out| bits.reinterpret_cast::<bf16>().convert_to_f32_slice(out))
            }
            other => bail!("{}: {name} has the type {other}, not F32, F16 or BF16", self.path.display()),
        }
    }

    /// The bytes of a tensor, as they are stored.
    ///
    /// # Errors
    /// A name that isn't there, and the file system's.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let size = self.info(name).map_or(0, |info| info.data_offsets.1 - info.data_offsets.0);
        self.bytes_of(name, 0..size)
    }

    /// Some of the bytes of a tensor, as they are stored.
    ///
    /// # Errors
    /// As [`Self::bytes`]; bytes that it doesn't have.
    pub(crate) fn bytes_of(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        self.seek(name, part.clone())?;
        let mut bytes = vec![0; part.len()];
        self.fill(&mut bytes, name)?;
        Ok(bytes)
    }

    /// The bytes of a tensor as memory that is the file's; `None` where they don't begin at a multiple of `align`, or a file
    /// can't be memory.
    pub(crate) fn mapped(&self, name: &str, align: usize) -> Option<Bytes> {
        let (from, to) = self.info(name)?.data_offsets;
        let mapped = self.mapped.get_or_init(|| Mapped::new(self.file.file()).ok()).as_ref()?;
        let start = self.start as usize;
        mapped.bytes(start + from..start + to, align)
    }

    fn halves(&self, name: &str, count: usize, single: fn(&[u16], &mut [f32])) -> Result<Vec<f32>> {
        let mut values = vec![0.0; count];
        let mut block = vec![0; BLOCK.min(count)];
        for values in values.chunks_mut(BLOCK) {
            let block = &mut block[..values.len()];
            self.fill(bytemuck::cast_slice_mut(block), name)?;
            block.par_chunks_mut(CHUNK).zip(values.par_chunks_mut(CHUNK)).for_each(|(bits, values)| {
                bits.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
                single(bits, values);
            });
        }
        Ok(values)
    }

    /// Goes to the first of these bytes of a tensor.
    fn seek(&self, name: &str, part: Range<usize>) -> Result<&TensorInfo> {
        let info = self.info(name).with_context(|| format!("{} has no tensor {name}", self.path.display()))?;
        let (from, to) = info.data_offsets;
        ensure!(part.start <= part.end && part.end <= to - from, "{name} has no bytes {part:?}");
        (&self.file).seek(SeekFrom::Start(self.start + (from + part.start) as u64))?;
        Ok(info)
    }

    fn fill(&self, bytes: &mut [u8], name: &str) -> Result<()> {
        (&self.file).read_exact(bytes).with_context(|| format!("{}: can't read {name}", self.path.display()))
    }
}
