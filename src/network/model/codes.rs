//! Matrices that lie in checkpoints as codes with scales beside them: our own, and those of ChatGLM's quantized editions
//! (`quantization.py` of THUDM/chatglm-6b).

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Bytes, DType, Device, TensorData};
use half::f16;
use safetensors::Dtype;

use super::{
    on_disk::SCALE,
    tensors::{Elements, Weights},
};
use crate::network::kernels::{Compact, GROUP};

/// The key of ChatGLM's configs that says how many bits codes have; 0 if they're none.
pub(super) const QUANTIZATION: &str = "quantization_bit";
/// The key that says whether tables are codes, too.
pub(super) const QUANTIZED_TABLES: &str = "quantization_embeddings";

/// What the elements of a tensor stand for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    /// A byte each, in two's complement; with a scale for each row, `[rows, 1]` or `[rows]`, or column, `[1, columns]`.
    Bytes,
    /// Two a byte, neighbours in two's complement, the first in the upper half: ChatGLM's, with a scale for each row.
    Pairs,
    /// Two a byte as [`Compact::int4`] has them, with scales `[rows, groups]` or `[rows, 1]`; whole groups only.
    Groups,
}

/// What those of a tensor stand for, where they are codes; `bits` as the config has it.
pub(super) fn of(weights: &Weights, name: &str, bits: Option<u64>) -> Option<Code> {
    let scales = || weights.info(&format!("{name}{SCALE}"));
    match weights.info(name)?.dtype {
        Dtype::I8 if bits == Some(4) && scales().is_some_and(|scales| scales.shape.len() == 1) => Some(Code::Pairs),
        Dtype::I8 => Some(Code::Bytes),
        Dtype::U8 => scales().map(|_| Code::Groups),
        _ => None,
    }
}

/// The codes of a matrix and what is known of its scales.
struct Coded {
    code: Code,
    rows: usize,
    columns: usize,
    bytes: Bytes,
    scales: Vec<f32>,
    /// How many elements of a row have a scale of their own together; or all of a column, if it's 0.
    per: usize,
}

impl Coded {
    fn read(weights: &Weights, name: &str, code: Code) -> Result<Self> {
        let name_of_scales = format!("{name}{SCALE}");
        let shapes = [name, &name_of_scales].map(|name| weights.info(name).map(|info| info.shape.clone()));
        let [Some(shape), Some(scales)] = shapes else { bail!("{name} has codes, but no scales beside it") };
        let &[rows, width] = &shape[..] else { bail!("{name} has codes, but isn't a matrix") };
        let columns = if code == Code::Bytes { width } else { 2 * width };
        let groups = columns / GROUP;
        let per = match (code, &scales[..]) {
            (Code::Bytes | Code::Pairs, &[down]) if down == rows => columns,
            (Code::Bytes | Code::Groups, &[down, 1]) if down == rows => columns,
            (Code::Bytes, &[1, across]) if across == columns => 0,
            (Code::Groups, &[down, across]) if down == rows && across == groups => GROUP,
            _ => bail!("{name_of_scales} doesn't fit {name}"),
        };
        ensure!(code != Code::Groups || columns % GROUP == 0, "{name} has codes for parts of groups");
        let bytes = match weights.mapped(name, 1) {
            Some(bytes) => bytes,
            None => Bytes::from_bytes_vec(weights.bytes(name)?),
        };
        Ok(Self { code, rows, columns, bytes, scales: weights.read(&name_of_scales)?, per })
    }

    /// The values of the elements from `first` on.
    fn values(&self, first: usize, out: &mut [f32]) {
        let Self { code, columns, ref bytes, ref scales, per, .. } = *self;
        for (at, out) in out.iter_mut().enumerate() {
            let (row, column) = ((first + at) / columns, (first + at) % columns);
            let number = match code {
                Code::Bytes => f32::from(bytes[first + at].cast_signed()),
                Code::Pairs if column % 2 == 0 => f32::from(bytes[(first + at) / 2].cast_signed() >> 4),
                Code::Pairs => f32::from((bytes[(first + at) / 2] << 4).cast_signed() >> 4),
                Code::Groups => {
                    let pair = bytes[row * columns / 2 + column / GROUP * (GROUP / 2) + column % (GROUP / 2)];
                    let half = if column % GROUP < GROUP / 2 { pair & 15 } else { pair >> 4 };
                    f32::from(half) - 8.0
                }
            };
            *out = number * if per == 0 { scales[column] } else { scales[row * columns.div_ceil(per) + column / per] };
        }
    }
}

/// The values that codes stand for.
pub(super) fn read(weights: &Weights, name: &str, code: Code) -> Result<Vec<f32>> {
    let coded = Coded::read(weights, name, code)?;
    let mut values = vec![0.0; coded.rows * coded.columns];
    coded.values(0, &mut values);
    Ok(values)
}

/// The same for any elements, wherever they're wanted.
pub(super) fn elements<'a>(weights: &Weights, name: &str, code: Code) -> Result<Elements<'a>> {
    let coded = Coded::read(weights, name, code)?;
    Ok(Box::new(move |first, out| {
        coded.values(first, out);
        Ok(())
    }))
}

/// The matrix with these codes and scales as they are, the other way around if it lies `across`; `None` where kernels have no
/// such thing.
pub(super) fn held(
    weights: &Weights,
    name: &str,
    code: Code,
    across: bool,
    device: &Device,
) -> Result<Option<Compact>> {
    let Coded { rows, columns, bytes, scales, per, .. } = Coded::read(weights, name, code)?;
    let data = |bytes, shape: [usize; 2], dtype| TensorData::from_bytes(bytes, shape, dtype);
    let halves = |scales: Vec<f32>| {
        let across = scales.len() / rows.max(1);
        TensorData::new(scales.into_iter().map(f16::from_f32).collect(), [rows, across])
    };
    Ok(match code {
        Code::Bytes if across && per == 0 && rows > 0 => {
            let turned = (0..columns).flat_map(|column| bytes[column..].iter().step_by(columns).copied()).collect();
            let bytes = Bytes::from_bytes_vec(turned);
            Some(Compact::int8(data(bytes, [columns, rows], DType::I8), scales, device))
        }
        Code::Bytes | Code::Pairs if across => None,
        _ if per == 0 || rows == 0 || columns == 0 => None,
        Code::Bytes => Some(Compact::int8(data(bytes, [rows, columns], DType::I8), scales, device)),
        Code::Groups => {
            Some(Compact::int4(data(bytes, [rows, columns / 2], DType::U8), halves(scales), columns, device))
        }
        Code::Pairs => {
            let info = weights.info(&format!("{name}{SCALE}")).context("the scales are there")?;
            let bytes = Bytes::from_bytes_vec(regrouped(&bytes, columns));
            let width = bytes.len() / rows;
            // Scales of more digits than half precision has wouldn't be the same.
            (info.dtype == Dtype::F16)
                .then(|| Compact::int4(data(bytes, [rows, width], DType::U8), halves(scales), columns, device))
        }
    })
}

/// ChatGLM's codes of four bits as [`Compact::int4`] has them.
fn regrouped(codes: &[u8], columns: usize) -> Vec<u8> {
    let stride = columns.div_ceil(GROUP) * GROUP / 2;
    let mut all = Vec::with_capacity(codes.len() / (columns / 2) * stride);
    for row in codes.chunks_exact(columns / 2) {
        // From -8 and up to from 0 and up; what is past the last column is 0.
        let code = |column: usize| match (row.get(column / 2), column % 2) {
            (Some(pair), 0) => (pair >> 4) ^ 8,
            (Some(pair), _) => (pair & 15) ^ 8,
            (None, _) => 8,
        };
        for at in 0..stride {
            let first = at / (GROUP / 2) * GROUP + at % (GROUP / 2);
            all.push(code(first) | code(first + GROUP / 2) << 4);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_go_to_the_halves_of_a_group() {
        // Columns 0 to 33 as -8, -7, …, 7, -8, …
        let number = |column: usize| (column % 16) as i8 - 8;
        let pair = |at: usize| ((number(2 * at) << 4) | (number(2 * at + 1) & 15)).cast_unsigned();
        let codes: Vec<u8> = (0..17).map(pair).collect();
        let found = regrouped(&codes, 34);
        assert_eq!(found.len(), 32);
        let at = |column: usize| {
            let byte = found[column / 32 * 16 + column % 16];
            (if column % 32 < 16 { byte & 15 } else { byte >> 4 }) as i8 - 8
        };
        assert_eq!((0..34).map(at).collect::<Vec<_>>(), (0..34).map(number).collect::<Vec<_>>());
        assert_eq!((34..64).map(at).collect::<Vec<_>>(), vec![0; 30]);
    }
}
