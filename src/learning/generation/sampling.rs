//! How the next token is chosen from its scores: the filters of transformers' sampling, in its order (`_get_logits_processor`
//! in `generation/utils.py` of 5.23, and the warpers in `logits_process.py`).

use anyhow::{Context, Result, ensure};

use crate::support::{math, random::Categorical};

/// What is done to a distribution before a token is drawn from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What scores are divided by; 0 takes the likeliest token, and nothing of the rest counts.
    pub temperature: f64,
    /// Top-h: the likeliest tokens whose share of the distribution's entropy is no more than this are chosen among, out of
    /// the 100 likeliest (<https://arxiv.org/abs/2509.02510>).
    pub top_h: Option<f64>,
    /// Only this many likeliest tokens are chosen among, and those that are as likely as the last of them; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens that have this much probability together are chosen among (Holtzman et al.
    /// 2020, <https://arxiv.org/abs/1904.09751>).
    pub top_p: f64,
    /// Only tokens are chosen among that have at least this share of the likeliest one's probability (Nguyen et al. 2024,
    /// <https://arxiv.org/abs/2407.01082>).
    pub min_p: f64,
    /// Only the fewest tokens that have this much probability together are chosen among, those first whose information is
    /// closest to the distribution's entropy (Meister et al. 2023, <https://arxiv.org/abs/2202.00666>).
    pub typical_p: f64,
    /// Only tokens of at least this probability are chosen among (Hewitt et al. 2022,
    /// <https://arxiv.org/abs/2210.15191>). 0 for all.
    pub epsilon_cutoff: f64,
    /// The same with a threshold that falls with the distribution's entropy (in the same paper). 0 for all.
    pub eta_cutoff: f64,
}

/// How many of the likeliest tokens top-h looks at.
const TOP_H_TOKENS: usize = 100;

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, ..Self::PLAIN };

    /// The distribution as it is.
    pub const PLAIN: Self = Self {
        temperature: 1.0,
        top_h: None,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        epsilon_cutoff: 0.0,
        eta_cutoff: 0.0,
    };

    /// Whether tokens are drawn, rather than the likeliest taken.
    pub fn draws(&self) -> bool {
        self.temperature > 0.0
    }

    /// # Errors
    /// Numbers that mean nothing.
    pub fn check(&self) -> Result<()> {
        let Self { temperature, top_h, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, top_k: _ } = *self;
        let fine = temperature.is_finite() && temperature >= 0.0;
        ensure!(fine, "a temperature of {temperature} isn't possible; it's 0 (the likeliest token) or more");
        for (what, value) in [("top-p", top_p), ("min-p", min_p)] {
            ensure!((0.0..=1.0).contains(&value), "a {what} of {value} isn't possible; it's a probability, 0 to 1");
        }
        for (what, value) in [("typical-p", typical_p), ("top-h", top_h.unwrap_or(1.0))] {
            let fine = value > 0.0 && value <= 1.0;
            ensure!(fine, "a {what} of {value} isn't possible; it's above 0, and at most 1");
        }
        for (what, value) in [("epsilon cutoff", epsilon_cutoff), ("eta cutoff", eta_cutoff)] {
            ensure!((0.0..1.0).contains(&value), "an {what} of {value} isn't possible; it's 0 or more, and below 1");
        }
        Ok(())
    }

    /// The token at the point `uniform` in `[0, 1)` of the distribution that is left of these scores.
    ///
    /// # Errors
    /// Scores among which there's nothing to choose.
    pub fn choose(&self, scores: &[f32], uniform: f64) -> Result<u32> {
        if !self.draws() {
            check_numbers(scores)?;
            return likeliest(scores, 1).first().map(|&(id, _)| id).context("no token may come next");
        }
        let left = self.distribution(scores)?;
        let distribution = Categorical::new(left.iter().map(|&(_, weight)| weight));
        Ok(left[distribution.context("the logits have no largest one")?.pick(uniform)].0)
    }

    /// The tokens that are chosen among with their probabilities, the likeliest first and equal ones by their ids.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn distribution(&self, scores: &[f32]) -> Result<Vec<(u32, f64)>> {
        check_numbers(scores)?;
        let left = self.left(scores, 1);
        ensure!(!left.is_empty(), "no token may come next");
        Ok(left.iter().map(|&(id, _)| id).zip(softmax(&left)).collect())
    }

    /// The tokens that are left to choose among with their scores over the temperature, the likeliest first; at least
    /// `least` of them, if there are so many.
    pub(super) fn left(&self, scores: &[f32], least: usize) -> Vec<(u32, f64)> {
        let kept = match (self.top_h, self.top_k) {
            (Some(_), _) | (None, 0) => 0,
            (None, kept) => kept.max(least),
        };
        let mut left = likeliest(scores, kept);
        for (_, score) in &mut left {
            *score /= self.temperature;
        }
        if let Some(share) = self.top_h {
            left.truncate(entropic(&left, share));
            if self.top_k > 0 {
                truncate(&mut left, self.top_k.max(least));
            }
        }
        if self.top_p < 1.0 {
            let kept = nucleus(&softmax(&left), self.top_p).max(least);
            left.truncate(kept);
        }
        if self.min_p > 0.0 {
            let probabilities = softmax(&left);
            let least_probable = self.min_p * probabilities.first().copied().unwrap_or(0.0);
            keep(&mut left, |at| at < least || probabilities[at] >= least_probable);
        }
        if self.typical_p < 1.0 {
            left = typical(left, self.typical_p, least);
        }
        if self.epsilon_cutoff > 0.0 {
            above(&mut left, self.epsilon_cutoff, least);
        }
        if self.eta_cutoff > 0.0 {
            let falling = self.eta_cutoff.sqrt() * math::exp(-entropy(&softmax(&left)));
            above(&mut left, falling.min(self.eta_cutoff), least);
        }
        left
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, ..Self::PLAIN }
    }
}

pub(super) fn check_numbers(scores: &[f32]) -> Result<()> {
    let numbers = scores.iter().all(|score| !score.is_nan());
    ensure!(numbers, "the model's logits aren't numbers, so its weights are off");
    Ok(())
}

/// The tokens with the `kept` largest scores, and those equal to the last of them, the likeliest first and equal ones
/// by their ids; all that are possible for 0.
fn likeliest(scores: &[f32], kept: usize) -> Vec<(u32, f64)> {
    let larger = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> =
        (0..).zip(scores).filter(|(_, score)| **score > f32::NEG_INFINITY).map(|(id, _)| id).collect();
    if (1..ids.len()).contains(&kept) {
        let least = scores[*ids.select_nth_unstable_by(kept - 1, larger).1 as usize];
        ids.retain(|&id| scores[id as usize] >= least);
    }
    ids.sort_unstable_by(larger);
    ids.into_iter().map(|id| (id, f64::from(scores[id as usize]))).collect()
}

/// Leaves the `kept` likeliest of sorted tokens, and those equal to the last of them.
fn truncate(left: &mut Vec<(u32, f64)>, kept: usize) {
    if let Some(&(_, last)) = left.get(kept.saturating_sub(1)) {
        left.retain(|&(_, score)| score >= last);
    }
}

/// Leaves the tokens at these places.
fn keep(left: &mut Vec<(u32, f64)>, stays: impl Fn(usize) -> bool) {
    let mut at = 0;
    left.retain(|_| {
        at += 1;
        stays(at - 1)
    });
}

/// Leaves tokens of at least this probability, and the `least` likeliest with their equals.
fn above(left: &mut Vec<(u32, f64)>, probability: f64, least: usize) {
    let Some(&(_, bound)) = left.get(least.min(left.len()).saturating_sub(1)) else { return };
    let probabilities = softmax(left);
    let scores: Vec<f64> = left.iter().map(|&(_, score)| score).collect();
    keep(left, |at| probabilities[at] >= probability || scores[at] >= bound);
}

/// Probabilities of sorted tokens.
fn softmax(left: &[(u32, f64)]) -> Vec<f64> {
    let top = left.first().map_or(0.0, |&(_, score)| score);
    let weights: Vec<f64> = left.iter().map(|&(_, score)| math::exp(score - top)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// In nats.
fn entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().map(|&p| if p > 0.0 { -p * math::ln(p) } else { 0.0 }).sum()
}

/// How many probabilities, which fall, are needed for this sum; at least one.
fn nucleus(probabilities: &[f64], sum: f64) -> usize {
    let mut before = 0.0;
    let needed = probabilities.iter().take_while(|&&probability| {
        let needed = before < sum;
        before += probability;
        needed
    });
    needed.count().max(1)
}

/// How many of the likeliest tokens have no more than this share of the entropy of the hundred likeliest; at least one.
fn entropic(left: &[(u32, f64)], share: f64) -> usize {
    let probabilities = softmax(&left[..left.len().min(TOP_H_TOKENS)]);
    let most = share * entropy(&probabilities);
    let mut sum = 0.0;
    let within = probabilities.iter().take_while(|&&p| {
        sum += entropy(&[p]);
        sum <= most
    });
    within.count().max(1)
}

/// The tokens whose information is closest to the entropy, until they have this much probability together; at least
/// `least`. They stay sorted by their scores.
fn typical(left: Vec<(u32, f64)>, mass: f64, least: usize) -> Vec<(u32, f64)> {
    let probabilities = softmax(&left);
    let expected = entropy(&probabilities);
    let distance = |at: usize| {
        if probabilities[at] > 0.0 { (-math::ln(probabilities[at]) - expected).abs() } else { f64::INFINITY }
    };
    let mut order: Vec<usize> = (0..left.len()).collect();
    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    let mut sum = 0.0;
    let below = order.iter().take_while(|&&at| {
        sum += probabilities[at];
        sum < mass
    });
    let Some(&last) = order.get(below.count().min(left.len().saturating_sub(1))) else { return left };
    let mut stays = vec![false; left.len()];
    for (place, &at) in order.iter().enumerate() {
        stays[at] = place < least || distance(at) <= distance(last);
    }
    left.into_iter().zip(stays).filter(|(_, stays)| *stays).map(|(token, _)| token).collect()
}

#[cfg(test)]
mod tests;
