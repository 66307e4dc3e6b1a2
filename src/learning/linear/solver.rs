//! Dual coordinate ascent: rows in random order, and for each the best step that its own dual variables allow.
//!
//! Both losses minimize `½‖W‖² + C Σ loss`, the bias being a feature of value 1 that all rows have:
//!
//! * squared hinge, one class against the rest: Hsieh et al. 2008 (<https://doi.org/10.1145/1390156.1390208>), what LIBLINEAR
//!   does for scikit-learn's `LinearSVC`;
//! * multinomial logistic: the dual variables of a row are probabilities, and move towards those that the weights give it
//!   (Shalev-Shwartz and Zhang 2014, <https://arxiv.org/abs/1309.2375>, section 5), as far as the dual grows.
//!
//! A feature may have another scale in each class, as naive Bayes' ratios give it. The weights here are those of the unscaled
//! features, so a scale `r` makes steps `r²` times as long.

use super::Matrix;
use crate::support::{math, random::Key};

/// What is minimized.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `−ln p(label)`, the probabilities being the softmax of the scores.
    Logistic,
    /// `max(0, 1 − y score)²` in each class, `y` being 1 for the label and −1 for all others.
    SquaredHinge,
}

/// Rows to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Their features.
    pub matrix: &'a Matrix,
    /// Their labels.
    pub labels: &'a [usize],
    /// How many labels there are.
    pub classes: usize,
    /// How many columns the matrix has.
    pub width: usize,
    /// A feature's scale in each class, `[column][class]`, where it isn't 1.
    pub scales: Option<&'a [f32]>,
}

/// What was learned: a class's score is its bias and the sum of its weights over a row's features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// `[column][class]`.
    pub values: Vec<f32>,
    /// `[class]`.
    pub bias: Vec<f32>,
}

/// When it's good.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Passes over the rows at most.
    pub epochs: u64,
    /// The duality gap that will do, as a share of the loss without weights.
    pub gap: f64,
}

impl Effort {
    /// Near enough for no row to be told otherwise, which a gap of 5e-4 isn't: it takes twice as many passes, some ten, and many
    /// more where costs are high and labels are noisy.
    pub const CLOSE: Self = Self { epochs: 100, gap: 1e-6 };
    /// Near enough to tell a better setting from a worse one.
    pub const ROUGH: Self = Self { epochs: 12, gap: 1e-4 };
}

/// Steps that look for the highest point of a row's dual.
const SEARCH: usize = 12;
/// A step that changes no probability by more than this isn't worth it.
const STILL: f64 = 1e-6;

impl Weights {
    /// Learns the rows; `cost` is `C`.
    pub fn learn(problem: &Problem<'_>, loss: Loss, cost: f64, effort: Effort) -> Self {
        let Problem { matrix, labels, classes, width, .. } = *problem;
        let mut weights = Self { values: vec![0.0; width * classes], bias: vec![0.0; classes] };
        let mut duals = vec![0.0_f32; labels.len() * classes];
        if loss == Loss::Logistic {
            // Where the weights are 0.
            labels.iter().enumerate().for_each(|(row, label)| duals[row * classes + label] = 1.0);
        }
        let norms = norms(problem);
        let without =
            labels.len() as f64 * if loss == Loss::Logistic { math::ln(classes as f64) } else { classes as f64 };
        let mut order: Vec<usize> = (0..labels.len()).collect();
        let (mut scores, mut deltas) = (vec![0.0; classes], vec![0.0; classes]);
        for epoch in 0..effort.epochs {
            shuffle(&mut order, Key::new(epoch).with("linear"));
            let mut gap = 0.0;
            for &row in &order {
                weights.scores(matrix, row, &mut scores);
                let dual = &mut duals[row * classes..][..classes];
                let norms = &norms[row * classes..][..classes];
                let moved = match loss {
                    Loss::Logistic => logistic(&scores, norms, cost, dual, &mut deltas, &mut gap),
                    Loss::SquaredHinge => squared_hinge(&scores, norms, cost, dual, labels[row], &mut deltas, &mut gap),
                };
                if moved {
                    weights.add(problem, row, &deltas);
                }
            }
            if gap < effort.gap * without {
                break;
            }
        }
        weights
    }

    /// The classes' scores of a row.
    pub fn scores(&self, matrix: &Matrix, row: usize, scores: &mut [f32]) {
        scores.copy_from_slice(&self.bias);
        let classes = scores.len();
        for (column, value) in matrix.row(row) {
            let weights = &self.values[column * classes..][..classes];
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += value * weight);
        }
    }

    /// Goes along a row's features.
    fn add(&mut self, problem: &Problem<'_>, row: usize, deltas: &[f32]) {
        let classes = deltas.len();
        self.bias.iter_mut().zip(deltas).for_each(|(bias, delta)| *bias += delta);
        for (column, value) in problem.matrix.row(row) {
            let weights = &mut self.values[column * classes..][..classes];
            match problem.scales {
                None => weights.iter_mut().zip(deltas).for_each(|(weight, delta)| *weight += value * delta),
                Some(scales) => {
                    let scales = &scales[column * classes..][..classes];
                    let each = weights.iter_mut().zip(deltas).zip(scales);
                    each.for_each(|((weight, delta), scale)| *weight += value * scale * scale * delta);
                }
            }
        }
    }
}

/// `‖x‖²` of each row in each class, the bias among it.
fn norms(problem: &Problem<'_>) -> Vec<f32> {
    let Problem { matrix, classes, scales, .. } = *problem;
    let mut norms = vec![1.0; matrix.len() * classes];
    for (row, norms) in norms.chunks_exact_mut(classes).enumerate() {
        for (column, value) in matrix.row(row) {
            for (class, norm) in norms.iter_mut().enumerate() {
                let scale = scales.map_or(1.0, |scales| scales[column * classes + class]);
                *norm += value * value * scale * scale;
            }
        }
    }
    norms
}

fn shuffle(order: &mut [usize], key: Key) {
    let mut stream = key.stream();
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last + 1));
    }
}

/// The step of a row in all classes. What its dual is behind its loss is added to the gap; gives whether there's a step.
fn squared_hinge(
    scores: &[f32],
    norms: &[f32],
    cost: f64,
    dual: &mut [f32],
    label: usize,
    deltas: &mut [f32],
    gap: &mut f64,
) -> bool {
    let mut moved = false;
    for class in 0..scores.len() {
        let sign = if class == label { 1.0 } else { -1.0 };
        let (margin, alpha) = (sign * f64::from(scores[class]), f64::from(dual[class]));
        let miss = (1.0 - margin).max(0.0);
        *gap += miss * miss + (alpha * (margin - 1.0) + alpha * alpha / (4.0 * cost)) / cost;
        let ridge = 1.0 / (2.0 * cost);
        let next = (alpha - (margin - 1.0 + alpha * ridge) / (f64::from(norms[class]) + ridge)).max(0.0);
        dual[class] = next as f32;
        deltas[class] = (sign * (f64::from(dual[class]) - alpha)) as f32;
        moved |= deltas[class] != 0.0;
    }
    moved
}

/// As [`squared_hinge`]: the probabilities `a` of a row go towards those of the scores, `p`, by the share `s` of the way at which
/// the dual is highest, where `Σ d (ln p − ln(a + s d)) = s C Σ ‖x‖² d²` with `d = p − a`.
fn logistic(scores: &[f32], norms: &[f32], cost: f64, dual: &mut [f32], deltas: &mut [f32], gap: &mut f64) -> bool {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|score| math::exp(f64::from(score - highest))).sum();
    let norm = f64::from(highest) + math::ln(sum);
    let mut curvature = 0.0;
    let mut largest = 0.0_f64;
    let mut slope_at_0 = 0.0;
    let log = |class: usize| (f64::from(scores[class]) - norm).max(-60.0);
    for class in 0..scores.len() {
        let (log, a) = (log(class), f64::from(dual[class]));
        let d = math::exp(log) - a;
        curvature += cost * f64::from(norms[class]) * d * d;
        largest = largest.max(d.abs());
        if a > 0.0 {
            *gap += a * (math::ln(a) - log);
        }
        slope_at_0 += d * log;
        deltas[class] = d as f32;
    }
    if largest < STILL {
        return false;
    }
    let (mut low, mut high) = (0.0, 1.0);
    let mut share = 1.0 / (1.0 + curvature / largest);
    for _ in 0..SEARCH {
        let (mut slope, mut fall) = (slope_at_0 - share * curvature, curvature);
        for (a, d) in dual.iter().zip(&*deltas) {
            let (a, d) = (f64::from(*a), f64::from(*d));
            let there = (a + share * d).max(1e-30);
            slope -= d * math::ln(there);
            fall += d * d / there;
        }
        if slope > 0.0 {
            low = share
        } else {
            high = share
        }
        let next = share + slope / fall;
        let next = if next > low && next < high { next } else { f64::midpoint(low, high) };
        let still = (next - share).abs() < 1e-3 * share;
        share = next;
        if still {
            break;
        }
    }
    for (a, delta) in dual.iter_mut().zip(deltas) {
        let before = *a;
        *a = (f64::from(before) + share * f64::from(*delta)).max(0.0) as f32;
        *delta = (cost * f64::from(before - *a)) as f32;
    }
    true
}
