//! What the program may weigh, and how much of others' code it may be built from.

use std::{collections::BTreeSet, process::Command};

use crate::common::finish;

/// The most crates, this one among them, that the program with the default features is built from: those of build
/// scripts and macros too, each version on its own. Raised only in a commit that says what the new ones are for.
const CRATES: usize = 406;

/// The default features in a release build, which are what the budget is for.
#[cfg(not(any(debug_assertions, feature = "gpu")))]
#[test]
fn the_program_is_no_larger_than_its_budget() {
    /// The most bytes of the stripped program with the default features. Raised only in a commit that says what they buy.
    const BYTES: u64 = 60_000_000;
    let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_pipe")).expect("the program").len();
    assert!(bytes <= BYTES, "{bytes} bytes, and the budget is {BYTES}");
}

#[test]
fn the_program_is_built_from_no_more_crates_than_its_budget() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    command.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    // What was listed before is marked.
    let crates: BTreeSet<&str> = output.stdout.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(crates.iter().any(|name| name.starts_with("burn v")), "{}", output.stdout);
    assert!(crates.len() <= CRATES, "{} crates, and the budget is {CRATES}", crates.len());
}
