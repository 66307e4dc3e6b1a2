//! The product of a row of a compact matrix with a row of f32, as plain loops: for processors without vectors of their own, and
//! what those are tested against.

use super::held::{CODES, Row, wide, wide_bf16};
use crate::network::kernels::{compact::GROUP, simd::LANES};

/// The product; `x` may be longer than the row, by zeros.
pub(super) fn product(row: Row, x: &[f32]) -> f32 {
    match row {
        Row::Bf16(values) => sum(values, x, wide_bf16),
        Row::F16(values) => sum(values, x, wide),
        Row::Int8(codes, scale) => sum(codes, x, f32::from) * scale,
        Row::Int4(groups, scales) => {
            let scale = |group: usize| wide(scales[if scales.len() == 1 { 0 } else { group }]);
            let of_group = |(group, codes): (usize, &[u8; CODES])| {
                let x = &x[group * GROUP..][..GROUP];
                let pairs = codes.iter().zip(x.iter().zip(&x[CODES..]));
                let number = |code: u8| f32::from(code) - 8.0;
                let sum: f32 = pairs.map(|(pair, (a, b))| number(pair & 15) * a + number(pair >> 4) * b).sum();
                sum * scale(group)
            };
            groups.iter().enumerate().map(of_group).sum()
        }
    }
}

fn sum<E: Copy>(row: &[E], x: &[f32], number: impl Fn(E) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (row, x) in row.chunks(LANES).zip(x.chunks(LANES)) {
        for ((lane, &element), x) in lanes.iter_mut().zip(row).zip(x) {
            *lane += number(element) * x;
        }
    }
    lanes.iter().sum()
}
