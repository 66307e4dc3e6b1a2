//! Exponentials and what is made of them, in arithmetic that LLVM vectorises; within a few 1e-7 of the truth.

/// `e^x`; 0 where that is below 2^-125.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -86.643_39;
    // In two parts, the first of which has few enough bits for its products to be exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding this rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = if x > 88.722_83 { f32::INFINITY } else { x };
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > 88.722_83 { 88.722_83 } else { clamped };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor's series; |r| is at most ln 2 / 2, where the next term is below 6e-9.
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // Half of the scale first: 2^128 isn't a number.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126) << 23;
    let y = p * f32::from_bits(exponent) * 2.0;
    let y = if x < LOWEST { 0.0 } else { y };
    if bounded == f32::INFINITY { bounded } else { y }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution at `x`: its integral up to there, and its density.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    let bell = exp(-0.5 * x * x);
    // erfc(y) e^(y²) for y = |x| / √2 between 0 and 10, as a polynomial in t: Remez' algorithm, relative error 3e-8.
    let t = 1.0 / (1.0 + 0.4 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let mut p = 0.028_695_87_f32;
    for c in [
        -0.074_749_5,
        -0.063_685_35,
        0.275_787_3,
        -0.068_566_2,
        0.268_637_4,
        0.177_416_4,
        0.231_355_13,
        0.225_082_58,
        2.640_508e-5,
    ] {
        p = p * t + c;
    }
    let tail = 0.5 * bell * p;
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, bell * 0.398_942_3)
}

/// `x Φ(x)` and its derivative.
#[inline(always)]
pub(super) fn gelu_erf(x: f32) -> (f32, f32) {
    let (below, density) = normal(x);
    (x * below, below + x * density)
}

/// `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2` and its derivative.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> (f32, f32) {
    // (1 + tanh u) / 2 is sigmoid(2 u), and this is 2 √(2/π).
    const STEEPNESS: f32 = 1.595_769_2;
    const CUBIC: f32 = 0.044_715;
    let s = sigmoid(STEEPNESS * x * (1.0 + CUBIC * x * x));
    (x * s, s + x * s * (1.0 - s) * STEEPNESS * (1.0 + 3.0 * CUBIC * x * x))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    /// `Φ(x)`: a series near 0, a continued fraction far from it.
    fn normal_integral(x: f64) -> f64 {
        let y = x.abs() / 2f64.sqrt();
        let tail = if y < 3.0 {
            let terms = (0..200).scan(y, |term, n| {
                let n = f64::from(n);
                let value = *term / (2.0 * n + 1.0);
                *term *= -y * y / (n + 1.0);
                Some(value)
            });
            0.5 - terms.sum::<f64>() / PI.sqrt()
        } else {
            let fraction = (1..=200).rev().fold(y, |below, n| y + f64::from(n) / 2.0 / below);
            0.5 * (-y * y).exp() / fraction / PI.sqrt()
        };
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    /// Values from `-end` to `end`.
    fn range(end: f32) -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(move |i| i as f32 * (end / 20_000.0))
    }

    #[track_caller]
    fn assert_near(what: &str, x: f32, found: f32, expected: f64, tolerance: f64) {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{what}({x}) = {found}, not {expected}");
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in range(86.6) {
            let expected = f64::from(x).exp();
            assert_near("exp", x, exp(x), expected, 1.8e-7 * expected);
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e30), exp(-88.0), exp(0.0)], [0.0, 0.0, 0.0, 1.0]);
        assert_eq!([exp(89.0), exp(1e30), exp(f32::INFINITY)], [f32::INFINITY; 3]);
        assert!(exp(88.722).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_distribution_is_right_in_its_tails_too() {
        for x in range(12.0) {
            let (below, density) = normal(x);
            let wide = f64::from(x);
            let expected = normal_integral(wide);
            // The exponent's rounding error grows with x².
            let relative = 5e-7 + 5e-8 * wide * wide;
            assert_near("normal", x, below, expected, relative * expected);
            let expected = (-0.5 * wide * wide).exp() / (2.0 * PI).sqrt();
            assert_near("density", x, density, expected, relative * expected);
        }
    }

    #[test]
    fn gelu_and_its_derivative() {
        for x in range(12.0) {
            let wide = f64::from(x);
            let tolerance = 4e-7 * wide.abs().max(1.0);
            let (value, derivative) = gelu_erf(x);
            let density = (-0.5 * wide * wide).exp() / (2.0 * PI).sqrt();
            assert_near("gelu", x, value, wide * normal_integral(wide), tolerance);
            assert_near("gelu'", x, derivative, normal_integral(wide) + wide * density, tolerance);
            let (value, derivative) = gelu_tanh(x);
            let root = (2.0 / PI).sqrt();
            let t = (root * (wide + 0.044715 * wide.powi(3))).tanh();
            let inner = root * (1.0 + 3.0 * 0.044715 * wide * wide);
            assert_near("gelu", x, value, 0.5 * wide * (1.0 + t), tolerance);
            assert_near("gelu'", x, derivative, 0.5 * (1.0 + t) + 0.5 * wide * (1.0 - t * t) * inner, 2.0 * tolerance);
        }
    }

    #[test]
    fn gelu_of_huge_numbers_is_finite() {
        for f in [gelu_erf, gelu_tanh] {
            assert_eq!(f(1e4), (1e4, 1.0));
            assert_eq!(f(-1e4), (0.0, 0.0));
        }
    }
}
