//! Rows of compact matrices in f32 again.

use burn::backend::flex::FlexTensor;
use half::f16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::held::{CODES, Held, Row, wide, wide_bf16};
use crate::network::kernels::{
    compact::{Compact, GROUP},
    embedding::RowIds,
    fused::{
        buffer::{room, tensor},
        rows,
    },
    simd::simd,
};

/// Rows of a compact table, one for each id: `[ids, C]`.
pub(in crate::network::kernels::fused) fn look_up(table: &Compact, ids: &RowIds) -> FlexTensor {
    let [_, columns] = table.dims();
    let held = Held::new(table);
    let (from, ids) = (held.rows(columns), &ids.host);
    let mut out = room(ids.len() * columns);
    let part = (rows::PART * columns).max(1);
    out.par_chunks_mut(part).enumerate().for_each(|(index, out)| {
        let ids = &ids[index * rows::PART..];
        ids.iter()
            .zip(out.chunks_exact_mut(columns.max(1)))
            .for_each(|(id, out)| expand_row(from.row(*id as usize), out));
    });
    tensor(out, [ids.len(), columns])
}

/// A row in f32.
pub(super) fn expand_row(row: Row, out: &mut [f32]) {
    match row {
        Row::Int4(groups, scales) => expand_groups(groups, scales, out),
        other => expand_elements(other, out),
    }
}

simd! {
    /// A row whose elements stand by themselves.
    fn expand_elements(row: Row, out: &mut [f32]) {
        match row {
            Row::Bf16(values) => out.iter_mut().zip(values).for_each(|(out, &value)| *out = wide_bf16(value)),
            Row::F16(values) => out.iter_mut().zip(values).for_each(|(out, &value)| *out = wide(value)),
            Row::Int8(codes, scale) => {
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
            }
            Row::Int4(groups, scales) => expand_plainly(groups, scales, out),
        }
    }
}

/// Codes of four bits times their scales.
fn expand_groups(groups: &[[u8; CODES]], scales: &[f16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        unsafe {
            avx2::expand(groups, scales, out);
        }
        return;
    }
    expand_plainly(groups, scales, out);
}

#[inline(always)]
fn expand_plainly(groups: &[[u8; CODES]], scales: &[f16], out: &mut [f32]) {
    for (group, (codes, out)) in groups.iter().zip(out.chunks_mut(GROUP)).enumerate() {
        let scale = wide(scales[if scales.len() == 1 { 0 } else { group }]);
        let mut values = [0.0; GROUP];
        for at in 0..CODES {
            values[at] = (f32::from(codes[at] & 15) - 8.0) * scale;
            values[at + CODES] = (f32::from(codes[at] >> 4) - 8.0) * scale;
        }
        out.copy_from_slice(&values[..out.len()]);
    }
}
