//! A training's curve as figures for reporters.

use crate::stages::metrics::TOKENS_PER_SECOND;
use crate::{
    engine::{executor::StepMetrics, store::Pace},
    learning::train::{Curve, CurveEntry},
};

/// What an entry of a curve says; `at` is its time in seconds since 1970.
pub(in crate::stages) fn of_entry(entry: &CurveEntry, at: f64) -> StepMetrics {
    match entry {
        CurveEntry::Train(point) => {
            let values = [("loss", f64::from(point.loss)), ("lr", point.lr), ("grad_norm", f64::from(point.grad_norm))];
            StepMetrics { step: point.step, at, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
        }
        CurveEntry::Evaluate { step, metrics } => {
            let values = metrics.iter().map(|(name, value)| (format!("dev/{name}"), *value)).collect();
            StepMetrics { step: *step, at, values }
        }
    }
}

/// All that a training has told on its way. Times follow from its pace; where none is known, `otherwise` stands for it.
pub fn figures(curve: &Curve, pace: &Pace, otherwise: f64) -> Vec<StepMetrics> {
    let time = |step: usize| pace.time_of(step).unwrap_or(otherwise);
    let entries = curve.entries.iter().map(|entry| {
        let of_step = of_entry(entry, 0.0);
        StepMetrics { at: time(of_step.step), ..of_step }
    });
    let speeds = pace.stretches().iter().map(|stretch| {
        let values = vec![(TOKENS_PER_SECOND.name.to_owned(), stretch.tokens_per_second())];
        StepMetrics { step: stretch.step, at: stretch.at, values }
    });
    let mut all: Vec<_> = entries.chain(speeds).collect();
    all.sort_by_key(|figures| figures.step);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::store::Stretch, learning::train::Point};

    #[test]
    fn entries_and_speeds_come_in_the_order_of_their_steps() {
        let point = |step: usize| {
            CurveEntry::Train(Point { step, objective: "causal_lm".into(), loss: 0.5, lr: 1e-3, grad_norm: 2.0 })
        };
        let measured = CurveEntry::Evaluate { step: 2, metrics: [("accuracy".to_owned(), 0.75)].into() };
        let curve = Curve { entries: vec![point(1), point(2), measured, point(3)] };
        let mut pace = Pace::default();
        pace.add(Stretch { step: 2, at: 14.0, tokens: 100, seconds: 4.0 });
        let found: Vec<_> = figures(&curve, &pace, 7.0)
            .into_iter()
            .map(|figures| (figures.step, figures.at, figures.values[0].clone()))
            .collect();
        let expected = [
            (1, 12.0, ("loss", 0.5)),
            (2, 14.0, ("loss", 0.5)),
            (2, 14.0, ("dev/accuracy", 0.75)),
            (2, 14.0, ("tokens_per_second", 25.0)),
            (3, 14.0, ("loss", 0.5)),
        ];
        assert_eq!(found, expected.map(|(step, at, (name, value))| (step, at, (name.to_owned(), value))));
        assert!(figures(&curve, &Pace::default(), 7.0).iter().all(|figures| figures.at == 7.0));
    }
}
