//! `pipe report`: one file with everything in it, seen in a real browser.

use crate::common;
use std::process::Command;

use common::{Space, TINY, finish, need, needs::Need, tiny};

const SWEEP: &str = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-3, 5.0e-2]
    stages.topics.train.schedule: [linear, constant]
  maximize: stages.test.metrics.macro_f1
";

fn reported(recipe: &str) -> (Space, String) {
    let space = tiny();
    space.write("recipe.yaml", recipe);
    // The same text under both labels, so that it's among the errors whatever the model says.
    let text = "<script>alert('球')</script> & 赢";
    space.write("test.tsv", format!("label\ttext\n甲\t{text}\n乙\t{text}\n甲\t面的汤\n乙\t进球\n"));
    let command = if recipe.contains("sweep:") { "sweep" } else { "run" };
    assert_eq!(space.pipe(&[command, "recipe.yaml"]).status, 0);
    let output = space.pipe(&["report", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let page = space.read("recipe.html");
    (space, page)
}

#[test]
fn a_report_needs_nothing_but_itself_and_escapes_all_text() {
    let (_space, page) = reported(TINY);
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert("));
    for part in ["Evaluation: test", "Training: base", "Training: topics", "Confusion", "Worst errors", "Provenance"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("<desc>").count());
}

#[test]
fn a_recipe_that_was_not_run_has_a_report_of_its_stages() {
    let space = tiny();
    assert_eq!(space.pipe(&["report", "recipe.yaml", "-o", "out.html"]).status, 0);
    let page = space.read("out.html");
    assert!(page.contains("not run") && page.contains("Nothing of this recipe is stored yet."), "{page}");
}

#[test]
fn a_browser_shows_all_parts_of_a_sweeps_report_without_complaint() {
    let (space, page) = reported(&format!("{TINY}{SWEEP}"));
    assert!(page.contains("id=\"parallel\""));
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let browser = need!(found.ok_or_else(|| Need::Chromium.unmet(format!("none of {} is here", names.join(", ")))));
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--enable-logging=stderr", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("file://{}", space.path().join("recipe.html").display()));
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(!output.stderr.contains("CONSOLE"), "{}", output.stderr);
    let dom = output.stdout;
    // One plot against the numeric setting, three curves for each trained model, calibration, graph, coordinates.
    for (part, count) in [
        ("class=\"against\"", 1),
        ("class=\"loss\"", 2),
        ("class=\"rate\"", 2),
        ("class=\"speed\"", 2),
        ("class=\"heat\"", 1),
        ("id=\"graph\"", 1),
        ("id=\"parallel\"", 1),
        ("<svg", 10),
    ] {
        assert_eq!(dom.matches(part).count(), count, "{part}");
    }
}
