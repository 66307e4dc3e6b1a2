//! How a run goes, as a terminal shows it and as a file keeps it. `script` of util-linux makes the terminal.

use crate::common;
use std::process::Command;

use common::{
    Space, TINY, finish, need,
    needs::{Need, Needed},
    tiny,
};

/// Two trainings of one model that can run side by side, long enough to be seen.
fn two_branches() -> Space {
    let space = tiny();
    let other = TINY.split_once("  topics:").and_then(|(_, rest)| rest.split_once("  test:")).expect("a stage").0;
    let recipe = TINY.replace("  test:\n", &format!("  others:{}  test:\n", other.replace("lr: 1.0e-3", "lr: 2.0e-3")));
    space.write("recipe.yaml", recipe.replace("epochs: 2", "epochs: 400"));
    space
}

/// What a terminal of a hundred columns gets.
fn on_a_terminal(space: &Space, colours: bool) -> Needed<String> {
    let is_known = Command::new("script").arg("--version").output();
    if !is_known.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
        return Err(Need::Script.unmet("there is no `script` of util-linux"));
    }
    let run = "stty cols 100 rows 30; exec $PIPE run recipe.yaml --jobs 2";
    let mut command = Command::new("script");
    command.args(["-qec", run, "/dev/null"]).current_dir(space.path());
    command.env("PIPE", env!("CARGO_BIN_EXE_pipe")).env("TERM", "xterm").env_remove("PIPE_STORE");
    match colours {
        true => command.env_remove("NO_COLOR"),
        false => command.env("NO_COLOR", "1"),
    };
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stdout);
    Ok(output.stdout)
}

#[test]
fn a_terminal_shows_each_running_stage_and_the_whole() {
    let space = two_branches();
    let shown = need!(on_a_terminal(&space, false));
    for part in
        ["0 done, 0 running, 5 left", "2 done, 2 running, 1 left", "█", "tokens/s", "loss ", "others ", "topics "]
    {
        assert!(shown.contains(part), "{part} isn't in {shown:?}");
    }
    // Lines are drawn anew, but in no colour.
    assert!(shown.contains("\x1b[2K"), "{shown:?}");
    assert!(!shown.contains("\x1b[3") && !shown.contains("\x1b[1m"), "{shown:?}");
    let shown = on_a_terminal(&space, true).expect("a terminal");
    assert!(shown.contains("topics: \x1b[32munchanged\x1b[0m"), "{shown:?}");
}

#[test]
fn elsewhere_there_are_plain_lines_with_how_far_the_whole_is() {
    let output = two_branches().pipe(&["run", "recipe.yaml", "--jobs", "2"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(!output.stderr.contains(['\x1b', '\r']), "{}", output.stderr);
    for (number, name) in ["tokens", "base"].into_iter().enumerate() {
        let line = output.stderr.lines().find(|line| line.starts_with(&format!("{name}: done in "))).expect("a line");
        assert!(line.ends_with(&format!("({} of 6 stages)", number + 1)), "{line}");
    }
    assert!(output.stderr.contains("(6 of 6 stages)"), "{}", output.stderr);
}
