//! Elementary functions in f64: the platform's, or in portable mode our own, which give the same bits everywhere.
//!
//! The platform's differ in the last bits from library to library, and one library from processor to processor. Ours are
//! additions, multiplications and divisions in a fixed order, which IEEE 754 defines to the bit, and which Rust never
//! contracts to fused multiply-add. Methods and coefficients are those of FreeBSD's msun (Sun Microsystems 1993); errors are
//! below one unit in the last place, but for [`pow`].

use super::arithmetic::Arithmetic;

macro_rules! choose {
    ($($(#[$meta:meta])* $name:ident($($argument:ident),+) = $platform:expr;)+) => {
        $(
            $(#[$meta])*
            #[inline]
            pub fn $name($($argument: f64),+) -> f64 {
                match Arithmetic::current() {
                    Arithmetic::Fast => $platform,
                    Arithmetic::Portable => portable::$name($($argument),+),
                }
            }
        )+
    };
}

choose! {
    /// `e^x`.
    exp(x) = x.exp();
    /// Natural logarithm.
    ln(x) = x.ln();
    /// Sine; in portable mode accurate for angles below a million.
    sin(x) = x.sin();
    /// Cosine; in portable mode accurate for angles below a million.
    cos(x) = x.cos();
    /// `x^y` for positive `x`; in portable mode with a relative error of up to `|y ln x|` units in the last place.
    pow(x, y) = x.powf(y);
}

/// Sine and cosine.
#[inline]
pub fn sin_cos(x: f64) -> (f64, f64) {
    match Arithmetic::current() {
        Arithmetic::Fast => x.sin_cos(),
        Arithmetic::Portable => (portable::sin(x), portable::cos(x)),
    }
}

/// Natural logarithm in f32.
#[inline]
pub fn ln_f32(x: f32) -> f32 {
    match Arithmetic::current() {
        Arithmetic::Fast => x.ln(),
        Arithmetic::Portable => portable::ln(f64::from(x)) as f32,
    }
}

/// `1 / sqrt(x)` in f32.
#[inline]
pub fn inverse_sqrt(x: f32) -> f32 {
    match Arithmetic::current() {
        Arithmetic::Fast => x.powf(-0.5),
        // Both are rounded as IEEE 754 has it.
        Arithmetic::Portable => 1.0 / x.sqrt(),
    }
}

/// What portable mode computes with, whatever the mode.
pub mod portable {
    // ln 2 in two parts, the first of which has few enough bits for its multiples to be exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // π/2 in three parts; likewise.
    const HALF_PI_1: f64 = 1.570_796_326_734_125_6;
    const HALF_PI_2: f64 = 6.077_100_506_303_966e-11;
    const HALF_PI_3: f64 = 2.022_266_248_795_950_6e-21;
    /// Adding and subtracting this rounds to an integer, ties to even.
    const ROUND: f64 = 6_755_399_441_055_744.0;

    /// The value of a polynomial, from the highest coefficient to the lowest.
    #[inline(always)]
    fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
        coefficients.into_iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
    }

    /// `x 2^n`, where neither overflows.
    #[inline(always)]
    fn scaled(x: f64, n: i64) -> f64 {
        x * f64::from_bits(((1023 + n) as u64) << 52)
    }

    /// See [`super::exp`].
    pub fn exp(x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        if x > 709.782_712_893_384 {
            return f64::INFINITY;
        }
        if x < -745.133_219_101_941_2 {
            return 0.0;
        }
        // e^x = 2^n e^r with |r| up to ln 2 / 2, and e^r by a rational function of r.
        let n = x * std::f64::consts::LOG2_E + ROUND - ROUND;
        let (high, low) = (x - n * LN_2_HIGH, n * LN_2_LOW);
        let r = high - low;
        let square = r * r;
        let c = r - square
            * polynomial(
                square,
                [
                    4.138_136_797_057_238_5e-8,
                    -1.653_390_220_546_525_2e-6,
                    6.613_756_321_437_934e-5,
                    -2.777_777_777_701_559_3e-3,
                    1.666_666_666_666_660_2e-1,
                ],
            );
        let y = 1.0 + (r * c / (2.0 - c) - low + high);
        // In two steps, since 2^n alone may be too large or too small a number.
        let n = n as i64;
        scaled(scaled(y, n / 2), n - n / 2)
    }

    /// See [`super::ln`].
    pub fn ln(x: f64) -> f64 {
        if x.is_nan() || x < 0.0 {
            return f64::NAN;
        }
        if x == 0.0 {
            return f64::NEG_INFINITY;
        }
        if x == f64::INFINITY {
            return x;
        }
        // x = 2^n (1 + f) with 1 + f between √½ and √2; numbers below the normal ones are made normal first.
        let (x, shift) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, -54) } else { (x, 0) };
        let bits = x.to_bits();
        let mut n = (bits >> 52) as i64 - 1023 + shift;
        let mut f = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
        if f > std::f64::consts::SQRT_2 {
            f *= 0.5;
            n += 1;
        }
        let f = f - 1.0;
        let n = n as f64;
        // ln(1 + f) = 2 artanh(s), s = f / (2 + f).
        let s = f / (2.0 + f);
        let z = s * s;
        let rest = z * polynomial(
            z,
            [
                1.479_819_860_511_658_6e-1,
                1.531_383_769_920_937_3e-1,
                1.818_357_216_161_805e-1,
                2.222_219_843_214_978_4e-1,
                2.857_142_874_366_239e-1,
                3.999_999_999_940_942e-1,
                6.666_666_666_666_735e-1,
            ],
        );
        let half = 0.5 * f * f;
        n * LN_2_HIGH - ((half - (s * (half + rest) + n * LN_2_LOW)) - f)
    }

    /// `x` less the nearest multiple of π/2, as a sum of two numbers, and that multiple modulo 4.
    fn reduced(x: f64) -> (f64, f64, u64) {
        let n = x * std::f64::consts::FRAC_2_PI + ROUND - ROUND;
        let first = x - n * HALF_PI_1;
        let second = n * HALF_PI_2;
        let near = first - second;
        let rest = n * HALF_PI_3 - ((first - near) - second);
        let high = near - rest;
        (high, (near - high) - rest, n as i64 as u64 & 3)
    }

    /// The sine of `high + low`, up to π/4 from 0.
    fn sin_near_0(high: f64, low: f64) -> f64 {
        let z = high * high;
        let cube = z * high;
        let r = polynomial(
            z,
            [
                1.589_690_995_211_55e-10,
                -2.505_076_025_340_686_3e-8,
                2.755_731_370_707_006_8e-6,
                -1.984_126_982_985_795e-4,
                8.333_333_333_322_49e-3,
            ],
        );
        high - ((z * (0.5 * low - cube * r) - low) + cube * 1.666_666_666_666_663_2e-1)
    }

    /// The cosine of `high + low`, up to π/4 from 0.
    fn cos_near_0(high: f64, low: f64) -> f64 {
        let z = high * high;
        let r = z * polynomial(
            z,
            [
                -1.135_964_755_778_819_5e-11,
                2.087_572_321_298_175e-9,
                -2.755_731_435_139_066_3e-7,
                2.480_158_728_947_673e-5,
                -1.388_888_888_887_411e-3,
                4.166_666_666_666_66e-2,
            ],
        );
        let half = 0.5 * z;
        let w = 1.0 - half;
        w + (((1.0 - w) - half) + (z * r - high * low))
    }

    /// See [`super::sin`].
    pub fn sin(x: f64) -> f64 {
        let (high, low, quarter) = reduced(x);
        match quarter {
            0 => sin_near_0(high, low),
            1 => cos_near_0(high, low),
            2 => -sin_near_0(high, low),
            _ => -cos_near_0(high, low),
        }
    }

    /// See [`super::cos`].
    pub fn cos(x: f64) -> f64 {
        let (high, low, quarter) = reduced(x);
        match quarter {
            0 => cos_near_0(high, low),
            1 => -sin_near_0(high, low),
            2 => -cos_near_0(high, low),
            _ => sin_near_0(high, low),
        }
    }

    /// See [`super::pow`].
    pub fn pow(x: f64, y: f64) -> f64 {
        exp(y * ln(x))
    }
}

#[cfg(test)]
mod tests {
    use super::portable::{cos, exp, ln, pow, sin};

    /// `found` differs from the platform's result by so many units in the last place at most.
    #[track_caller]
    fn assert_near(what: &str, x: f64, found: f64, expected: f64, units: f64) {
        let tolerance = units * f64::EPSILON * expected.abs().max(f64::MIN_POSITIVE);
        assert!((found - expected).abs() <= tolerance, "{what}({x:e}) = {found:e}, not {expected:e}");
    }

    /// Numbers from `-end` to `end`.
    fn range(end: f64) -> impl Iterator<Item = f64> {
        (-20_000..=20_000).map(move |i| f64::from(i) * (end / 20_000.0))
    }

    #[test]
    fn exp_is_the_exponential() {
        for x in range(1.0).chain(range(700.0)) {
            assert_near("exp", x, exp(x), x.exp(), 1.0);
        }
        assert_eq!([exp(0.0), exp(f64::NEG_INFINITY), exp(-746.0)], [1.0, 0.0, 0.0]);
        assert_eq!([exp(710.0), exp(f64::INFINITY)], [f64::INFINITY; 2]);
        assert!(exp(709.7).is_finite() && exp(-744.0) > 0.0 && exp(f64::NAN).is_nan());
    }

    #[test]
    fn ln_is_the_logarithm() {
        for x in range(700.0).map(f64::exp).chain(range(1.0).map(|x| 1.0 + 0.4 * x)) {
            assert_near("ln", x, ln(x), x.ln(), 1.0);
        }
        assert_eq!([ln(1.0), ln(0.0), ln(f64::INFINITY)], [0.0, f64::NEG_INFINITY, f64::INFINITY]);
        assert_near("ln", 5e-324, ln(5e-324), 5e-324_f64.ln(), 1.0);
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
    }

    #[test]
    fn sines_and_cosines_are_those_of_the_angle() {
        for x in range(1.0).chain(range(50.0)).chain(range(1e6)) {
            // Near a zero the platform's is as good in absolute terms only.
            assert!((sin(x) - x.sin()).abs() <= 2.3e-16, "sin({x}) = {}, not {}", sin(x), x.sin());
            assert!((cos(x) - x.cos()).abs() <= 2.3e-16, "cos({x}) = {}, not {}", cos(x), x.cos());
        }
        assert_eq!([sin(0.0), cos(0.0)], [0.0, 1.0]);
        assert!(sin(f64::INFINITY).is_nan() && cos(f64::NAN).is_nan());
    }

    #[test]
    fn powers_are_within_their_bound() {
        for (x, y) in [(1e4, -0.25), (1e4, -1.0), (0.999, 1e4), (0.9, 1.0), (2.0, 10.0), (0.5, 0.0)] {
            assert_near("pow", y, pow(x, y), x.powf(y), 2.0 + (y * x.ln()).abs());
        }
    }
}
