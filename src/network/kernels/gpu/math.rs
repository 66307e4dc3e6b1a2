//! Exponentials and what is made of them, in arithmetic that every device has; within a few 1e-7 of the truth.
//!
//! NVIDIA's own are in a library of the CUDA toolkit, which a machine that has only the driver lacks; burn's kernels look
//! for it, ours needn't.

use burn_cubecl::cubecl::{self, prelude::*};

/// `e^x`; 0 where that is below 2^-125, and no more than e^88. What isn't a number stays that.
#[cube]
pub(super) fn exp<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let lowest = Vector::<f32, N>::new(-86.643_39f32);
    let bounded = x.max(lowest).min(Vector::<f32, N>::new(88f32));
    let n = (bounded * Vector::<f32, N>::new(std::f32::consts::LOG2_E) + Vector::<f32, N>::new(0.5f32)).floor();
    // ln 2 in two parts, the first of which has few enough bits for its products to be exact.
    let r = bounded - n * Vector::<f32, N>::new(0.693_359_4f32) + n * Vector::<f32, N>::new(2.121_944_4e-4f32);
    // Taylor's series; |r| is at most ln 2 / 2, where the next term is below 6e-9.
    let mut p = r * Vector::<f32, N>::new(0.000_198_412_7f32) + Vector::<f32, N>::new(0.001_388_889f32);
    p = p * r + Vector::<f32, N>::new(0.008_333_333f32);
    p = p * r + Vector::<f32, N>::new(0.041_666_67f32);
    p = p * r + Vector::<f32, N>::new(0.166_666_67f32);
    p = p * r + Vector::<f32, N>::new(0.5f32);
    p = p * r * r + r + Vector::<f32, N>::new(1f32);
    let exponent = (Vector::<i32, N>::cast_from(n) + Vector::<i32, N>::new(127i32)) << Vector::<i32, N>::new(23i32);
    let y = p * Vector::<f32, N>::reinterpret(exponent);
    let y = select_many(x.less_than(&lowest), Vector::<f32, N>::new(0f32), y);
    select_many(x.is_nan(), x, y)
}

/// `ln x` for numbers from 2^-126 up.
#[cube]
pub(super) fn ln<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1f32);
    // x = m 2^n with m from √½ to √2.
    let shift = Vector::<i32, N>::new(0x3f35_04f3i32);
    let bits = Vector::<i32, N>::reinterpret(x) - shift;
    let n = bits >> Vector::<i32, N>::new(23i32);
    let m = Vector::<f32, N>::reinterpret((bits & Vector::<i32, N>::new(0x007f_ffffi32)) + shift);
    let n = Vector::<f32, N>::cast_from(n);
    // ln m = 2 artanh s with s = (m - 1) / (m + 1), |s| below 0.172: the next term is below 2e-10.
    let s = (m - one) / (m + one);
    let z = s * s;
    let mut p = z * Vector::<f32, N>::new(0.181_818_18f32) + Vector::<f32, N>::new(0.222_222_22f32);
    p = p * z + Vector::<f32, N>::new(0.285_714_3f32);
    p = p * z + Vector::<f32, N>::new(0.4f32);
    p = p * z + Vector::<f32, N>::new(0.666_666_7f32);
    let tail = p * z * s - n * Vector::<f32, N>::new(2.121_944_4e-4f32);
    let y = tail + s + s + n * Vector::<f32, N>::new(0.693_359_4f32);
    select_many(x.is_nan(), x, y)
}

/// `1 / (1 + e^-x)`.
#[cube]
pub(super) fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1f32);
    one / (one + exp(Vector::<f32, N>::new(0f32) - x))
}

/// The normal distribution's density at `x`.
#[cube]
pub(super) fn density<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    exp(x * x * Vector::<f32, N>::new(-0.5f32)) * Vector::<f32, N>::new(0.398_942_3f32)
}

/// The normal distribution's integral up to `x`: see `fused::math::normal` for the polynomial.
#[cube]
pub(super) fn integral<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let (zero, one) = (Vector::<f32, N>::new(0f32), Vector::<f32, N>::new(1f32));
    let t = one / (one + x.abs() * Vector::<f32, N>::new(0.282_842_7f32));
    let mut p = t * Vector::<f32, N>::new(0.028_695_87f32) + Vector::<f32, N>::new(-0.074_749_5f32);
    p = p * t + Vector::<f32, N>::new(-0.063_685_35f32);
    p = p * t + Vector::<f32, N>::new(0.275_787_3f32);
    p = p * t + Vector::<f32, N>::new(-0.068_566_2f32);
    p = p * t + Vector::<f32, N>::new(0.268_637_4f32);
    p = p * t + Vector::<f32, N>::new(0.177_416_4f32);
    p = p * t + Vector::<f32, N>::new(0.231_355_13f32);
    p = p * t + Vector::<f32, N>::new(0.225_082_58f32);
    p = p * t + Vector::<f32, N>::new(2.640_508e-5f32);
    let tail = exp(x * x * Vector::<f32, N>::new(-0.5f32)) * p * Vector::<f32, N>::new(0.5f32);
    select_many(x.less_than(&zero), tail, one - tail)
}
