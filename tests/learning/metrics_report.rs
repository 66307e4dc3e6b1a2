//! The report on a classifier: what it counts, its text, and the predictions' file.

use std::collections::HashSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt32Type};
use fs_err as fs;
use insta::assert_snapshot;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipe::{
    learning::metrics::{EvalReport, Leaks, Scored, predictions, render},
    support::text_hash,
};

const TRAINING: [(&str, usize); 3] = [("球队赢了比赛", 0), ("进球", 0), ("股票大涨", 1)];

/// Row 2 is leaked, rows 4 and 5 are predicted wrong.
const ROWS: [Scored<'static>; 5] = [
    Scored { file: 1, row: 1, text: "球队输了比赛", gold: 0, probabilities: &[0.75, 0.25] },
    Scored { file: 1, row: 2, text: "股票大涨", gold: 1, probabilities: &[0.25, 0.75] },
    Scored { file: 1, row: 3, text: "进 球", gold: 0, probabilities: &[0.5, 0.5] },
    Scored {
        file: 1,
        row: 4,
        text: "大盘跌了，\n股票还要不要拿着，请各位有经验的老股民说说看",
        gold: 1,
        probabilities: &[0.75, 0.25],
    },
    Scored { file: 1, row: 5, text: "比赛", gold: 0, probabilities: &[0.125, 0.875] },
];

fn labels() -> Vec<String> {
    ["体育", "财经"].map(String::from).to_vec()
}

fn leaks(rows: &[Scored]) -> Leaks {
    let seen: HashSet<u64> = TRAINING.iter().map(|(text, _)| text_hash(text)).collect();
    Leaks::find(rows.iter().map(|row| (row.text, row.gold)), &seen)
}

fn report(rows: &[Scored]) -> EvalReport {
    EvalReport::new(&labels(), rows, &TRAINING, &leaks(rows), None).unwrap()
}

#[test]
fn metrics_have_their_promised_names_and_values() {
    let metrics = report(&ROWS).metrics();
    assert_eq!(metrics["accuracy"], 0.6);
    assert_eq!(metrics["majority_accuracy"], 0.6);
    assert_eq!(metrics["naive_bayes_accuracy"], 1.0);
    assert_eq!(metrics["rows"], 5);
    assert_eq!(metrics["leaked_rows"], 1);
    assert_eq!(metrics["accuracy_without_leaks"], 0.5);
    assert_eq!(metrics["majority_accuracy_without_leaks"], 0.75);
    let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
    let mut told = EvalReport::METRICS;
    told.sort_unstable();
    assert_eq!(names, told, "what recipes are checked against");
    assert_eq!(
        names,
        [
            "accuracy",
            "accuracy_without_leaks",
            "contradictory_rows",
            "duplicate_rows",
            "expected_calibration_error",
            "expected_calibration_error_without_leaks",
            "leaked_rows",
            "log_loss",
            "log_loss_without_leaks",
            "macro_f1",
            "macro_f1_without_leaks",
            "majority_accuracy",
            "majority_accuracy_without_leaks",
            "naive_bayes_accuracy",
            "naive_bayes_accuracy_without_leaks",
            "rows",
        ]
    );
}

#[test]
fn a_report_survives_json() {
    let report = report(&ROWS);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<EvalReport>(&json).unwrap(), report);
}

#[test]
fn a_linear_classifier_stands_beside_the_model() {
    let predicted = [0, 1, 0, 1, 1];
    let report = EvalReport::new(&labels(), &ROWS, &TRAINING, &leaks(&ROWS), Some(&predicted)).unwrap();
    let metrics = report.metrics();
    assert_eq!((metrics["linear_accuracy"].as_f64(), metrics["linear_accuracy_without_leaks"].as_f64()), (Some(0.8), Some(0.75)));
    // sklearn.metrics.f1_score([0, 1, 0, 1, 0], [0, 1, 0, 1, 1], average="macro"), and without row 2.
    let near = |name: &str, expected: f64| assert!((metrics[name].as_f64().unwrap() - expected).abs() < 1e-12, "{name}");
    near("linear_macro_f1", 0.8);
    near("linear_macro_f1_without_leaks", 0.7333333333333334);
    assert_eq!(metrics.len(), EvalReport::METRICS.len() + EvalReport::LINEAR_METRICS.len());
    let text = render::metrics(&report);
    assert!(text.lines().next().is_some_and(|head| head.contains("model   linear   naive Bayes")), "{text}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<EvalReport>(&json).unwrap(), report);
    assert!(EvalReport::new(&labels(), &ROWS, &TRAINING, &leaks(&ROWS), Some(&[0])).is_err());
}

#[test]
fn where_every_row_leaked_the_figures_without_leaks_are_null() {
    let report = report(&ROWS[1..2]);
    assert!(report.metrics()["accuracy_without_leaks"].is_null());
    assert!(render::metrics(&report).contains("no row"), "{}", render::metrics(&report));
}

#[test]
fn rows_that_do_not_fit_are_refused_by_number() {
    let fails = |rows: &[Scored]| EvalReport::new(&labels(), rows, &TRAINING, &leaks(rows), None).unwrap_err().to_string();
    assert_eq!(fails(&[]), "there are no rows to evaluate");
    assert_eq!(fails(&[Scored { gold: 2, ..ROWS[0] }]), "row 1: label 2 out of 2");
    assert_eq!(fails(&[Scored { probabilities: &[1.0], ..ROWS[4] }]), "row 5: 1 probabilities for 2 labels");
}

#[test]
fn the_report_is_readable_in_a_terminal() {
    assert_snapshot!(render::metrics(&report(&ROWS)), @r"
                                    model   naive Bayes   majority
    ───────────────────────────────────────────────────────────────
     all 5 rows
       accuracy                    60.0 %       100.0 %     60.0 %
       macro F1                    58.3 %       100.0 %     37.5 %
       log-loss                    0.9468
       calibration error           32.5 %
     4 rows not seen in training
       accuracy                    50.0 %       100.0 %     75.0 %
       macro F1                    33.3 %       100.0 %     42.9 %
       log-loss                    1.1116
       calibration error           46.9 %
    1 row (20.0 %) also in what the model was trained on
    ");
}

#[test]
fn predictions_are_the_same_bytes_each_time_and_worst_errors_first() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        predictions::write(&path, &labels(), &ROWS, &leaks(&ROWS).leaked).unwrap();
        path
    };
    let path = write("first.parquet");
    assert_eq!(fs::read(&path).unwrap(), fs::read(write("second.parquet")).unwrap());

    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap().into_file()).unwrap();
    let batches: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["file", "row", "text", "label", "predicted", "correct", "p_体育", "p_财经", "loss", "leaked"]);
    let column = |name| batch.column_by_name(name).unwrap();
    assert_eq!(column("file").as_primitive::<UInt32Type>().values(), &[1, 1, 1, 1, 1]);
    assert_eq!(column("row").as_primitive::<UInt32Type>().values(), &[5, 4, 3, 1, 2]);
    assert_eq!(column("p_财经").as_primitive::<Float32Type>().values(), &[0.875, 0.25, 0.5, 0.25, 0.75]);
    let predicted: Vec<_> = column("predicted").as_string::<i32>().iter().flatten().collect();
    assert_eq!(predicted, ["财经", "体育", "体育", "体育", "财经"]);
    let flags = |name| column(name).as_boolean().iter().flatten().collect::<Vec<bool>>();
    assert_eq!(flags("correct"), [false, false, true, true, true]);
    assert_eq!(flags("leaked"), [false, false, false, false, true]);
}
