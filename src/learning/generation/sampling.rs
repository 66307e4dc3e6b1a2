//! How the next token is chosen from logits: the filters of Hugging Face's `generate`, in its order.

use anyhow::{Context, Result, ensure};

use crate::support::{math, random::Categorical};

/// What is done to a distribution before a token is drawn from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Tokens that were there already are made less likely: positive logits are divided by this, negative ones
    /// multiplied (Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>). 1 changes nothing.
    pub repetition_penalty: f64,
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many likeliest tokens are chosen among, and those that are as likely as the last of them; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens that have this much probability together are chosen among (Holtzman et al.
    /// 2020, <https://arxiv.org/abs/1904.09751>).
    pub top_p: f64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self { repetition_penalty: 1.0, temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// # Errors
    /// Numbers that mean nothing.
    pub fn check(&self) -> Result<()> {
        let Self { repetition_penalty, temperature, top_p, .. } = *self;
        let fine = temperature.is_finite() && temperature >= 0.0;
        ensure!(fine, "a temperature of {temperature} isn't possible; it's 0 (the likeliest token) or more");
        ensure!((0.0..=1.0).contains(&top_p), "a top-p of {top_p} isn't possible; it's a probability");
        let fine = repetition_penalty.is_finite() && repetition_penalty > 0.0;
        ensure!(fine, "a repetition penalty of {repetition_penalty} isn't possible; 1 changes nothing, more penalizes");
        Ok(())
    }

    /// The token at the point `uniform` in `[0, 1)` of the distribution that is left, after the tokens `before`.
    ///
    /// # Errors
    /// Logits among which there's nothing to choose.
    pub fn choose(&self, mut logits: Vec<f32>, before: &[u32], uniform: f64) -> Result<u32> {
        ensure!(
            !logits.iter().any(|logit| logit.is_nan()),
            "the model's logits aren't numbers, so its weights are off"
        );
        penalize(&mut logits, before, self.repetition_penalty);
        let kept = if self.temperature > 0.0 { self.top_k } else { 1 };
        let ranked = likeliest(&logits, kept);
        let first = *ranked.first().context("no token may come next")?;
        if self.temperature <= 0.0 {
            return Ok(first);
        }
        let top = f64::from(logits[first as usize]);
        let weight = |&id: &u32| math::exp((f64::from(logits[id as usize]) - top) / self.temperature);
        let mut weights: Vec<f64> = ranked.iter().map(weight).collect();
        weights.truncate(nucleus(&weights, self.top_p));
        let distribution = Categorical::new(weights).context("the logits have no largest one")?;
        Ok(ranked[distribution.pick(uniform)])
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, temperature: 0.8, top_k: 40, top_p: 0.95 }
    }
}

fn penalize(logits: &mut [f32], before: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    let mut ids = before.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            let old = f64::from(*logit);
            *logit = if old < 0.0 { old * penalty } else { old / penalty } as f32;
        }
    }
}

/// The tokens with the `kept` largest logits, and those equal to the last of them, the likeliest first and equal ones
/// by their ids; all that are possible for 0.
fn likeliest(logits: &[f32], kept: usize) -> Vec<u32> {
    let larger = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> =
        (0..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY).map(|(id, _)| id).collect();
    if (1..ids.len()).contains(&kept) {
        let least = logits[*ids.select_nth_unstable_by(kept - 1, larger).1 as usize];
        ids.retain(|&id| logits[id as usize] >= least);
    }
    ids.sort_unstable_by(larger);
    ids
}

/// How many of the weights, which fall, are needed for this share of their sum; at least one.
fn nucleus(weights: &[f64], share: f64) -> usize {
    let total: f64 = weights.iter().sum();
    let mut before = 0.0;
    let needed = weights.iter().take_while(|&&weight| {
        let needed = before < share * total;
        before += weight;
        needed
    });
    needed.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    const IMPOSSIBLE: f32 = f32::NEG_INFINITY;

    fn choose(sampling: Sampling, logits: &[f32], uniform: f64) -> u32 {
        sampling.choose(logits.to_vec(), &[], uniform).unwrap()
    }

    #[test]
    fn choice_follows_the_distribution() {
        // Probabilities of 1/4, 1/2, 0 and 1/4, taken in the order 1, 0, 3.
        let logits = [0.0, 2f32.ln(), IMPOSSIBLE, 0.0];
        let chosen = [0.0, 0.49, 0.51, 0.74, 0.76, 0.999].map(|uniform| choose(PLAIN, &logits, uniform));
        assert_eq!(chosen, [1, 1, 0, 0, 3, 3]);
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        // Odds of 1 to 4 become 1 to 16 at a half and 1 to 2 at two.
        let logits = [0.0, 4f32.ln()];
        let at = |temperature, uniform| choose(Sampling { temperature, ..PLAIN }, &logits, uniform);
        assert_eq!([at(1.0, 0.79), at(1.0, 0.81)], [1, 0]);
        assert_eq!([at(0.5, 0.94), at(0.5, 0.942)], [1, 0]);
        assert_eq!([at(2.0, 0.66), at(2.0, 0.67)], [1, 0]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(choose(Sampling::GREEDY, &[1.0, 3.0, 3.0, 2.0], 0.999), 1);
        assert_eq!(choose(Sampling { top_k: 3, top_p: 0.1, ..Sampling::GREEDY }, &[1.0, 2.0], 0.999), 1);
    }

    #[test]
    fn top_k_keeps_the_largest_and_their_equals() {
        let logits = [1.0, 3.0, 2.0, 2.0, IMPOSSIBLE];
        assert_eq!(likeliest(&logits, 1), [1]);
        assert_eq!(likeliest(&logits, 2), [1, 2, 3]);
        assert_eq!(likeliest(&logits, 3), [1, 2, 3]);
        assert_eq!(likeliest(&logits, 4), [1, 2, 3, 0]);
        assert_eq!(likeliest(&logits, 0), [1, 2, 3, 0]);
        assert_eq!(likeliest(&logits, 9), [1, 2, 3, 0]);
        assert_eq!(choose(Sampling { top_k: 1, ..PLAIN }, &logits, 0.999), 1);
        assert_eq!(choose(Sampling { top_k: 2, ..PLAIN }, &logits, 0.999), 3);
    }

    #[test]
    fn top_p_keeps_as_few_as_reach_it() {
        let weights = [4.0, 2.0, 1.0, 1.0];
        let kept = [0.0, 0.5, 0.500_001, 0.75, 0.751, 0.9, 1.0].map(|share| nucleus(&weights, share));
        assert_eq!(kept, [1, 1, 2, 2, 3, 4, 4]);
        let logits = weights.map(|weight| (weight as f32).ln());
        assert_eq!(choose(Sampling { top_p: 0.6, ..PLAIN }, &logits, 0.999), 1);
    }

    #[test]
    fn top_p_counts_what_top_k_left() {
        // Of 4, 2, 1, 1 top-k leaves 4 and 2, of which the first has two thirds.
        let logits = [4.0, 2.0, 1.0, 1.0].map(|weight: f32| weight.ln());
        assert_eq!(choose(Sampling { top_k: 2, top_p: 0.66, ..PLAIN }, &logits, 0.999), 0);
        assert_eq!(choose(Sampling { top_k: 2, top_p: 0.67, ..PLAIN }, &logits, 0.999), 1);
    }

    #[test]
    fn repetition_penalty_divides_positive_logits_and_multiplies_negative_ones() {
        let mut logits = [3.0, -3.0, 1.0, 0.0, -1.0];
        penalize(&mut logits, &[0, 1, 0, 3, 99], 1.5);
        assert_eq!(logits, [2.0, -4.5, 1.0, 0.0, -1.0]);
        let penalized = Sampling { repetition_penalty: 4.0, ..Sampling::GREEDY };
        assert_eq!(penalized.choose(vec![3.0, 1.0], &[0], 0.0).unwrap(), 1);
        assert_eq!(penalized.choose(vec![3.0, 1.0], &[0, 1], 0.0).unwrap(), 0);
    }

    #[test]
    fn logits_without_a_choice_are_refused() {
        for logits in [vec![], vec![IMPOSSIBLE; 3], vec![1.0, f32::NAN]] {
            assert!(PLAIN.choose(logits.clone(), &[], 0.5).is_err());
            assert!(Sampling::GREEDY.choose(logits, &[], 0.5).is_err());
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert!(Sampling::default().check().is_ok() && Sampling::GREEDY.check().is_ok());
        let bad = [
            Sampling { temperature: -1.0, ..PLAIN },
            Sampling { temperature: f64::NAN, ..PLAIN },
            Sampling { top_p: 1.1, ..PLAIN },
            Sampling { repetition_penalty: 0.0, ..PLAIN },
        ];
        assert!(bad.iter().all(|sampling| sampling.check().is_err()));
    }
}
