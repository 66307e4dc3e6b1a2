//! One file of tensors, read a tensor at a time: safetensors, or what PyTorch wrote. Which of the two it is, its first bytes
//! say, whatever its name is.

use std::{
    collections::BTreeMap,
    io::{self, Read},
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

/// Elements that a thread reads at a time.
const PART: usize = 1 << 16;
/// Those of two bytes that it converts at a time.
const STEP: usize = 256;

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

    /// Whether a tensor's elements lie one after the other, so that no more than some of them has to be read.
    pub fn is_dense(&self, name: &str) -> bool {
        !self.strides.contains_key(name)
    }

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// A name that isn't there, a type that isn't a float, and the file system's.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.known(name)?;
        let size = self.size_of_floats(name)?;
        let mut values = vec![0.0; info.shape.iter().product()];
        match self.strides.get(name) {
            Some(_) => {
                behind(&mut values, size).copy_from_slice(&self.bytes(name)?);
                widen(info.dtype, &mut values);
            }
            None => {
                let parts = values.par_chunks_mut(PART).enumerate();
                parts.try_for_each(|(part, out)| self.read_into(name, part * PART, out))?;
            }
        }
        Ok(values)
    }

    /// The values of a dense tensor's elements from `first` on, as f32; as many as there's place for. Several threads may read
    /// at once.
    ///
    /// # Errors
    /// As [`Self::read`]; elements that it doesn't have.
    pub fn read_into(&self, name: &str, first: usize, out: &mut [f32]) -> Result<()> {
        let size = self.size_of_floats(name)?;
        self.read_at(name, first * size, behind(out, size))?;
        widen(self.known(name)?.dtype, out);
        Ok(())
    }

    /// Bytes of a dense tensor from one on, as many as there's place for. Several threads may read at once.
    ///
    /// # Errors
    /// A name that isn't there, bytes that it doesn't have, and the file system's.
    pub fn read_at(&self, name: &str, first: usize, out: &mut [u8]) -> Result<()> {
        let (from, to) = self.known(name)?.data_offsets;
        ensure!(self.is_dense(name), "{name} is strewn over {}", self.path.display());
        ensure!(out.len() <= (to - from).saturating_sub(first), "{name} has no {} bytes from {first} on", out.len());
        read_at(&self.file, self.start + (from + first) as u64, out).with_context(|| self.unreadable(name))
    }

    /// The bytes of a tensor, row by row.
    ///
    /// # Errors
    /// A name that isn't there, and the file system's.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let info = self.known(name)?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        read_at(&self.file, self.start + from as u64, &mut bytes).with_context(|| self.unreadable(name))?;
        Ok(match self.strides.get(name) {
            Some(strides) => strides.gather(info, &bytes),
            None => bytes,
        })
    }

    /// The bytes of a tensor as memory that is the file's; `None` where they don't lie one after the other or don't begin at
    /// a multiple of `align`, and where the file can't be memory.
    pub fn mapped(&self, name: &str, align: usize) -> Option<Bytes> {
        let (from, to) = self.info(name).filter(|_| !self.strides.contains_key(name))?.data_offsets;
        let mapped = self.mapped.get_or_init(|| Mapped::new(self.file.file()).ok()).as_ref()?;
        let start = self.start as usize;
        mapped.bytes(start + from..start + to, align)
    }

    fn known(&self, name: &str) -> Result<&TensorInfo> {
        self.info(name).with_context(|| format!("{} has no tensor {name}", self.path.display()))
    }

    /// Bytes of an element, if it's a float that can be read.
    fn size_of_floats(&self, name: &str) -> Result<usize> {
        match self.known(name)?.dtype {
            Dtype::F32 => Ok(4),
            Dtype::F16 | Dtype::BF16 => Ok(2),
            other => bail!("{}: {name} has the type {other}, not F32, F16 or BF16", self.path.display()),
        }
    }

    fn unreadable(&self, name: &str) -> String {
        format!("{}: can't read {name}", self.path.display())
    }
}

/// Where elements of so many bytes are put to be [widened](widen): at the end of the place of their values.
fn behind(values: &mut [f32], size: usize) -> &mut [u8] {
    let (whole, narrow) = (size_of_val(values), values.len() * size);
    &mut bytemuck::cast_slice_mut(values)[whole - narrow..]
}

/// Makes values of the elements of a type that lie [behind] them. What is written, from the front on, stays before what is
/// still to be read.
fn widen(dtype: Dtype, values: &mut [f32]) {
    let single: fn(&[u16], &mut [f32]) = match dtype {
        Dtype::F16 => |bits, out| bits.reinterpret_cast::<f16>().convert_to_f32_slice(out),
        Dtype::BF16 => |bits, out| bits.reinterpret_cast::<bf16>().convert_to_f32_slice(out),
        _ => return,
    };
    let (count, mut bits) = (values.len(), [0; STEP]);
    for first in (0..count).step_by(STEP) {
        let bits = &mut bits[..STEP.min(count - first)];
        bits.copy_from_slice(&bytemuck::cast_slice(values)[count + first..][..bits.len()]);
        bits.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
        single(bits, &mut values[first..first + bits.len()]);
    }
}

/// Reads at a place of a file, wherever others read.
#[cfg(unix)]
fn read_at(file: &File, place: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file.file(), out, place)
}

#[cfg(not(unix))]
fn read_at(file: &File, place: u64, out: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(file.path())?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(place))?;
    file.read_exact(out)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Bytes;

    use super::*;
    use crate::network::model::tensors::{TensorEntry, write};

    #[test]
    fn parts_of_a_tensor_are_those_of_the_whole() {
        let numbers: Vec<f32> = (0..PART + 700).map(|at| at as f32 / 8.0 - 1000.0).collect();
        let halves = |bits: fn(f32) -> u16| numbers.iter().flat_map(|&x| bits(x).to_le_bytes()).collect::<Vec<u8>>();
        let stored = [
            (Dtype::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Dtype::F16, halves(|x| f16::from_f32(x).to_bits())),
            (Dtype::BF16, halves(|x| bf16::from_f32(x).to_bits())),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        let entries = stored.iter().map(|(dtype, bytes): &(Dtype, Vec<u8>)| {
            let values = || Ok(Bytes::from_bytes_vec(bytes.clone()));
            TensorEntry::new(dtype.to_string(), *dtype, vec![numbers.len()], values)
        });
        write(file.path(), entries.collect()).unwrap();
        let reader = Reader::open(file.path()).unwrap();
        for (dtype, bytes) in &stored {
            let name = &dtype.to_string();
            let rounded = |x: f32| match dtype {
                Dtype::F16 => f16::from_f32(x).to_f32(),
                Dtype::BF16 => bf16::from_f32(x).to_f32(),
                _ => x,
            };
            let expected: Vec<f32> = numbers.iter().map(|&x| rounded(x)).collect();
            assert_eq!(reader.read(name).unwrap(), expected, "{name}");
            assert_eq!(&reader.bytes(name).unwrap(), bytes, "{name}");
            for (first, count) in [(0, 1), (3, STEP), (STEP - 1, 2 * STEP + 7), (numbers.len() - 5, 5), (0, 0)] {
                let mut part = vec![f32::NAN; count];
                reader.read_into(name, first, &mut part).unwrap();
                assert_eq!(part, expected[first..first + count], "{name}, {count} from {first}");
            }
            let past = reader.read_into(name, numbers.len() - 1, &mut [0.0; 2]);
            assert!(past.unwrap_err().to_string().contains("from"), "{name}");
        }
        assert!(reader.read("other").unwrap_err().to_string().contains("no tensor other"));
    }
}
