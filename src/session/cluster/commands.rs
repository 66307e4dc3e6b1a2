//! Commands by which engines are talked to.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What a command said, and whether it ended well.
pub(super) struct Said {
    pub(super) out: String,
    pub(super) error: String,
    pub(super) is_well: bool,
}

/// Runs a command to its end with a text on stdin.
///
/// # Errors
/// If it can't be run.
pub(super) fn run(command: &mut Command, input: &str) -> std::io::Result<Said> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // What keeps it from being read shows in what the command says.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(Said { out: text(&output.stdout), error: text(&output.stderr), is_well: output.status.success() })
}
