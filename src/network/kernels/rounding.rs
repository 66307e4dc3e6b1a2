//! Rows of weights rounded to codes of eight and of four bits. What comes out is the same on every processor, to the bit.

use half::f16;

use super::{
    compact::GROUP,
    simd::{LANES, rounded, simd},
};

/// Rounds a row to 255 steps between its largest magnitude and its negative ("vector-wise absmax", Dettmers et al. 2022,
/// <https://arxiv.org/abs/2208.07339>), and returns its scale.
pub(super) fn int8(row: &[f32], codes: &mut [u8]) -> f32 {
    let (least, most) = extremes(row);
    let scale = most.max(-least) / 127.0;
    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        unsafe {
            avx2::int8(row, inverse, codes);
        }
        return scale;
    }
    int8_plainly(row, inverse, codes);
    scale
}

/// Rounds the values of each group of a row to 16 steps, of which the one furthest from 0 is the value with the largest
/// magnitude (`Q4_0` of ggml).
pub(super) fn int4(row: &[f32], codes: &mut [u8], scales: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        let whole = row.len() / GROUP;
        let (row, rest) = row.split_at(whole * GROUP);
        let ((codes, codes_rest), (scales, scales_rest)) =
            (codes.split_at_mut(whole * GROUP / 2), scales.split_at_mut(whole));
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        unsafe {
            avx2::int4(row, codes, scales);
        }
        return int4_plainly(rest, codes_rest, scales_rest);
    }
    int4_plainly(row, codes, scales);
}

/// The least and the greatest of some numbers, and of 0.
#[inline(always)]
fn extremes_of(numbers: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            least[lane] = if chunk[lane] < least[lane] { chunk[lane] } else { least[lane] };
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    let least = least.iter().chain(rest).fold(0.0f32, |least, &x| if x < least { x } else { least });
    let most = most.iter().chain(rest).fold(0.0f32, |most, &x| if x > most { x } else { most });
    (least, most)
}

simd! {
    fn extremes(row: &[f32]) -> (f32, f32) {
        extremes_of(row)
    }
}

simd! {
    fn int8_plainly(row: &[f32], inverse: f32, codes: &mut [u8]) {
        for (code, value) in codes.iter_mut().zip(row) {
            *code = rounded(value * inverse).clamp(-128, 127) as u8;
        }
    }
}

simd! {
    fn int4_plainly(row: &[f32], codes: &mut [u8], scales: &mut [f16]) {
        for ((values, codes), scale) in row.chunks(GROUP).zip(codes.chunks_exact_mut(GROUP / 2)).zip(scales) {
            let (least, most) = extremes_of(values);
            *scale = f16::from_f32(if most > -least { most } else { least } / -8.0);
            let step = scale.to_f32();
            let inverse = if step == 0.0 { 0.0 } else { step.recip() };
            let mut group = [0.0; GROUP];
            group[..values.len()].copy_from_slice(values);
            let mut numbers = [0; GROUP];
            for at in 0..GROUP {
                numbers[at] = (rounded(group[at] * inverse) + 8).clamp(0, 15);
            }
            for at in 0..GROUP / 2 {
                codes[at] = (numbers[at] | numbers[at + GROUP / 2] << 4) as u8;
            }
        }
    }
}

/// The same in vectors of AVX2, written out: reading a model is rounding it.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    #![expect(unsafe_code)]

    use std::arch::x86_64::*;

    use half::f16;

    use super::{GROUP, rounded};

    pub(super) fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")
    }

    /// Eight numbers of a row, from a place on.
    #[target_feature(enable = "avx2,f16c")]
    fn eight(values: &[f32; GROUP], at: usize) -> __m256 {
        // SAFETY: a group has four times eight.
        unsafe { _mm256_loadu_ps(values[8 * at..][..8].as_ptr()) }
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn int8(row: &[f32], inverse: f32, codes: &mut [u8]) {
        let by = _mm256_set1_ps(inverse);
        let (groups, rest) = row.as_chunks::<GROUP>();
        let (group_codes, rest_codes) = codes.as_chunks_mut::<GROUP>();
        for (values, codes) in groups.iter().zip(group_codes) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| _mm256_cvtps_epi32(_mm256_mul_ps(eight(values, at), by)));
            // Both keep to what they pack into, and put fours of the two next to each other.
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // SAFETY: there's place for 32 bytes.
            unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes) };
        }
        for (code, value) in rest_codes.iter_mut().zip(rest) {
            *code = rounded(value * inverse).clamp(-128, 127) as u8;
        }
    }

    /// Whole groups only.
    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn int4(row: &[f32], codes: &mut [u8], scales: &mut [f16]) {
        let (zero, sign) = (_mm256_setzero_ps(), _mm256_set1_ps(-0.0));
        let (least_code, most_code, middle) = (_mm256_setzero_si256(), _mm256_set1_epi16(15), _mm256_set1_epi16(8));
        let groups = row.as_chunks::<GROUP>().0.iter().zip(codes.as_chunks_mut::<{ GROUP / 2 }>().0);
        for ((values, codes), scale) in groups.zip(scales) {
            let values = [0, 1, 2, 3].map(|at| eight(values, at));
            // What isn't a number leaves the other operand, as it does in plain loops.
            let most = values.iter().fold(zero, |most, values| _mm256_max_ps(*values, most));
            let least = values.iter().fold(zero, |least, values| _mm256_min_ps(*values, least));
            let negated = _mm256_xor_ps(least, sign);
            // The lower half is for the greatest, the upper one for the least.
            let both = _mm256_max_ps(
                _mm256_permute2f128_ps::<0x20>(most, negated),
                _mm256_permute2f128_ps::<0x31>(most, negated),
            );
            let both = _mm256_max_ps(both, _mm256_permute_ps::<0b01_00_11_10>(both));
            let both = _mm256_max_ps(both, _mm256_permute_ps::<0b10_11_00_01>(both));
            let (most, negated) = (_mm256_cvtss_f32(both), _mm_cvtss_f32(_mm256_extractf128_ps::<1>(both)));
            let wide = if most > negated { most } else { -negated } / -8.0;
            let half = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(wide));
            *scale = f16::from_bits(_mm_extract_epi16::<0>(half) as u16);
            let step = _mm_cvtss_f32(_mm_cvtph_ps(half));
            let by = _mm256_set1_ps(if step == 0.0 { 0.0 } else { step.recip() });
            let [a, b, c, d] = values.map(|values| _mm256_cvtps_epi32(_mm256_mul_ps(values, by)));
            let clamped = |numbers| {
                let codes = _mm256_min_epi16(_mm256_adds_epi16(numbers, middle), most_code);
                _mm256_max_epi16(codes, least_code)
            };
            // Fours of columns: 0, 8, 4, 12 with the sixteenth after each in the upper halves of bytes.
            let (lower, upper) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let pairs = _mm256_or_si256(clamped(lower), _mm256_slli_epi16::<4>(clamped(upper)));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
            let bytes = _mm_shuffle_epi32::<0b11_01_10_00>(bytes);
            // SAFETY: there's place for 16 bytes.
            unsafe { _mm_storeu_si128(codes.as_mut_ptr().cast(), bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes, some rows with what is at the edges: zeros, halves of steps, the largest at either end.
    fn rows(columns: usize) -> Vec<Vec<f32>> {
        let number = |row: usize, at: usize| {
            let wave = ((row * 31 + at) as f32 * 0.7).sin();
            match row % 5 {
                0 => wave,
                1 => wave * 10f32.powi(at as i32 % 9 - 4),
                2 => (wave * 16.0).round() / 2.0,
                3 => -wave.abs(),
                _ => 0.0 * wave,
            }
        };
        (0..20).map(|row| (0..columns).map(|at| number(row, at)).collect()).collect()
    }

    #[test]
    fn vectors_round_as_plain_loops_do() {
        for columns in [1, 31, 32, 40, 64, 200] {
            for row in rows(columns) {
                let mut codes = [vec![0; columns], vec![0; columns]];
                let scale = int8(&row, &mut codes[0]);
                int8_plainly(&row, if scale > 0.0 { scale.recip() } else { 0.0 }, &mut codes[1]);
                assert_eq!(codes[0], codes[1], "{row:?}");
                let groups = columns.div_ceil(GROUP);
                let mut codes = [vec![0; groups * GROUP / 2], vec![0; groups * GROUP / 2]];
                let mut scales = [vec![f16::ZERO; groups], vec![f16::ZERO; groups]];
                int4(&row, &mut codes[0], &mut scales[0]);
                int4_plainly(&row, &mut codes[1], &mut scales[1]);
                assert_eq!(codes[0], codes[1], "{row:?}");
                let bits = |scales: &[f16]| scales.iter().map(|scale| scale.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&scales[0]), bits(&scales[1]), "{row:?}");
            }
        }
    }
}
