//! The inner loops of products with compact matrices in vectors of AVX2, written out: what a compiler makes of plain loops over
//! halves of bytes is ten times slower.
//!
//! Each reads its row once. [`available`] tells whether they can be called.
#![expect(unsafe_code)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{
    held::{CODES, Row, Rows, groups},
    inputs::{BLOCK, Input},
};
use crate::network::kernels::compact::GROUP;

/// Whether the processor has what these functions are compiled for.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// What a row has beyond a multiple of as many elements is added after all others.
const STEP: usize = 32;

/// Products of `R` rows of the matrix from `first` on with `T` rows. Several rows are read at once where the loop has sums to
/// spare: by themselves processors read ahead within a page of memory only, which is hardly longer than a row.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn products<const R: usize, const T: usize>(matrix: Rows, first: usize, x: [Input; T]) -> [[f32; T]; R] {
    match matrix {
        Rows::Bf16 { values, columns } => bf16_products(several(values, first, columns), x),
        Rows::F16 { values, columns } => f16_products(several(values, first, columns), x),
        Rows::Int8 { codes, scales, columns } => {
            let mut products = int8_products(several(codes, first, columns), x);
            products.iter_mut().zip(&scales[first..]).for_each(|(row, scale)| row.iter_mut().for_each(|x| *x *= scale));
            products
        }
        // Row by row: products of integers of 16 bits are bound by computing, and those of eight ask for memory far ahead.
        Rows::Int4 { codes, scales, columns } => std::array::from_fn(|row| {
            let (groups, scales) = groups(codes, scales, columns, first + row);
            match x.iter().any(|x| x.blocks.is_empty()) {
                true => int4_products(groups, scales, x),
                false => int4_by_int8_products(groups, scales, x),
            }
        }),
    }
}

/// Rows from `first` on.
fn several<E, const R: usize>(elements: &[E], first: usize, columns: usize) -> [&[E]; R] {
    std::array::from_fn(|row| &elements[(first + row) * columns..][..columns])
}

/// The sum of eight numbers.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn total(lanes: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
}

/// The sum of four times eight.
#[target_feature(enable = "avx2,fma,f16c")]
fn total_of_four([a, b, c, d]: [__m256; 4]) -> f32 {
    total(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)))
}

/// A function for products with elements of a type, eight of which at a pointer become f32 by `$load`, and one by `$one`. What is
/// left to a closure isn't always made a part of the loop.
macro_rules! element_products {
    ($name:ident, $element:ty, $one:expr, |$eight:ident| $load:expr) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name<const R: usize, const T: usize>(rows: [&[$element]; R], x: [Input; T]) -> [[f32; T]; R] {
            let mut sums = [[[_mm256_setzero_ps(); 4]; T]; R];
            let columns = rows[0].len();
            let whole = columns / STEP * STEP;
            assert!(rows.iter().all(|row| row.len() == columns), "rows of a matrix are of one length");
            assert!(x.iter().all(|x| x.values.len() >= columns), "a row is multiplied with a shorter one");
            // As many inputs as registers hold, and as many sums.
            let parts = if R > 1 { 2 } else { 4 };
            for step in (0..whole).step_by(8 * parts) {
                prefetch_ahead(rows, step);
                for part in 0..parts {
                    let at = step + part * 8;
                    let sum = if R * T > 2 { part % 2 } else { part };
                    // SAFETY: rows have eight elements from there on, and inputs are as long.
                    unsafe {
                        let x = x.map(|x| _mm256_loadu_ps(x.values.as_ptr().add(at)));
                        for row in 0..R {
                            let $eight = rows[row].as_ptr().add(at);
                            let values = $load;
                            for token in 0..T {
                                sums[row][token][sum] = _mm256_fmadd_ps(values, x[token], sums[row][token][sum]);
                            }
                        }
                    }
                }
            }
            std::array::from_fn(|row| {
                std::array::from_fn(|token| {
                    let rest = rows[row][whole..].iter().zip(&x[token].values[whole..]);
                    total_of_four(sums[row][token]) + rest.map(|(&element, x)| $one(element) * x).sum::<f32>()
                })
            })
        }
    };
}

element_products!(bf16_products, bf16, bf16::to_f32, |eight| {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(eight.cast()))))
});

element_products!(f16_products, f16, f16::to_f32, |eight| _mm256_cvtph_ps(_mm_loadu_si128(eight.cast())));

element_products!(int8_products, i8, f32::from, |eight| {
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(eight.cast())))
});

/// Activations of eight bits: exact sums within a group, of groups two by two as [`Block`](super::inputs::Block) has them.
#[target_feature(enable = "avx2,fma,f16c")]
fn int4_by_int8_products<const T: usize>(groups: &[[u8; CODES]], scales: &[f16], x: [Input; T]) -> [f32; T] {
    let by_row = scales.len() == 1 && groups.len() > 1;
    let (lowest, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // The first groups of pairs, and then the second ones.
    let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    let mut offsets = [_mm256_setzero_ps(); T];
    // Whole blocks, and what is left of the row as one of its own.
    let (whole, left) = groups.as_chunks();
    let last = [padded(left)];
    let last = if left.is_empty() { &[][..] } else { &last };
    let (whole_scales, last_scales) = match by_row {
        true => (&[[f16::ONE; BLOCK]][..], [[f16::ONE; BLOCK]]),
        false => (scales.as_chunks().0, [padded(scales.as_chunks::<BLOCK>().1)]),
    };
    let mut all_x = x.map(|x| x.blocks);
    for (codes, scales) in [(whole, whole_scales), (last, &last_scales)] {
        for (block, codes) in codes.iter().enumerate() {
            for line in 0..2 {
                _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_byte_add(AHEAD + 64 * line).cast());
            }
            let scales = &scales[if by_row { 0 } else { block }];
            // SAFETY: eight scales of two bytes.
            let scales = unsafe { _mm256_cvtph_ps(_mm_shuffle_epi8(_mm_loadu_si128(scales.as_ptr().cast()), order)) };
            let mut steps = [_mm256_setzero_ps(); T];
            for token in 0..T {
                let x = &all_x[token][block];
                // SAFETY: eight numbers each.
                unsafe {
                    offsets[token] = _mm256_fmadd_ps(scales, _mm256_loadu_ps(x.offsets.as_ptr()), offsets[token]);
                    steps[token] = _mm256_mul_ps(scales, _mm256_loadu_ps(x.steps.as_ptr()));
                }
            }
            for pair in 0..BLOCK / 2 {
                // SAFETY: two groups of 16 bytes.
                let bytes = unsafe { _mm256_loadu_si256(codes[2 * pair..][..2].as_ptr().cast()) };
                // Columns from 16 on are in the upper halves of bytes.
                let lower = _mm256_and_si256(bytes, lowest);
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), lowest);
                for token in 0..T {
                    let [first, second] = &all_x[token][block].pairs[pair];
                    // SAFETY: 32 numbers of eight bits each.
                    let (first, second) = unsafe {
                        (_mm256_loadu_si256(first.as_ptr().cast()), _mm256_loadu_si256(second.as_ptr().cast()))
                    };
                    // At most 4 · 15 · 127, which 16 bits have.
                    let sum = _mm256_add_epi16(_mm256_maddubs_epi16(lower, first), _mm256_maddubs_epi16(upper, second));
                    let sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, ones));
                    let step = _mm256_permutevar_ps(steps[token], _mm256_set1_epi32(pair as i32));
                    sums[token][pair % 2] = _mm256_fmadd_ps(sum, step, sums[token][pair % 2]);
                }
            }
        }
        all_x = all_x.map(|x| &x[codes.len()..]);
    }
    let by = if by_row { scales[0].to_f32() } else { 1.0 };
    std::array::from_fn(|token| {
        let [even, odd] = sums[token];
        total(_mm256_add_ps(_mm256_add_ps(even, odd), offsets[token])) * by
    })
}

/// A block of what is left of a row.
fn padded<E: Copy + Default>(left: &[E]) -> [E; BLOCK] {
    std::array::from_fn(|at| left.get(at).copied().unwrap_or_default())
}

/// Integers of 16 bits: exact sums within a group, in the order that [`Input::scaled`] has them.
#[target_feature(enable = "avx2,fma,f16c")]
fn int4_products<const T: usize>(groups: &[[u8; CODES]], scales: &[f16], x: [Input; T]) -> [f32; T] {
    let by_row = scales.len() == 1 && groups.len() > 1;
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    let mut offsets = [_mm256_setzero_ps(); T];
    let (eights, rest) = groups.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        let first = index * 8;
        let scale = match by_row {
            true => _mm256_set1_ps(1.0),
            // SAFETY: the slice has eight elements, of 16 bytes together.
            false => unsafe { _mm256_cvtph_ps(_mm_loadu_si128(scales[first..][..8].as_ptr().cast())) },
        };
        let mut steps = [[0.0; 8]; T];
        for token in 0..T {
            let (of_steps, of_offsets) = (&x[token].steps[first..][..8], &x[token].offsets[first..][..8]);
            // SAFETY: eight elements each, to be read and written.
            unsafe {
                offsets[token] = _mm256_fmadd_ps(scale, _mm256_loadu_ps(of_offsets.as_ptr()), offsets[token]);
                let step = _mm256_mul_ps(scale, _mm256_loadu_ps(of_steps.as_ptr()));
                _mm256_storeu_ps(steps[token].as_mut_ptr(), step);
            }
        }
        let inputs = x.map(|x| &x.scaled.as_chunks::<8>().0[index]);
        for (at, codes) in eight.iter().enumerate() {
            let codes = codes_of(codes);
            for token in 0..T {
                let sum = _mm256_cvtepi32_ps(sum_of(codes, &inputs[token][at]));
                let by = _mm256_set1_ps(steps[token][at]);
                sums[token][at % 2] = _mm256_fmadd_ps(sum, by, sums[token][at % 2]);
            }
        }
    }
    for (at, codes) in rest.iter().enumerate() {
        let (group, codes) = (groups.len() - rest.len() + at, codes_of(codes));
        let scale = if by_row { 1.0 } else { scales[group].to_f32() };
        for token in 0..T {
            let sum = _mm256_cvtepi32_ps(sum_of(codes, &x[token].scaled[group]));
            sums[token][0] = _mm256_fmadd_ps(sum, _mm256_set1_ps(scale * x[token].steps[group]), sums[token][0]);
            // An eighth of it in each of eight places.
            let offset = _mm256_set1_ps(scale * x[token].offsets[group] / 8.0);
            offsets[token] = _mm256_add_ps(offsets[token], offset);
        }
    }
    let by = if by_row { scales[0].to_f32() } else { 1.0 };
    std::array::from_fn(|token| {
        let [even, odd] = sums[token];
        total(_mm256_add_ps(_mm256_add_ps(even, odd), offsets[token])) * by
    })
}

/// The 32 codes of a group in 16 bits each: those of even columns, and those of odd ones.
#[target_feature(enable = "avx2,fma,f16c")]
fn codes_of(codes: &[u8; CODES]) -> [__m256i; 2] {
    // SAFETY: there are 16 bytes.
    let bytes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    // Columns from 16 on are in the upper halves of bytes.
    let both = _mm256_srlv_epi64(_mm256_broadcastsi128_si256(bytes), _mm256_setr_epi64x(0, 0, 4, 4));
    let lowest = _mm256_set1_epi16(15);
    [_mm256_and_si256(both, lowest), _mm256_and_si256(_mm256_srli_epi16::<8>(both), lowest)]
}

/// Sums of products with a group of inputs, in eight parts.
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_of([even, odd]: [__m256i; 2], x: &[i16; GROUP]) -> __m256i {
    let (even_x, odd_x) = x.split_at(GROUP / 2);
    // SAFETY: each half has 16 numbers of 16 bits.
    let (even_x, odd_x) =
        unsafe { (_mm256_loadu_si256(even_x.as_ptr().cast()), _mm256_loadu_si256(odd_x.as_ptr().cast())) };
    _mm256_add_epi32(_mm256_madd_epi16(even, even_x), _mm256_madd_epi16(odd, odd_x))
}

/// How far ahead of what is multiplied memory is asked for, in bytes of all rows that are read together.
const AHEAD: usize = 2048;

/// Asks for what lies ahead of an element in each of `R` rows, or in the rows that come `R` after them.
#[inline]
#[target_feature(enable = "sse")]
fn prefetch_ahead<E, const R: usize>(rows: [&[E]; R], at: usize) {
    let (columns, line) = (rows[0].len(), 64 / size_of::<E>());
    if !at.is_multiple_of(line) {
        return;
    }
    let ahead = at + AHEAD / R / size_of::<E>();
    let ahead = if ahead < columns { ahead } else { ahead + (R - 1) * columns };
    for row in rows {
        // Beyond the matrix it does nothing.
        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(ahead).cast());
    }
}

/// Asks for the memory of a row that is read soon.
pub(super) fn prefetch(row: Row) {
    match row {
        Row::Bf16(values) => prefetch_slice(values),
        Row::F16(values) => prefetch_slice(values),
        Row::Int8(codes, _) => prefetch_slice(codes),
        Row::Int4(groups, scales) => {
            prefetch_slice(groups);
            prefetch_slice(scales);
        }
    }
}

fn prefetch_slice<E>(slice: &[E]) {
    let bytes = size_of_val(slice);
    // Its end too: it needn't begin where a line does.
    for line in (0..bytes).step_by(64).chain(bytes.checked_sub(1)) {
        // SAFETY: a place in the slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().cast::<i8>().add(line)) };
    }
}

/// The codes of groups times their scales, or one for all, in the order of the columns.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn expand(groups: &[[u8; CODES]], scales: &[f16], out: &mut [f32]) {
    let each = if scales.len() == 1 { 0 } else { 1 };
    let (whole, rest) = out.as_chunks_mut::<GROUP>();
    for (at, (codes, out)) in groups.iter().zip(whole.iter_mut()).enumerate() {
        expand_group(codes, scales[at * each], out);
    }
    if let (Some(codes), false) = (groups.get(whole.len()), rest.is_empty()) {
        let mut last = [0.0; GROUP];
        expand_group(codes, scales[whole.len() * each], &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn expand_group(codes: &[u8; CODES], scale: f16, out: &mut [f32; GROUP]) {
    let by = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(scale.to_bits()))));
    // Eight times a number is exact, so that this rounds once, as a product with codes less eight does.
    let offset = _mm256_mul_ps(_mm256_set1_ps(-8.0), by);
    // SAFETY: there are 16 bytes.
    let bytes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    let lowest = _mm_set1_epi8(15);
    let (lower, upper) = (_mm_and_si128(bytes, lowest), _mm_and_si128(_mm_srli_epi16::<4>(bytes), lowest));
    let eights = [lower, _mm_srli_si128::<8>(lower), upper, _mm_srli_si128::<8>(upper)];
    for (bytes, out) in eights.into_iter().zip(out.as_chunks_mut::<8>().0) {
        let values = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        // SAFETY: `out` has eight elements.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_fmadd_ps(values, by, offset)) };
    }
}
