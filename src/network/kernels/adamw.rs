//! AdamW on plain slices of the CPU's memory, and on tensors of any device.

use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    simd::simd,
    slices::{with_slice, with_slices_mut},
};
use crate::support::math;

/// Elements that one task works on; a constant, so that sums don't depend on the number of threads.
const BLOCK: usize = 1 << 14;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Keeps the division finite.
    pub eps: f32,
    /// Share of `lr` by which parameters shrink.
    pub weight_decay: f32,
    /// Steps with this one: 1 at the first.
    pub step: u64,
}

impl AdamWStep {
    /// Updates parameters and both moments in place; gradients are multiplied by `clip` first.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn update(&self, parameters: &mut [f32], gradients: &[f32], mean: &mut [f32], square: &mut [f32], clip: f32) {
        let n = parameters.len();
        assert!(gradients.len() == n && mean.len() == n && square.len() == n, "AdamW's slices differ in length");
        let slices = (
            parameters.par_chunks_mut(BLOCK),
            gradients.par_chunks(BLOCK),
            mean.par_chunks_mut(BLOCK),
            square.par_chunks_mut(BLOCK),
        );
        slices.into_par_iter().for_each(|(p, g, m, v)| update_block(self, p, g, m, v, clip));
    }

    /// The same for tensors in the CPU's memory: parameters and moments (mean and mean square). `None` if they aren't there.
    pub fn update_in_place<const D: usize>(
        &self,
        parameters: Tensor<D>,
        gradient: &Tensor<D>,
        [mean, square]: [Tensor<D>; 2],
        clip: f32,
    ) -> Option<(Tensor<D>, [Tensor<D>; 2])> {
        let mut read = None;
        let [parameters, mean, square] = with_slices_mut([parameters, mean, square], |[parameters, mean, square]| {
            read = with_slice(gradient, |gradient| self.update(parameters, gradient, mean, square, clip));
        })?;
        read.map(|()| (parameters, [mean, square]))
    }

    /// Parameters and moments (mean and mean square) after the step, wherever they are; the gradient is multiplied by
    /// `clip [1]` first. There are no moments before the first step.
    pub fn update_on_device<const D: usize>(
        &self,
        parameters: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<[Tensor<D>; 2]>,
        clip: Option<&Tensor<1>>,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let (step_size, square_scale, keep) = self.factors();
        #[cfg(feature = "gpu")]
        if super::gpu::applies(&gradient) && parameters.dtype() == DType::F32 {
            let zeros = || Tensor::zeros(parameters.dims(), (&parameters.device(), DType::F32));
            let moments = moments.unwrap_or_else(|| [zeros(), zeros()]);
            let Self { beta1, beta2, eps: epsilon, .. } = *self;
            let update = super::gpu::Update { step_size, square_scale, keep, beta1, beta2, epsilon };
            return update.apply(parameters, gradient, moments, clip.cloned());
        }
        let mut gradient = gradient;
        if let Some(clip) = clip {
            gradient = gradient * clip.clone().reshape([1; D]);
        }
        let gained = gradient.clone() * (1.0 - self.beta1);
        let gained_square = gradient.square() * (1.0 - self.beta2);
        let [mean, square] = match moments {
            Some([mean, square]) => [mean * self.beta1 + gained, square * self.beta2 + gained_square],
            None => [gained, gained_square],
        };
        let change = mean.clone() * step_size / (square.clone().sqrt() * square_scale + self.eps);
        (parameters * keep - change, [mean, square])
    }

    /// The learning rate over the mean's correction, 1 over the root of the mean square's, and what is left of parameters
    /// after their decay.
    fn factors(&self) -> (f32, f32, f32) {
        let correction = |beta: f32| 1.0 - math::pow(f64::from(beta), self.step as f64);
        let step_size = (f64::from(self.lr) / correction(self.beta1)) as f32;
        let square_scale = (1.0 / correction(self.beta2).sqrt()) as f32;
        (step_size, square_scale, 1.0 - self.lr * self.weight_decay)
    }
}

simd! {
    fn update_block(adam: &AdamWStep, parameters: &mut [f32], gradients: &[f32], mean: &mut [f32], square: &mut [f32], clip: f32) {
        let (step_size, square_scale, keep) = adam.factors();
        let (beta1, beta2, eps) = (adam.beta1, adam.beta2, adam.eps);
        for (((p, g), m), v) in parameters.iter_mut().zip(gradients).zip(mean).zip(square) {
            let g = g * clip;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p = *p * keep - step_size * *m / (v.sqrt() * square_scale + eps);
        }
    }
}

/// Euclidean norm of all gradients as one vector.
pub fn global_norm(gradients: &[&[f32]]) -> f64 {
    let sums: Vec<f64> = gradients.iter().flat_map(|gradient| block_squares(gradient)).collect();
    sums.iter().sum::<f64>().sqrt()
}

/// Sums of squares of a gradient's blocks; the root of all gradients' sums, added up one after the other, is their norm.
pub fn block_squares(gradient: &[f32]) -> Vec<f64> {
    gradient.par_chunks(BLOCK).map(sum_of_squares).collect()
}

/// Euclidean norm of tensors on a device, all of them one vector: `[1]`.
pub fn norm<'a>(
    device: &Device,
    vectors: impl IntoIterator<Item = &'a Tensor<1>>,
    matrices: impl IntoIterator<Item = &'a Tensor<2>>,
) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if super::gpu::try_out(device, DType::F32).is_ok() {
        let squares = super::gpu::Squares::new(device);
        let squares = vectors.into_iter().fold(squares, |squares, x| squares.add(x.clone()));
        let squares = matrices.into_iter().fold(squares, |squares, x| squares.add(x.clone()));
        return squares.sum().sqrt();
    }
    let vectors = vectors.into_iter().map(|x| x.clone().square().sum());
    let matrices = matrices.into_iter().map(|x| x.clone().square().sum());
    let none = Tensor::zeros([1], (device, DType::F32));
    vectors.chain(matrices).fold(none, |sum, part| sum + part).sqrt()
}

simd! {
    fn sum_of_squares(block: &[f32]) -> f64 {
        let (chunks, rest) = block.as_chunks::<16>();
        let mut lanes = [0.0f64; 16];
        for chunk in chunks {
            for i in 0..16 {
                lanes[i] += f64::from(chunk[i]) * f64::from(chunk[i]);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_are_those_of_the_formula_at_any_number_of_threads() {
        let n = 3 * BLOCK + 5;
        let gradient = |step: u64, i: usize| ((i as u64 * 37 + step * 11) % 101) as f32 / 50.0 - 1.0;
        let run = || {
            let mut p: Vec<f32> = (0..n).map(|i| gradient(0, i)).collect();
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            for step in 1..=2 {
                let g: Vec<f32> = (0..n).map(|i| gradient(step, i)).collect();
                let adam = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.2, step };
                adam.update(&mut p, &g, &mut m, &mut v, 0.5);
            }
            p
        };
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(run);
        assert_eq!(one, run());
        for (i, found) in one.iter().enumerate() {
            let (mut p, mut m, mut v) = (f64::from(gradient(0, i)), 0.0, 0.0);
            for step in 1..=2 {
                let g = 0.5 * f64::from(gradient(step, i));
                m = 0.9 * m + 0.1 * g;
                v = 0.99 * v + 0.01 * g * g;
                let (mean, square) = (m / (1.0 - 0.9f64.powi(step as i32)), v / (1.0 - 0.99f64.powi(step as i32)));
                p -= 0.1 * (mean / (square.sqrt() + 1e-6) + 0.2 * p);
            }
            assert!((f64::from(*found) - p).abs() < 2e-6, "{i}: {found}, not {p}");
        }
    }

    #[test]
    fn norm_is_that_of_one_vector() {
        let (a, b) = (vec![3.0; 40_000], vec![-4.0; 40_000]);
        assert!((global_norm(&[&a, &b]) - 1000.0).abs() < 1e-9);
        assert_eq!(global_norm(&[]), 0.0);
    }
}
