//! A training's curve as metrics by step, for reporters.

use crate::stages::metrics::TOKENS_PER_SECOND;
use crate::{
    engine::{executor::StepMetrics, store::Throughput},
    learning::train::{Curve, CurveEntry},
};

/// What an entry of a curve says; `at` is its time in seconds since 1970. Of a mix of objectives each loss has its own name.
pub(in crate::stages) fn of_entry(entry: &CurveEntry, is_mixed: bool, at: f64) -> StepMetrics {
    match entry {
        CurveEntry::Train(point) => {
            let values = [("loss", f64::from(point.loss)), ("lr", point.lr), ("grad_norm", f64::from(point.grad_norm))];
            let values = values.map(|(name, value)| (name.to_owned(), value)).into_iter();
            let losses = point.losses().filter(|_| is_mixed);
            let losses = losses.map(|(name, loss)| (part_of_loss(name), f64::from(loss)));
            StepMetrics { step: point.step, at, values: values.chain(losses).collect() }
        }
        CurveEntry::Evaluate { step, metrics } => {
            let values = metrics.iter().map(|(name, value)| (format!("dev/{name}"), *value)).collect();
            StepMetrics { step: *step, at, values }
        }
    }
}

/// What records and trackers call the loss of one objective of several.
pub(in crate::stages) fn part_of_loss(objective: &str) -> String {
    format!("loss/{objective}")
}

/// All metrics that a training has reported on its way. When that was follows from its throughput; it's `otherwise` where
/// nothing is known of that.
pub fn step_metrics(curve: &Curve, throughput: &Throughput, otherwise: f64) -> Vec<StepMetrics> {
    so_far(curve, curve.is_mixed(), throughput, otherwise)
}

/// The same of a training that goes on, which may have seen but one of its objectives.
pub(in crate::stages) fn so_far(
    curve: &Curve,
    is_mixed: bool,
    throughput: &Throughput,
    otherwise: f64,
) -> Vec<StepMetrics> {
    let time = |step: usize| throughput.time_of(step).unwrap_or(otherwise);
    let entries = curve.entries.iter().map(|entry| {
        let of_step = of_entry(entry, is_mixed, 0.0);
        StepMetrics { at: time(of_step.step), ..of_step }
    });
    let speeds = throughput.windows().iter().map(|window| {
        let values = vec![(TOKENS_PER_SECOND.name.to_owned(), window.tokens_per_second())];
        StepMetrics { step: window.step, at: window.at, values }
    });
    let mut all: Vec<_> = entries.chain(speeds).collect();
    all.sort_by_key(|metrics| metrics.step);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{engine::store::ThroughputWindow, learning::train::Point};

    fn point(step: usize, objective: &str) -> Point {
        Point { step, objective: objective.into(), loss: 0.5, lr: 1e-3, grad_norm: 2.0, parts: BTreeMap::new() }
    }

    #[test]
    fn each_loss_of_a_mix_has_its_name() {
        let parts = BTreeMap::from([("masked_lm".to_owned(), 0.25), ("next_sentence".to_owned(), 0.125)]);
        let both = Point { parts, ..point(2, "masked_lm+next_sentence") };
        let curve = Curve { entries: [point(1, "masked_lm"), both].map(CurveEntry::Train).into() };
        let found: Vec<_> = step_metrics(&curve, &Throughput::default(), 0.0)
            .into_iter()
            .flat_map(|metrics| metrics.values.into_iter().map(move |(name, value)| (metrics.step, name, value)))
            .filter(|(_, name, _)| name.starts_with("loss"))
            .collect();
        let expected = [
            (1, "loss", 0.5),
            (1, "loss/masked_lm", 0.5),
            (2, "loss", 0.5),
            (2, "loss/masked_lm", 0.25),
            (2, "loss/next_sentence", 0.125),
        ];
        assert_eq!(found, expected.map(|(step, name, value)| (step, name.to_owned(), value)));
        assert_eq!(curve.final_losses(), BTreeMap::from([("masked_lm".into(), 0.25), ("next_sentence".into(), 0.125)]));
        let alone = Curve { entries: vec![CurveEntry::Train(point(1, "masked_lm"))] };
        assert!(
            step_metrics(&alone, &Throughput::default(), 0.0)[0].values.iter().all(|(name, _)| !name.contains('/'))
        );
    }

    #[test]
    fn entries_and_speeds_come_in_the_order_of_their_steps() {
        let point = |step: usize| CurveEntry::Train(point(step, "causal_lm"));
        let measured = CurveEntry::Evaluate { step: 2, metrics: [("accuracy".to_owned(), 0.75)].into() };
        let curve = Curve { entries: vec![point(1), point(2), measured, point(3)] };
        let mut throughput = Throughput::default();
        throughput.add(ThroughputWindow { step: 2, at: 14.0, tokens: 100, seconds: 4.0 });
        let found: Vec<_> = step_metrics(&curve, &throughput, 7.0)
            .into_iter()
            .map(|metrics| (metrics.step, metrics.at, metrics.values[0].clone()))
            .collect();
        let expected = [
            (1, 12.0, ("loss", 0.5)),
            (2, 14.0, ("loss", 0.5)),
            (2, 14.0, ("dev/accuracy", 0.75)),
            (2, 14.0, ("tokens_per_second", 25.0)),
            (3, 14.0, ("loss", 0.5)),
        ];
        assert_eq!(found, expected.map(|(step, at, (name, value))| (step, at, (name.to_owned(), value))));
        assert!(step_metrics(&curve, &Throughput::default(), 7.0).iter().all(|metrics| metrics.at == 7.0));
    }
}
