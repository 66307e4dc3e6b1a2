//! One file of tensors, read a tensor at a time: safetensors, or what PyTorch wrote. Which of the two it is, its first bytes
//! say, whatever its name is.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Seek, SeekFrom},
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

use super::{
    header::{self, Header},
    torch::{self, Strides, Torch},
};
use crate::network::kernels::Mapped;

/// Elements of two bytes that are read at a time.
const BLOCK: usize = 1 << 22;
/// Those of them that a thread converts at a time.
const CHUNK: usize = 1 << 16;

/// A file of tensors that was opened; what it says of them was read and checked.
pub struct Reader {
    path: PathBuf,
    file: File,
    /// Where the first tensor begins.
    start: u64,
    tensors: Header,
    /// Tensors whose elements are strewn over the bytes that they lie in.
    strides: BTreeMap<String, Strides>,
    /// The file as memory, once someone asks for it; none where that can't be had.
    mapped: OnceLock<Option<Mapped>>,
}

impl Reader {
    /// Opens a file, and reads which tensors there are and where.
    ///
    /// # Errors
    /// The file system's; files that are of neither format, are cut off, contradict themselves, or hold something that
    /// PyTorch could be made to run.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut start = [0; 8];
        let is_short = size < start.len() as u64;
        if !is_short {
            file.read_exact(&mut start)?;
        }
        let (start, Torch { tensors, strides }) = if torch::is_torch(start) {
            let opened = torch::open(&file, start, size);
            (0, opened.with_context(|| format!("{} is not a sound file of PyTorch's", path.display()))?)
        } else {
            let mut open = || -> Result<(u64, Header)> {
                ensure!(!is_short, "it has {size} bytes only");
                let length = header::length(start, size)?;
                let mut json = vec![0; length as usize];
                file.read_exact(&mut json)?;
                Ok((8 + length, header::parse(&json, size - 8 - length)?))
            };
            let opened = open().with_context(|| format!("{} is not a sound safetensors file", path.display()));
            let (start, tensors) = opened?;
            (start, Torch { tensors, strides: BTreeMap::new() })
        };
        Ok(Self { path: path.to_owned(), file, start, tensors, strides, mapped: OnceLock::new() })
    }

    /// The tensors' names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type, shape and place of a tensor, where there is one of this name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The shape of a tensor, where there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).map(|info| &info.shape[..])
    }

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// A name that isn't there, a type that isn't a float, and the file system's.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let count = self.info(name).map_or(0, |info| info.shape.iter().product());
        self.read_part(name, 0..count)
    }

    /// The values of some of a tensor's elements, as f32.
    ///
    /// # Errors
    /// As [`Self::read`]; elements that it doesn't have.
    pub fn read_part(&self, name: &str, elements: Range<usize>) -> Result<Vec<f32>> {
        let size = self.info(name).map_or(0, |info| info.dtype.bitsize() / 8);
        let (info, mut source) = self.source(name, elements.start * size..elements.end * size)?;
        let count = elements.len();
        let read = match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0.0; count];
                source.read_exact(bytemuck::cast_slice_mut(&mut values)).map(|()| values)
            }
            Dtype::F16 => {
                halves(&mut source, count, |bits, out| bits.reinterpret_cast::<f16>().convert_to_f32_slice(out))
            }
            Dtype::BF16 => {
                halves(&mut source, count, |bits, out| bits.reinterpret_cast::<bf16>().convert_to_f32_slice(out))
            }
            other => bail!("{}: {name} has the type {other}, not F32, F16 or BF16", self.path.display()),
        };
        read.with_context(|| self.unreadable(name))
    }

    /// The bytes of a tensor, row by row.
    ///
    /// # Errors
    /// A name that isn't there, and the file system's.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let size = self.info(name).map_or(0, size_of_elements);
        self.bytes_of(name, 0..size)
    }

    /// Some of the bytes of a tensor, row by row.
    ///
    /// # Errors
    /// As [`Self::bytes`]; bytes that it doesn't have.
    pub fn bytes_of(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; part.len()];
        let (_, mut source) = self.source(name, part)?;
        source.read_exact(&mut bytes).with_context(|| self.unreadable(name))?;
        Ok(bytes)
    }

    /// The bytes of a tensor as memory that is the file's; `None` where they don't lie one after the other or don't begin at
    /// a multiple of `align`, and where the file can't be memory.
    pub fn mapped(&self, name: &str, align: usize) -> Option<Bytes> {
        let (from, to) = self.info(name).filter(|_| !self.strides.contains_key(name))?.data_offsets;
        let mapped = self.mapped.get_or_init(|| Mapped::new(self.file.file()).ok()).as_ref()?;
        let start = self.start as usize;
        mapped.bytes(start + from..start + to, align)
    }

    /// A tensor, and what these of its bytes come out of.
    fn source(&self, name: &str, part: Range<usize>) -> Result<(&TensorInfo, Box<dyn Read + '_>)> {
        let info = self.info(name).with_context(|| format!("{} has no tensor {name}", self.path.display()))?;
        let (from, to) = info.data_offsets;
        ensure!(part.start <= part.end && part.end <= size_of_elements(info), "{name} has no bytes {part:?}");
        let Some(strides) = self.strides.get(name) else {
            (&self.file).seek(SeekFrom::Start(self.start + (from + part.start) as u64))?;
            return Ok((info, Box::new(&self.file)));
        };
        (&self.file).seek(SeekFrom::Start(self.start + from as u64))?;
        let mut strewn = vec![0; to - from];
        (&self.file).read_exact(&mut strewn).with_context(|| self.unreadable(name))?;
        let mut gathered = Cursor::new(strides.gather(info, &strewn));
        gathered.set_position(part.start as u64);
        Ok((info, Box::new(gathered)))
    }

    fn unreadable(&self, name: &str) -> String {
        format!("{}: can't read {name}", self.path.display())
    }
}

/// Bytes of all elements of a tensor.
fn size_of_elements(info: &TensorInfo) -> usize {
    info.shape.iter().product::<usize>() * info.dtype.bitsize() / 8
}

fn halves(source: &mut dyn Read, count: usize, single: fn(&[u16], &mut [f32])) -> io::Result<Vec<f32>> {
    let mut values = vec![0.0; count];
    let mut block = vec![0; BLOCK.min(count)];
    for values in values.chunks_mut(BLOCK) {
        let block = &mut block[..values.len()];
        source.read_exact(bytemuck::cast_slice_mut(block))?;
        block.par_chunks_mut(CHUNK).zip(values.par_chunks_mut(CHUNK)).for_each(|(bits, values)| {
            bits.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
            single(bits, values);
        });
    }
    Ok(values)
}
