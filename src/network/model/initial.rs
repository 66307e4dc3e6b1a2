//! First values of parameters: a hash of the seed, the parameter's name and the element, so that they depend neither
//! on the backend nor on which other parameters there are.

use std::f64::consts::TAU;

use burn::tensor::{Device, TensorData};

use super::holding::Holding;
use crate::{
    network::kernels::Compact,
    support::{math, random::Key},
};

/// How a new parameter's elements begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All 0: biases.
    Zeros,
    /// All 1: the scales of norms.
    Ones,
    /// Normally distributed around 0 with this standard deviation.
    Normal(f64),
    /// Uniformly distributed between the negative of this and this.
    Uniform(f64),
}

/// Where the values of parameters come from: a seed, or a checkpoint.
pub trait ValueSource {
    /// The values of the parameter `name`; a new one begins with `initial`.
    ///
    /// Always gives values: a checkpoint that lacks the parameter notes that, gives none at all, and reports it later,
    /// together with all else that is wrong with it.
    fn values(&mut self, name: &str, shape: &[usize], initial: Initial) -> TensorData;

    /// The same for a matrix that is held in fewer bits than f32; its values in f32 where it isn't to be, or there are none.
    ///
    /// # Errors
    /// Those values.
    fn held(
        &mut self,
        name: &str,
        shape: [usize; 2],
        initial: Initial,
        holding: Holding,
        device: &Device,
    ) -> Result<Compact, TensorData> {
        let data = self.values(name, &shape, initial);
        let form = match holding {
            Holding::Form(form) => form,
            Holding::Stored => return Err(data),
        };
        match data.as_slice::<f32>() {
            Ok(values) if values.len() == shape[0] * shape[1] => Ok(Compact::new(form, values, shape, device)),
            _ => Err(data),
        }
    }

    /// Whether the parameter `name` is there; only to be asked about parts that a model may lack.
    fn has(&self, _name: &str) -> bool {
        true
    }

    /// Whether two parameters that are meant to be one are: not where both are there, with values of their own. Where only
    /// one is there, it's given under either name.
    fn tie(&mut self, _name: &str, _other: &str) -> bool {
        true
    }

    /// Makes sure that what is computed has these values in a checkpoint, too, where that stores it.
    fn expect(&mut self, _name: &str, _values: &dyn Fn() -> Vec<f32>) {}
}

/// Initializes every parameter.
#[derive(Clone, Copy, Debug)]
pub struct Initializer {
    /// What the random values derive from.
    pub seed: u64,
}

impl ValueSource for Initializer {
    fn values(&mut self, name: &str, shape: &[usize], initial: Initial) -> TensorData {
        let count = shape.iter().product();
        let key = Key::new(self.seed).with("parameters").with(name);
        let values = match initial {
            Initial::Zeros => vec![0.0; count],
            Initial::Ones => vec![1.0; count],
            Initial::Normal(deviation) => normal(key, count, deviation),
            Initial::Uniform(bound) => {
                (0..count as u64).map(|at| ((2.0 * key.at(at).f64() - 1.0) * bound) as f32).collect()
            }
        };
        TensorData::new(values, shape)
    }
}

/// Two normal numbers from two uniform ones (Box and Muller 1958).
fn normal(key: Key, count: usize, deviation: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    for pair in 0..count.div_ceil(2) as u64 {
        // The logarithm is of a number above 0 and up to 1.
        let radius = (-2.0 * math::ln(1.0 - key.at(2 * pair).f64())).sqrt() * deviation;
        let (sine, cosine) = math::sin_cos(key.at(2 * pair + 1).f64() * TAU);
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
        Initializer { seed }.values(name, &[count], Initial::Normal(0.02)).try_to_vec().unwrap()
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
