//! The metrics of classifiers and language models, against values worked out by hand.

use pipe::learning::metrics::calibration::BINS;
use pipe::learning::metrics::language::perplexity;
use pipe::learning::metrics::{
    Calibration, Classification, Confusion, LanguageReport, LanguageTally, Scored, majority,
};

fn close(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-9, "{left} is not {right}");
}

/// Measures rows given as gold class and probabilities.
fn measure(classes: usize, rows: &[(usize, &[f32])]) -> Option<Classification> {
    let rows: Vec<Scored> = (1..)
        .zip(rows)
        .map(|(row, &(gold, probabilities))| Scored { file: 1, row, text: "", gold, probabilities })
        .collect();
    Classification::measure(classes, rows.iter())
}

#[test]
fn figures_of_a_small_set_are_exact() {
    let metrics = measure(
        3,
        &[
            (0, &[0.5, 0.25, 0.25]),
            (0, &[0.25, 0.5, 0.25]),
            (1, &[0.25, 0.5, 0.25]),
            (1, &[0.25, 0.5, 0.25]),
            (2, &[0.5, 0.25, 0.25]),
        ],
    )
    .unwrap();
    close(metrics.accuracy, 3.0 / 5.0);
    assert_eq!(metrics.confusion.counts(), [[1, 1, 0], [0, 2, 0], [1, 0, 0]]);
    // Class 0: 1 found, 1 missed, 1 false; class 1: 2 found, 1 false; class 2: nothing found.
    let precision: Vec<_> = metrics.per_class.iter().map(|class| class.precision).collect();
    assert_eq!(precision, [Some(0.5), Some(2.0 / 3.0), None]);
    let recall: Vec<_> = metrics.per_class.iter().map(|class| class.recall).collect();
    assert_eq!(recall, [Some(0.5), Some(1.0), Some(0.0)]);
    let f1: Vec<_> = metrics.per_class.iter().map(|class| class.f1).collect();
    assert_eq!(f1, [Some(0.5), Some(0.8), Some(0.0)]);
    assert_eq!(metrics.per_class.iter().map(|class| class.support).collect::<Vec<_>>(), [2, 2, 1]);
    close(metrics.macro_f1, (0.5 + 0.8 + 0.0) / 3.0);
    // Three rows at a half and two at a quarter: (3·ln 2 + 2·2·ln 2) / 5.
    close(metrics.log_loss, 7.0 / 5.0 * 2.0_f64.ln());
    // All confidences are 0.5, all in one bin with accuracy 0.6.
    close(metrics.calibration.error, 0.1);
}

#[test]
fn no_rows_have_no_figures() {
    assert_eq!(measure(2, &[]), None);
    assert_eq!(Confusion::count(2, []).accuracy(), None);
    assert_eq!(Confusion::count(2, []).macro_f1(), None);
    assert_eq!(Calibration::measure([]), None);
}

#[test]
fn classes_that_never_occur_stay_out_of_the_mean() {
    let confusion = Confusion::count(4, [(0, 0), (1, 1), (1, 0)]);
    let per_class = confusion.per_class();
    assert_eq!((per_class[2].precision, per_class[2].recall, per_class[2].f1), (None, None, None));
    // F1 of class 0 is 2·1 / (1 + 2), of class 1 2·1 / (2 + 1).
    close(confusion.macro_f1().unwrap(), 2.0 / 3.0);
}

#[test]
fn a_class_absent_from_gold_counts_when_it_is_predicted() {
    let confusion = Confusion::count(2, [(0, 0), (0, 1)]);
    let class = &confusion.per_class()[1];
    assert_eq!((class.precision, class.recall, class.f1, class.support), (Some(0.0), None, Some(0.0), 0));
    close(confusion.macro_f1().unwrap(), (2.0 / 3.0 + 0.0) / 2.0);
}

#[test]
fn a_certain_mistake_has_a_finite_loss() {
    let metrics = measure(2, &[(0, &[0.0, 1.0])]).unwrap();
    close(metrics.log_loss, 15.0 * 10.0_f64.ln());
}

#[test]
fn equal_probabilities_predict_the_first_label_and_nan_none() {
    let predicted = |probabilities| Scored { file: 1, row: 1, text: "", gold: 0, probabilities }.predicted();
    assert_eq!(predicted(&[0.5, 0.5]), 0);
    assert_eq!(predicted(&[f32::NAN, 0.1]), 1);
    let diverged = measure(2, &[(0, &[f32::NAN, f32::NAN])]).unwrap();
    assert!(diverged.log_loss.is_finite() && diverged.calibration.error.is_finite());
}

#[test]
fn confidences_fall_into_bins_closed_above() {
    let third = 1.0 / 3.0;
    let rows = [(third, true), (third, false), (0.35, true), (1.0, true), (0.0, false)];
    let calibration = Calibration::measure(rows).unwrap();
    assert_eq!(calibration.bins.len(), BINS);
    let rows: Vec<u64> = calibration.bins.iter().map(|bin| bin.rows).collect();
    assert_eq!(rows, [1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(calibration.bins[4].accuracy, Some(0.5));
    close(calibration.bins[4].up_to, third);
    assert_eq!(calibration.bins[1].accuracy, None);
    // Gaps by bin: 0, 2·(1/2 − 1/3), 1 − 0.35, 0.
    close(calibration.error, (2.0 * (0.5 - third) + 0.65) / 5.0);
}

#[test]
fn the_majority_is_the_most_frequent_training_label() {
    assert_eq!(majority(3, [2, 1, 2, 0]), 2);
    assert_eq!(majority(3, [2, 1, 1, 2]), 1);
    assert_eq!(majority(3, []), 0);
}

#[test]
fn perplexity_is_the_exponential_of_the_mean_loss() {
    close(perplexity(30.0 * 8.0_f64.ln(), 30).unwrap(), 8.0);
    assert_eq!(perplexity(0.0, 0), None);
}

#[test]
fn a_language_report_leaves_leaked_documents_out() {
    let mut report = LanguageReport::default();
    let document =
        |nll, masked_correct| LanguageTally { documents: 1, nll, tokens: 10, correct: 5, masked_correct, masked: 4 };
    report.add(&document(10.0 * 2.0_f64.ln(), 4), true);
    report.add(&document(30.0 * 2.0_f64.ln(), 1), false);
    let metrics = report.metrics();
    close(metrics["perplexity"].as_f64().unwrap(), 4.0);
    close(metrics["perplexity_without_leaks"].as_f64().unwrap(), 8.0);
    close(metrics["token_accuracy"].as_f64().unwrap(), 0.5);
    close(metrics["masked_accuracy"].as_f64().unwrap(), 5.0 / 8.0);
    close(metrics["masked_accuracy_without_leaks"].as_f64().unwrap(), 1.0 / 4.0);
    assert_eq!(metrics["leaked_documents"], 1);
    assert_eq!(metrics["tokens"], 20);
}
