//! What recipes expect of their metrics: judged on whatever there is, told with its place, and in no key.

use crate::common;
use common::{Space, TINY, tiny, with_bad_end};
use pipe::learning::metrics::{estimates, predictions::Predicted};
use quick_xml::{Reader, events::Event};
use serde_json::Value;

/// The tiny recipe with something expected of its evaluation, as `expected.yaml`.
fn expecting(space: &Space, expect: &str) {
    let eval = "eval: { model: topics, data: { path: test.tsv } }";
    let with = format!("eval: {{ model: topics, data: {{ path: test.tsv }}, expect: {expect} }}");
    assert!(TINY.contains(eval));
    space.write("expected.yaml", TINY.replace(eval, &with));
}

#[test]
fn expectations_are_in_no_key_and_judged_on_what_is_stored() {
    let space = tiny();
    let keys = |run: &Value| -> Vec<String> {
        let stages = run["stages"].as_object().expect("stages");
        stages.values().map(|stage| stage["key"].to_string()).collect()
    };
    let plain = space.json(&["run", "recipe.yaml"]);
    assert_eq!(plain["expectations"], serde_json::json!([]));
    expecting(&space, "{ accuracy: { at_most: 1, at_most_of: rows }, log_loss: { at_least: 0.0 } }");
    let met = space.json(&["run", "expected.yaml"]);
    assert_eq!(keys(&met), keys(&plain));
    assert!(met["stages"].as_object().expect("stages").values().all(|stage| stage["status"] == "hit"));
    let verdicts: Vec<_> = met["expectations"].as_array().expect("a list").iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, ["met"; 3]);

    // The same results, of which more is expected.
    expecting(&space, "{ accuracy: { at_least: 1.5, drop_at_most: 0.1 }, log_loss: { at_least: 0.0 } }");
    let output = space.pipe(&["run", "expected.yaml", "--json"]);
    assert_eq!(output.status, 3, "{}", output.stderr);
    let run: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(keys(&run), keys(&plain));
    let list = run["expectations"].as_array().expect("a list");
    let verdicts: Vec<_> = list.iter().map(|one| (one["expected"].as_str(), one["verdict"].as_str())).collect();
    let expected = [("at_least", "broken"), ("drop_at_most", "not_judged"), ("at_least", "met")];
    assert_eq!(verdicts, expected.map(|(key, verdict)| (Some(key), Some(verdict))));
    assert_eq!(list[0]["figure"], run["stages"]["test"]["metrics"]["accuracy"]);
    assert_eq!((list[0]["against"].as_f64(), list[0]["line"].as_u64()), (Some(1.5), Some(24)));
    let interval = &list[0]["interval"];
    let [low, figure, high] =
        [&interval["low"], &list[0]["figure"], &interval["high"]].map(|value| value.as_f64().expect("a number"));
    assert!(low <= figure && figure <= high && high <= 1.0, "{interval}");
    assert_eq!((&interval["of"], &interval["rows"]), (&"figure".into(), &6.into()));

    let lines: Vec<&str> = output.stderr.lines().collect();
    let carets = lines.iter().position(|line| line.contains('^')).expect("carets");
    let column = |line: &str, what: &str| line.split(what).next().map(|before| before.chars().count());
    assert_eq!(column(lines[carets], "^^^"), column(lines[carets - 1], "1.5, "), "{}", output.stderr);
    assert!(output.stderr.contains("less than 1.5000"), "{}", output.stderr);
    assert!(output.stderr.contains("1 met, 1 broken, 1 not judged (there is no base"), "{}", output.stderr);
}

#[test]
fn what_has_failed_is_a_failure_whatever_was_expected() {
    let space = tiny();
    expecting(&space, "{ accuracy: { at_least: 1.5 } }");
    // Behind what is looked at before a run.
    space.write("corpus.txt", with_bad_end(&space.read("corpus.txt")).0);
    let output = space.pipe(&["run", "expected.yaml", "--junit", "out/junit.xml"]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    let cases = cases(&space.read("out/junit.xml"));
    let results: Vec<_> = cases.iter().map(|(name, result)| (name.as_str(), result.as_str())).collect();
    assert_eq!(results[0], ("tokens", "error"), "{results:?}");
    assert_eq!(results[3..], [("test", "skipped"), ("accuracy at_least 1.5", "skipped")]);
}

#[test]
fn stored_results_are_held_against_expectations_by_check() {
    let space = tiny();
    expecting(&space, "{ accuracy: { at_least: 1.5 } }");
    let output = space.pipe(&["check", "expected.yaml", "--expect"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("`test` has no stored result"), "{}", output.stderr);
    assert!(output.stderr.contains("pipe run expected.yaml --stage test"), "{}", output.stderr);
    assert!(!space.path().join(".pipe/artifacts").exists(), "nothing is computed");

    space.json(&["run", "recipe.yaml"]);
    let output = space.pipe(&["check", "expected.yaml", "--expect", "--json", "--junit", "junit.xml"]);
    assert_eq!(output.status, 3, "{}", output.stderr);
    let checked: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(checked["expectations"][0]["verdict"], "broken");
    assert_eq!(cases(&space.read("junit.xml")).last(), Some(&("accuracy at_least 1.5".into(), "failure".into())));
    // Without the flag nothing but the recipe counts.
    assert_eq!(space.pipe(&["check", "expected.yaml"]).status, 0);

    expecting(&space, "{ accuracy: { at_least: 0 } }");
    assert_eq!(space.pipe(&["check", "expected.yaml", "--expect"]).status, 0);
    assert_eq!(space.pipe(&["check", "expected.yaml", "--junit", "junit.xml"]).status, 2);
}

#[test]
fn what_cannot_come_true_is_a_mistake_of_the_recipe() {
    let space = tiny();
    let said = |expect: &str| {
        expecting(&space, expect);
        let output = space.pipe(&["check", "expected.yaml"]);
        assert_eq!(output.status, 2, "{expect}: {}", output.stderr);
        output.stderr
    };
    let unknown = said("{ acuracy: { at_least: 0.5 } }");
    assert!(unknown.contains("no metric `acuracy` is recorded of `test`"), "{unknown}");
    assert!(unknown.contains("did you mean `accuracy`? there is") && unknown.contains("macro_f1"), "{unknown}");
    let unknown = said("{ accuracy: { at_least_of: linear_accuracy } }");
    assert!(unknown.contains("no metric `linear_accuracy` is recorded of `test`"), "{unknown}");
    assert!(said("{ accuracy: {} }").contains("nothing is expected of it"));
    assert!(said("{ accuracy: { at_least: 0.9, at_most: 0.8 } }").contains("nothing is at least 0.9 and at most 0.8"));
    assert!(said("{ accuracy: { drop_at_most: -0.1 } }").contains("drop_at_most"));
    assert!(said("{ accuracy: { above: 0.1 } }").contains("above"));
}

/// The names of JUnit's cases with what came of them, once the counts of the suites are right.
fn cases(xml: &str) -> Vec<(String, String)> {
    let mut reader = Reader::from_str(xml);
    let (mut cases, mut suites) = (Vec::new(), Vec::new());
    loop {
        let event = reader.read_event().expect("well-formed XML");
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                let attribute = |name: &str| {
                    let found = element.try_get_attribute(name).expect("attributes").expect("the attribute");
                    found.unescape_value().expect("text").into_owned()
                };
                match element.name().as_ref() {
                    b"testcase" => cases.push((attribute("name"), "passed".to_owned())),
                    b"testsuite" | b"testsuites" => {
                        suites.push(["tests", "failures", "errors", "skipped"].map(attribute));
                    }
                    other => {
                        assert!(!attribute("message").contains('\n'));
                        cases.last_mut().expect("a case").1 = String::from_utf8(other.to_vec()).expect("a tag");
                    }
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let number = |result: &str| cases.iter().filter(|(_, one)| one == result).count().to_string();
    let counts = [cases.len().to_string(), number("failure"), number("error"), number("skipped")];
    assert_eq!(suites, [counts.clone(), counts]);
    cases
}

#[test]
fn the_interval_of_a_figure_is_that_of_the_exact_distribution() {
    // 31 of 40 rows are right, so the number of right ones among 40 draws is binomial. Quantiles by
    // scipy.stats.binom(40, 31/40).ppf([0.025, 0.975]): 26 and 36.
    let row = |row: u32| Predicted {
        file: 1,
        row,
        text: format!("row {row}"),
        label: "a".into(),
        predicted: if row > 31 { "b" } else { "a" }.into(),
        loss: 0.5,
    };
    let rows: Vec<Predicted> = (1..=40).map(row).collect();
    let (name, accuracy) = estimates(&rows, 20_000, 1)[0];
    assert_eq!((name, accuracy.value), ("accuracy", 31.0 / 40.0));
    assert_eq!((accuracy.low, accuracy.high), (26.0 / 40.0, 36.0 / 40.0));
    assert!(estimates(&[], 100, 0).is_empty());
}
