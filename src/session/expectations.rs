//! What a recipe expects of its stages' metrics, held against what came out. Nothing of it is in a key: it's judged anew
//! whenever a recipe is run, on what the store has as on what was computed.

use crate::{engine::store::Metrics, recipe::Checked, spec::Bound};

/// How much of the base's figure, or of 1, a difference may be off by rounding.
const ROUNDING: f64 = 1e-12;

/// One thing that is expected, and whether it's so.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The stage.
    pub stage: String,
    /// The metric's name.
    pub metric: String,
    /// What it has to be.
    pub bound: Bound,
    /// Where that stands in the recipe.
    pub pointer: String,
    /// What it is, where it was measured.
    pub figure: Option<f64>,
    /// What it's held against: the bound's own number, the other metric, or the base's figure.
    pub against: Option<f64>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Whether an expectation is met.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is.
    Met,
    /// It isn't; or there is a result, and no such number in it.
    Broken,
    /// It can't be told, and why.
    NotJudged(String),
}

impl Verdict {
    /// The word for it in `--json`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Broken => "broken",
            Self::NotJudged(_) => "not_judged",
        }
    }
}

/// Judges what is expected of a stage by its metrics, and by those that it has in the base; either may be unknown, for a
/// reason.
pub fn judge(
    checked: &Checked,
    stage: &str,
    metrics: Result<&Metrics, &str>,
    base: Result<&Metrics, &str>,
) -> Vec<Judgement> {
    let Some(spec) = checked.recipe.stages.get(stage) else { return Vec::new() };
    let mut judgements = Vec::new();
    for (metric, expectation) in spec.expectations() {
        for bound in expectation.bounds() {
            let pointer = format!("stages.{stage}.{}.expect.{metric}.{}", spec.kind, bound.key());
            let number = |of: &Metrics, name: &str| of.get(name).and_then(serde_json::Value::as_f64);
            let figure = metrics.ok().and_then(|metrics| number(metrics, &metric));
            let of_base = |base: &Metrics| number(base, &metric).ok_or("the base has no such number");
            let against = match &bound {
                Bound::AtLeast(limit) | Bound::AtMost(limit) => Ok(Some(*limit)),
                Bound::AtLeastOf(other) | Bound::AtMostOf(other) => metrics.map(|metrics| number(metrics, other)),
                Bound::DropAtMost(_) | Bound::RiseAtMost(_) => base.and_then(of_base).map(Some),
            };
            let verdict = match (metrics, against) {
                (Err(reason), _) | (_, Err(reason)) => Verdict::NotJudged(reason.to_owned()),
                (Ok(_), Ok(against)) => match figure.zip(against) {
                    Some((figure, against)) if is_met(&bound, figure, against) => Verdict::Met,
                    _ => Verdict::Broken,
                },
            };
            let against = against.ok().flatten();
            judgements.push(Judgement {
                stage: stage.to_owned(),
                metric: metric.clone(),
                bound,
                pointer,
                figure,
                against,
                verdict,
            });
        }
    }
    // As they stand in the recipe, which doesn't keep the order of names.
    judgements.sort_by_key(|judgement| checked.span(&judgement.pointer));
    judgements
}

fn is_met(bound: &Bound, figure: f64, against: f64) -> bool {
    let slack = ROUNDING * against.abs().max(1.0);
    match bound {
        Bound::AtLeast(_) | Bound::AtLeastOf(_) => figure >= against,
        Bound::AtMost(_) | Bound::AtMostOf(_) => figure <= against,
        Bound::DropAtMost(drop) => figure >= against - drop - slack,
        Bound::RiseAtMost(rise) => figure <= against + rise + slack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_judged_by_their_difference_as_people_write_it() {
        // 0.85 - 0.845 is 0.0050000000000000044.
        assert!(is_met(&Bound::DropAtMost(0.005), 0.845, 0.85) && !is_met(&Bound::DropAtMost(0.004), 0.845, 0.85));
        assert!(is_met(&Bound::RiseAtMost(0.1), 0.4, 0.3) && !is_met(&Bound::RiseAtMost(0.1), 0.401, 0.3));
        assert!(is_met(&Bound::AtLeast(0.5), 0.5, 0.5) && !is_met(&Bound::AtMost(0.5), 0.500_000_000_1, 0.5));
        assert!(!is_met(&Bound::AtLeast(0.5), f64::NAN, 0.5));
    }
}
