//! `pipe report`: one file with everything in it, seen in a real browser.

use crate::common;
use std::process::Command;

use common::{Space, TINY, finish, need, needs::Need, tiny, with_bad_end};

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

/// The report of a recipe, and the lines of its last run that `pipe log` ends with.
fn last_run(space: &Space) -> (String, String) {
    assert_eq!(space.pipe(&["report", "recipe.yaml"]).status, 0);
    (space.read("recipe.html"), space.pipe(&["log", "last"]).stdout)
}

#[test]
fn the_last_run_is_told_as_its_log_tells_it() {
    let space = tiny();
    space.json(&["run", "recipe.yaml", "--set", "stages.topics.train.lr=0.002"]);
    let (page, _) = last_run(&space);
    assert!(page.contains("--set stages.topics.train.lr=0.002"), "the first stages are the same: {page}");

    space.json(&["run", "recipe.yaml"]);
    let (page, log) = last_run(&space);
    assert!(page.contains("<code>pipe run recipe.yaml</code>"), "{page}");
    for begin in ["longest: ", "critical path: "] {
        let line = log.lines().find_map(|line| line.strip_prefix(begin)).expect("a line");
        assert!(page.to_lowercase().contains(&format!("{begin}{line}.").to_lowercase()), "{line} isn't in {page}");
    }
    let saved = log.lines().find_map(|line| Some(line.split_once("; the cache saved ")?.1)).expect("what was saved");
    assert!(saved != "0 ms" && page.contains(&format!("; the cache saved {saved}.")), "{saved} isn't in {page}");
    let row = |stage: &str| {
        let (_, table) = page.split_once("id=\"run\"").expect("the table");
        table.split("<tr").find(|row| row.contains(&format!(">{stage}<"))).expect("a row").to_owned()
    };
    assert!(row("base").contains("<td>unchanged</td>") && !row("base").contains("best"), "{}", row("base"));
    assert!(row("topics").contains("<td>ran</td>") && row("topics").contains("best"), "{}", row("topics"));

    // Another recipe of that name, which shares the store but no stage.
    let other = tiny();
    other.write("corpus.txt", format!("{}更多\n", other.read("corpus.txt")));
    let store = space.path().join(".pipe");
    let output = other.pipe(&["run", "recipe.yaml", "--stage", "tokens", "--store", &store.to_string_lossy()]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(space.json(&["log"])[0]["stages"]["base"].is_null(), "that was the last run");
    assert!(last_run(&space).0.contains(&format!("; the cache saved {saved}.")));
}

#[test]
fn a_run_that_failed_is_told_with_its_error() {
    let space = tiny();
    space.write("corpus.txt", with_bad_end(&space.read("corpus.txt")).0);
    assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 1);
    let (page, _) = last_run(&space);
    assert!(page.contains("<td>failed</td>") && page.contains("UTF-8") && page.contains("tokens failed"), "{page}");
    assert!(page.contains("; failed in "), "{page}");
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
