//! Needs that aren't met are told and noted, or fail where they're required.

use std::process::Command;

use crate::common::{Output, finish, need, parity::fixture};

/// Run by the others in processes of their own.
#[test]
#[ignore = "a part of the others"]
fn wants_a_fixture_that_is_nowhere() {
    need!(fixture("nowhere"));
    unreachable!("the test has ended");
}

/// What comes of the test above, and what it notes.
fn run(required: &str) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("needs");
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["needs::wants_a_fixture_that_is_nowhere", "--exact", "--ignored"]);
    command.env("PIPE_NEEDS_FILE", &file).env("PIPE_REQUIRE", required);
    (finish(command), std::fs::read_to_string(file).unwrap_or_default())
}

#[test]
fn a_need_that_is_not_met_is_told_and_noted() {
    for required in ["", "mlflow, s3"] {
        let (output, noted) = run(required);
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        let test = "cli::needs::wants_a_fixture_that_is_nowhere";
        let why = "there are no fixtures of nowhere";
        assert!(output.stderr.contains(&format!("need not met: parity: {why} ({test})\n")), "{}", output.stderr);
        assert_eq!(noted, format!("parity\t{test}\t{why}\n"));
    }
}

#[test]
fn a_need_that_is_required_fails_the_test() {
    for (required, said) in [
        ("all", "PIPE_REQUIRE wants parity: there are no fixtures of nowhere"),
        ("s3,parity", "PIPE_REQUIRE wants parity: there are no fixtures of nowhere"),
        ("pariti", "PIPE_REQUIRE names `pariti`, which no test needs"),
    ] {
        let (output, noted) = run(required);
        assert_eq!((output.status, noted.as_str()), (101, ""), "{required}");
        assert!(output.stdout.contains(said) || output.stderr.contains(said), "{}{}", output.stdout, output.stderr);
    }
}
