//! Learning rates, against numbers worked out by hand.

use pipe::{learning::train::LrSchedule, spec};

fn rates(kind: spec::Schedule, warmup: usize, min_ratio: f64) -> Vec<f64> {
    let schedule = LrSchedule { kind, peak: 1e-3, warmup, steps: 8, min_ratio };
    (0..8).map(|step| schedule.rate(step)).collect()
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected * 1e-3).abs() < 1e-9, "{found} instead of {expected}e-3");
    }
}

#[test]
fn linear_rises_from_zero_and_falls_towards_zero() {
    let expected = [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25];
    assert_near(&rates(spec::Schedule::Linear, 4, 0.0), &expected);
}

#[test]
fn cosine_falls_along_half_a_wave() {
    let expected = [0.0, 0.25, 0.5, 0.75, 1.0, 0.853_553_39, 0.5, 0.146_446_61];
    assert_near(&rates(spec::Schedule::Cosine, 4, 0.0), &expected);
}

#[test]
fn constant_stays_after_the_warm_up() {
    assert_near(&rates(spec::Schedule::Constant, 2, 0.0), &[0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn without_warm_up_the_first_step_has_the_peak() {
    assert_near(&rates(spec::Schedule::Linear, 0, 0.0)[..2], &[1.0, 0.875]);
}

#[test]
fn the_floor_is_a_share_of_the_peak() {
    assert_near(&rates(spec::Schedule::Linear, 4, 0.2)[4..], &[1.0, 0.8, 0.6, 0.4]);
}

#[test]
fn a_share_of_warm_up_is_rounded_up() {
    let train: spec::Train =
        serde_json::from_value(serde_json::json!({ "lr": 1e-3, "warmup_ratio": 0.1, "steps": 25 })).unwrap();
    assert_eq!(LrSchedule::new(&train, 25).warmup, 3);
}
