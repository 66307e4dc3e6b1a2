//! First values of parameters: a hash of the seed, the parameter's name and the element, so that they depend neither
//! on the backend nor on which other parameters there are.

use std::f64::consts::TAU;

use burn::tensor::TensorData;

use super::parameters::Source;

/// How a new parameter's elements begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All 0: biases.
    Zeros,
    /// All 1: the scales of norms.
    Ones,
    /// Normally distributed around 0 with this standard deviation.
    Normal(f64),
}

/// Makes every parameter anew.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// What the random values derive from.
    pub seed: u64,
}

impl Source for Fresh {
    fn values(&mut self, name: &str, shape: &[usize], initial: Initial) -> TensorData {
        let count = shape.iter().product();
        let values = match initial {
            Initial::Zeros => vec![0.0; count],
            Initial::Ones => vec![1.0; count],
            Initial::Normal(deviation) => normal(key(self.seed, name), count, deviation),
        };
        TensorData::new(values, shape)
    }
}

fn key(seed: u64, name: &str) -> u64 {
    let hash = blake3::Hasher::new().update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    hash.as_bytes().iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
}

/// Two normal numbers from two uniform ones (Box and Muller 1958).
fn normal(key: u64, count: usize, deviation: f64) -> Vec<f32> {
    let uniform = |index: u64| (mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 11) as f64;
    let unit = 1.0 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    for pair in 0..count.div_ceil(2) as u64 {
        // Never 0, whose logarithm isn't finite.
        let radius = (-2.0 * ((uniform(2 * pair) + 1.0) * unit).ln()).sqrt() * deviation;
        let (sine, cosine) = (uniform(2 * pair + 1) * unit * TAU).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
        Fresh { seed }.values(name, &[count], Initial::Normal(0.02)).to_vec().unwrap()
    }

    #[test]
    fn initial_weights_have_the_deviation_asked_for() {
        let values = values(1, "a", 100_001);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / 100_001.0;
        let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 100_001.0;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((square.sqrt() - 0.02).abs() < 2e-4, "{square}");
        assert!(values.iter().all(|x| x.abs() < 0.12));
    }

    #[test]
    fn initial_weights_depend_on_seed_and_name_alone() {
        assert_eq!(values(1, "a", 64), values(1, "a", 64));
        assert_eq!(values(1, "a", 9)[..], values(1, "a", 64)[..9]);
        assert_ne!(values(1, "a", 64), values(2, "a", 64));
        assert_ne!(values(1, "a", 64), values(1, "b", 64));
    }
}
