//! One loop, compiled for each width of vectors, and chosen when it runs.
//!
//! The loops are plain Rust that LLVM vectorises. None of them uses fused multiply-add and sums always go over
//! [`LANES`] partial sums, so the width changes speed only, not a bit of the result.

/// Partial sums of a reduction: the elements of the widest vectors.
pub(super) const LANES: usize = 16;

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline.
///
/// What it calls must be `#[inline(always)]` to profit.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take what they take")]
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "kernels take what they take")]
            fn body($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "kernels take what they take")]
                fn v4($($arg: $type),*) $(-> $out)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "kernels take what they take")]
                fn v3($($arg: $type),*) $(-> $out)? {
                    body($($arg),*)
                }
                match $crate::network::kernels::simd::level() {
                    // SAFETY: `level` has found these features.
                    #[expect(unsafe_code)]
                    4 => return unsafe { v4($($arg),*) },
                    // SAFETY: `level` has found these features.
                    #[expect(unsafe_code)]
                    3 => return unsafe { v3($($arg),*) },
                    _ => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use simd;

/// Microarchitecture level of this processor as far as the kernels use it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn level() -> u8 {
    let v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2");
    let v4 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v3, v4) {
        (true, true) => 4,
        (true, false) => 3,
        _ => 1,
    }
}

/// There are no versions of the kernels to choose from.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn level() -> u8 {
    1
}

/// Sum of `f` over pairs of elements, in an order that depends on nothing but their number.
#[inline(always)]
pub(super) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(0.0, |sum, (&a, &b)| sum + f(a, b));
    fold(lanes, |a, b| a + b) + rest
}

/// Sum of `f` over elements, in an order that depends on nothing but their number.
#[inline(always)]
pub(super) fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(a, a, |a, _| f(a))
}

/// Replaces each element by what `f` makes of it, and sums that up.
#[inline(always)]
pub(super) fn map_sum(row: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = f(chunk[i]);
            lanes[i] += chunk[i];
        }
    }
    let mut last = 0.0;
    for x in rest {
        *x = f(*x);
        last += *x;
    }
    fold(lanes, |a, b| a + b) + last
}

/// Greatest element; minus infinity if there is none.
#[inline(always)]
pub(super) fn max(row: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = greater(lanes[i], chunk[i]);
        }
    }
    rest.iter().fold(fold(lanes, greater), |m, &x| greater(m, x))
}

/// Halves the lanes until one is left.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

/// Added to a number, it leaves the nearest integer in the last bits, the even one of two: what rounding is on every processor
/// alike, and in every width of vectors.
const TO_INTEGER: f32 = 12_582_912.0;

/// The nearest integer of a number far below [`TO_INTEGER`].
#[inline(always)]
pub(super) fn rounded(number: f32) -> i32 {
    (number + TO_INTEGER).to_bits().wrapping_sub(TO_INTEGER.to_bits()).cast_signed()
}
