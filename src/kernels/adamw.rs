//! AdamW on plain slices.

use rayon::prelude::*;

/// Elements that one task works on; a constant, so that sums don't depend on the number of threads.
const BLOCK: usize = 1 << 14;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
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

impl AdamW {
    /// Updates parameters and both moments in place; gradients are multiplied by `clip` first.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn update(&self, parameters: &mut [f32], gradients: &[f32], mean: &mut [f32], square: &mut [f32], clip: f32) {
        let n = parameters.len();
        assert!(gradients.len() == n && mean.len() == n && square.len() == n, "AdamW's slices differ in length");
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let step_size = (f64::from(self.lr) / correction(self.beta1)) as f32;
        let square_scale = (1.0 / correction(self.beta2).sqrt()) as f32;
        let keep = 1.0 - self.lr * self.weight_decay;
        let (beta1, beta2, eps) = (self.beta1, self.beta2, self.eps);
        (
            parameters.par_chunks_mut(BLOCK),
            gradients.par_chunks(BLOCK),
            mean.par_chunks_mut(BLOCK),
            square.par_chunks_mut(BLOCK),
        )
            .into_par_iter()
            .for_each(|(p, g, m, v)| {
                for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                    let g = g * clip;
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *p = *p * keep - step_size * *m / (v.sqrt() * square_scale + eps);
                }
            });
    }
}

/// Euclidean norm of all gradients as one vector.
pub fn global_norm(gradients: &[&[f32]]) -> f64 {
    let blocks: Vec<&[f32]> = gradients.iter().flat_map(|g| g.chunks(BLOCK)).collect();
    let sums: Vec<f64> = blocks.into_par_iter().map(|b| b.iter().map(|&x| f64::from(x) * f64::from(x)).sum()).collect();
    sums.iter().sum::<f64>().sqrt()
}
