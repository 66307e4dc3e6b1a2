//! One file of tensors, read a tensor at a time: safetensors, or what PyTorch wrote. Which of the two it is, its first bytes
//! say, whatever its name is.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use fs_err::File;
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorInfo};

use super::{
    header::{self, Header},
    torch::{self, Strides, Torch},
};

/// Elements that are converted at a time.
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
        Ok(Self { path: path.to_owned(), file, start, tensors, strides })
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
        let (info, mut source) = self.source(name)?;
        let count = info.shape.iter().product();
        let read = match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0.0; count];
                source.read_exact(bytemuck::cast_slice_mut(&mut values)).map(|()| values)
            }
            Dtype::F16 => halves(&mut source, count, |bits| f16::from_bits(bits).to_f32()),
            Dtype::BF16 => halves(&mut source, count, |bits| bf16::from_bits(bits).to_f32()),
            other => bail!("{}: {name} has the type {other}, not F32, F16 or BF16", self.path.display()),
        };
        read.with_context(|| self.unreadable(name))
    }

    /// The bytes of a tensor, row by row.
    ///
    /// # Errors
    /// A name that isn't there, and the file system's.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let (info, mut source) = self.source(name)?;
        let mut bytes = vec![0; info.shape.iter().product::<usize>() * info.dtype.bitsize() / 8];
        source.read_exact(&mut bytes).with_context(|| self.unreadable(name))?;
        Ok(bytes)
    }

    /// A tensor, and what its bytes come out of.
    fn source(&self, name: &str) -> Result<(&TensorInfo, Box<dyn Read + '_>)> {
        let info = self.info(name).with_context(|| format!("{} has no tensor {name}", self.path.display()))?;
        let (from, to) = info.data_offsets;
        (&self.file).seek(SeekFrom::Start(self.start + from as u64))?;
        let Some(strides) = self.strides.get(name) else { return Ok((info, Box::new(&self.file))) };
        let mut strewn = vec![0; to - from];
        (&self.file).read_exact(&mut strewn).with_context(|| self.unreadable(name))?;
        Ok((info, Box::new(Cursor::new(strides.gather(info, &strewn)))))
    }

    fn unreadable(&self, name: &str) -> String {
        format!("{}: can't read {name}", self.path.display())
    }
}

fn halves(source: &mut dyn Read, count: usize, single: fn(u16) -> f32) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut chunk = vec![0; CHUNK.min(count)];
    while values.len() < count {
        let chunk = &mut chunk[..CHUNK.min(count - values.len())];
        source.read_exact(bytemuck::cast_slice_mut(chunk))?;
        values.extend(chunk.iter().map(|&bits| single(u16::from_le(bits))));
    }
    Ok(values)
}
