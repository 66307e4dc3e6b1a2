//! Classifiers that answer together, and classifiers that teach others.

use serde_json::Value;

use crate::common::{Space, TINY, tiny};

/// The tiny recipe with a second classifier, and an eval of both.
fn two() -> Space {
    let space = tiny();
    let (before, topics) = TINY.split_once("  topics:\n").expect("a classifier");
    let (topics, test) = topics.split_once("  test:\n").expect("an eval");
    let other = topics
        .replace("{{ text }}，这是[Classification]。", "[Classification]：{{ text }}")
        .replace("epochs: 2", "epochs: 3");
    let both = "  both:\n    eval: { model: topics, ensemble: [other], data: { path: test.tsv } }\n";
    space.write("recipe.yaml", format!("{before}  topics:\n{topics}  other:\n{other}  test:\n{test}{both}"));
    space
}

/// What a model says of the test rows: each label's probability.
fn said(space: &Space, stage: &str) -> Vec<[f64; 2]> {
    let output = space.pipe(&["predict", "recipe.yaml", stage, "--file", "test.tsv", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        ["甲", "乙"].map(|label| row["probabilities"][label].as_f64().expect("a number"))
    };
    output.stdout.lines().map(row).collect()
}

#[test]
fn an_ensemble_is_the_mean_of_log_probabilities() {
    let space = two();
    let result = space.json(&["run", "recipe.yaml"]);
    let metrics = |stage: &str| result["stages"][stage]["metrics"].clone();
    let (both, alone) = (metrics("both"), metrics("test"));
    assert_eq!(both["accuracy_without_ensemble"], alone["accuracy"]);
    let gold = [0, 1].repeat(3);
    let losses = said(&space, "topics").into_iter().zip(said(&space, "other")).zip(gold).map(|((a, b), gold)| {
        let mean = [0, 1].map(|label| (a[label] * b[label]).sqrt());
        -(mean[gold] / (mean[0] + mean[1])).ln()
    });
    let losses: Vec<f64> = losses.collect();
    let expected = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((both["log_loss"].as_f64().expect("a figure") - expected).abs() < 1e-5, "{both} {expected}");
    assert_ne!(both["log_loss"], alone["log_loss"]);

    // Another member, another result; the members are what they were.
    let again = space.json(&["run", "recipe.yaml", "--set", "stages.both.ensemble=[topics]"]);
    assert_eq!(
        (&again["stages"]["both"]["status"], &again["stages"]["other"]["status"]),
        (&"ran".into(), &"hit".into())
    );
    for (set, message) in [
        ("stages.both.ensemble=[base]", "only classifiers can answer together"),
        ("stages.other.task.classification.words={甲: 体育, 丙: 美食}", "`other` tells other labels than `topics`"),
    ] {
        let output = space.pipe(&["check", "recipe.yaml", "--set", set]);
        assert_eq!(output.status, 2, "{set}");
        assert!(output.stderr.contains(message), "{set}: {}", output.stderr);
    }
}

#[test]
fn a_student_learns_what_its_teachers_say() {
    let space = two();
    let alone = space.json(&["run", "recipe.yaml", "--stage", "other"]);
    let taught = |teacher: &str| space.json(&["run", "recipe.yaml", "--stage", "other", "--set", teacher]);
    let by_model = taught("stages.other.teacher={models: [topics]}");
    assert_eq!(by_model["stages"]["topics"]["status"], "ran", "a teacher comes first");
    let key = |result: &Value| result["stages"]["other"]["key"].clone();
    assert_ne!(key(&alone), key(&by_model));
    let weights = |result: &Value| {
        let model = result["stages"]["other"]["path"].as_str().expect("a path");
        std::fs::read(space.path().join(model).join("model.safetensors")).expect("weights")
    };
    assert!(weights(&by_model) != weights(&alone));
    // Without a share in what is learned a teacher changes nothing of it.
    let ignored = taught("stages.other.teacher={models: [topics], weight: 0}");
    assert!(weights(&ignored) == weights(&alone));
    let set = "stages.other.teacher={models: [topics]}";
    let output = space.pipe(&["data", "recipe.yaml", "other", "--set", set]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    for (set, message) in [
        ("stages.other.teacher={}", "there are no teachers"),
        ("stages.other.teacher={models: [other]}", "other"),
        ("stages.other.teacher={baselines: [topics]}", "makes no baseline"),
    ] {
        let output = space.pipe(&["check", "recipe.yaml", "--set", set]);
        assert_eq!(output.status, 2, "{set}");
        assert!(output.stderr.contains(message), "{set}: {}", output.stderr);
    }
}

#[test]
fn a_linear_classifier_can_teach() {
    let space = two();
    let text = space.read("recipe.yaml");
    let own = "  ngrams:\n    linear: { data: { train: { path: train.tsv } }, columns: [text], labels: [甲, 乙] }\n";
    space.write("recipe.yaml", text + own);
    let set = "stages.other.teacher={baselines: [ngrams], temperature: 2}";
    let result = space.json(&["run", "recipe.yaml", "--stage", "other", "--set", set]);
    assert_eq!(
        (&result["stages"]["ngrams"]["status"], &result["stages"]["other"]["status"]),
        (&"ran".into(), &"ran".into())
    );
}

#[test]
fn check_counts_rows_that_are_learned() {
    let space = tiny();
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let message = "2 of 6 rows stand among the training rows of `topics`";
    assert!(output.stderr.contains(message) && output.stderr.contains("test.tsv"), "{}", output.stderr);
    // A row with another character is nearly one that is learned.
    let rows = "label\ttext\n甲\t裁判在比赛开始前把双方的队长叫到了场地的中间说话\n乙\t面条\n";
    let test = rows.replace("说话", "谈话").replace("面条", "蛋糕");
    space.write("train.tsv", rows).write("test.tsv", test);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert!(output.stderr.contains("1 of 2 rows stands nearly so among"), "{}", output.stderr);
}
