//! `pipe compare`: what differs, by how much, and how sure one may be.

use crate::common;
use common::{Space, TINY, tiny};
use pipe::learning::metrics::{Paired, predictions::Predicted};
use serde_json::{Value, json};

fn row(number: u32, predicted: &str, loss: f64) -> Predicted {
    let text = format!("row {number}");
    Predicted { file: 1, row: number, text, label: "a".into(), predicted: predicted.into(), loss }
}

/// Two models on 40 rows: the second is right where the first is wrong in 9 of them, and the other way round in 2.
fn known() -> (Vec<Predicted>, Vec<Predicted>) {
    let first = (1..=40).map(|number| row(number, if number <= 9 { "b" } else { "a" }, 0.5)).collect();
    let second = (1..=40).map(|number| row(number, if number > 38 { "b" } else { "a" }, 0.25)).collect();
    (first, second)
}

/// The distribution of the sum of 40 draws from rows of which 9 count 1, 2 count −1 and 29 nothing, worked out exactly:
/// the share at each sum from −40 on.
fn exact() -> Vec<f64> {
    let steps = [(-1_i64, 2.0 / 40.0), (0, 29.0 / 40.0), (1, 9.0 / 40.0)];
    let mut shares = vec![0.0; 81];
    shares[40] = 1.0;
    for _ in 0..40 {
        let mut next = vec![0.0; 81];
        for (at, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            for (step, chance) in steps {
                next[usize::try_from(at as i64 + step).expect("within 40 steps")] += share * chance;
            }
        }
        shares = next;
    }
    shares
}

/// The sum below which a share lies, divided by the rows.
fn quantile(shares: &[f64], share: f64) -> f64 {
    let mut total = 0.0;
    let at = shares.iter().position(|part| {
        total += part;
        total >= share
    });
    (at.expect("a share below 1") as f64 - 40.0) / 40.0
}

#[test]
fn the_interval_is_that_of_the_exact_distribution() {
    let (first, second) = known();
    let paired = Paired::new(&first, &second);
    assert_eq!((paired.rows(), paired.unpaired), (40, 0));
    let intervals = paired.intervals(20_000, 1);
    let (name, accuracy) = intervals[0];
    assert_eq!(name, "accuracy");
    let shares = exact();
    let expected = [quantile(&shares, 0.025), quantile(&shares, 0.975)];
    assert!((accuracy.difference - 7.0 / 40.0).abs() < 1e-12);
    assert!((accuracy.low - expected[0]).abs() < 1e-12 && (accuracy.high - expected[1]).abs() < 1e-12, "{accuracy:?}");
    // All losses fall by the same, so there's nothing to be unsure of.
    let (_, loss) = intervals[2];
    assert_eq!((loss.difference, loss.low, loss.high), (-0.25, -0.25, -0.25));
    // The seed decides, the order of the rows doesn't.
    assert_eq!(paired.intervals(20_000, 1), intervals);
    let mut turned = first;
    turned.reverse();
    assert_eq!(Paired::new(&turned, &second).intervals(20_000, 1), intervals);
}

#[test]
fn rows_are_paired_by_number_and_text() {
    let (mut first, second) = known();
    first[0].text = "another".into();
    let paired = Paired::new(&first[..30], &second);
    assert_eq!((paired.rows(), paired.unpaired), (29, 12));
    assert!(Paired::new(&first[..1], &second).intervals(100, 0).is_empty());
}

fn compared(space: &Space, sides: &[&str]) -> Value {
    space.json(&[&["compare"], sides].concat())
}

#[test]
fn recipes_and_keys_are_put_side_by_side() {
    let space = tiny();
    space.write("other.yaml", TINY.replace("epochs: 2", "epochs: 3"));
    let key = space.json(&["run", "recipe.yaml"])["stages"]["test"]["key"].as_str().expect("a key").to_owned();
    space.json(&["run", "other.yaml"]);
    let result = compared(&space, &["recipe.yaml", "other.yaml"]);
    let stages = result[0]["stages"].as_array().expect("stages");
    let stage = |name: &str| stages.iter().find(|stage| stage["stage"] == name).expect("a stage");
    assert_eq!(stage("base")["differences"], json!([]));
    let fields: Vec<_> = stage("topics")["differences"].as_array().expect("a list").iter().collect();
    assert_eq!(fields[0], &json!({ "field": "train.epochs", "a": "2.0", "b": "3.0" }));
    assert_eq!(stage("topics")["curves"]["b"].as_array().map(Vec::len), Some(6));
    let paired = &stage("test")["paired"];
    assert_eq!((&paired["rows"], &paired["rows_of_one_only"]), (&json!(6), &json!(0)));
    let loss = &stage("test")["metrics"]["log_loss"];
    let difference = paired["intervals"]["log_loss"]["difference"].as_f64().expect("a difference");
    let expected = loss["b"].as_f64().expect("b") - loss["a"].as_f64().expect("a");
    assert!((difference - expected).abs() < 1e-9);
    // A key stands for one run.
    let result = compared(&space, &[&key[..16], "other.yaml"]);
    assert_eq!(result[0]["stages"].as_array().map(Vec::len), Some(1));
    let output = space.pipe(&["compare", "recipe.yaml", "other.yaml"]);
    assert!(output.stdout.contains("train.epochs: 2.0 → 3.0"), "{}", output.stdout);
    assert!(output.stdout.contains("paired bootstrap over 6 rows"), "{}", output.stdout);
}

#[test]
fn runs_that_come_to_the_same_show_no_difference_but_the_setting() {
    let space = tiny();
    // A bound that no gradient reaches, so that nothing but speed and memory can differ.
    for (name, bound) in [("recipe.yaml", "1.0e6"), ("other.yaml", "2.0e6")] {
        space.write(name, TINY.replace("steps: 8,", &format!("steps: 8, max_grad_norm: {bound},")));
        space.json(&["run", name, "--stage", "base"]);
    }
    let output = space.pipe(&["compare", "recipe.yaml", "other.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let (_, base) = output.stdout.split_once("base\n").expect("the stage");
    let (differences, curves) = base.split_once("loss up to step").expect("curves");
    assert_eq!(differences.trim(), "train.max_grad_norm: 1000000.0 → 2000000.0");
    let steps: Vec<Vec<&str>> = curves.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert!(steps.len() == 8 && steps.iter().all(|step| step[..2] == step[2..]), "{curves}");
    // Speeds are there for those who ask for all that's recorded.
    let result = compared(&space, &["recipe.yaml", "other.yaml"]);
    let base = &result[0]["stages"][1];
    assert!(base["metrics"]["tokens_per_second"]["a"].is_number(), "{base}");
    assert_eq!(base["metrics"]["loss"]["difference"], 0.0);
}

#[test]
fn cells_of_a_sweep_go_by_number_and_mistakes_are_told() {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}\nsweep: {{ grid: {{ stages.topics.train.lr: [1.0e-3, 2.0e-2] }} }}\n"));
    let said = |sides: &[&str]| {
        let output = space.pipe(&[&["compare"], sides].concat());
        assert_eq!(output.status, 2);
        output.stderr
    };
    assert!(said(&["recipe.yaml:1", "recipe.yaml:2"]).contains("no stored results for recipe.yaml:1; run it first"));
    assert_eq!(space.pipe(&["sweep", "recipe.yaml"]).status, 0);
    let result = compared(&space, &["recipe.yaml:1", "recipe.yaml:2"]);
    assert_eq!(result[0]["stages"][2]["differences"][0], json!({ "field": "train.lr", "a": "0.001", "b": "0.02" }));
    assert!(said(&["recipe.yaml:1", "recipe.yaml:3"]).contains("no cell 3; it has cells 1 to 2"));
    assert!(said(&["recipe.yaml", "reecipe.yaml"]).contains("`reecipe.yaml` is neither a recipe file"));
}
