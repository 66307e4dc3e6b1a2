//! Output to the terminal: messages on stderr, results on stdout, redaction of secrets, colours.

use std::{
    cmp::Reverse,
    io::{IsTerminal, Write},
    sync::LazyLock,
};

use indicatif::MultiProgress;
use parking_lot::Mutex;

use super::exit;
use crate::{
    recipe::{Checked, Diagnostics},
    support::Hinted,
};
// With what else makes text of numbers.
pub(super) use crate::support::clock::duration;

/// The lines at the terminal's bottom that change; hidden where stderr is no terminal.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The secrets of all recipes that were read, each with the expression that is shown in its place; the longest first, since
/// a shorter one may be a part of it.
static SECRETS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// From now on, secrets of this recipe are redacted in all output, as are those of recipes before it.
pub(super) fn register_secrets(checked: &Checked) {
    let mut secrets = SECRETS.lock();
    secrets.extend_from_slice(checked.secret_values());
    secrets.sort_by(|(a, _), (b, _)| (Reverse(a.len()), a).cmp(&(Reverse(b.len()), b)));
    secrets.dedup();
}

/// A message with secrets redacted.
pub(super) fn redact(message: &str) -> String {
    SECRETS.lock().iter().fold(message.to_owned(), |message, (value, shown)| {
        if message.contains(value.as_str()) { message.replace(value.as_str(), shown) } else { message }
    })
}

/// Writes something above the bars, if there are any.
fn beside_bars(write: impl FnOnce()) {
    if BARS.is_hidden() { write() } else { BARS.suspend(write) }
}

/// Writes a line to stderr, with secrets redacted; errors writing to stderr are ignored.
pub(super) fn eprint_line(line: &str) {
    beside_bars(|| {
        let _ = writeln!(std::io::stderr().lock(), "{}", redact(line));
    });
}

/// Writes to stdout.
///
/// # Errors
/// If stdout is gone.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    });
    // What there is to print was done.
    Ok(written.inspect_err(|_| exit::work_begins())?)
}

/// Whether stderr takes colours: a terminal, and `NO_COLOR` isn't set.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && wants_colour()
}

/// Whether stdout takes colours.
pub(super) fn colour_of_results() -> bool {
    std::io::stdout().is_terminal() && wants_colour()
}

fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns for results that are laid out in lines: what `COLUMNS` says, or as many as every terminal has.
pub(super) fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.unwrap_or(80).max(40)
}

/// An error as a person reads it; a recipe's diagnostics carry their own form.
pub(super) fn error_text(error: &anyhow::Error) -> String {
    if let Some(diagnostics) = error.downcast_ref::<Diagnostics>() {
        return diagnostics.render(colour());
    }
    let mut text = format!("{} {error}", paint("error:", "31;1"));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  {} {cause}", paint("caused by:", "31")));
    }
    if let Some(hint) = Hinted::of(error).hint {
        text.push_str(&format!("\n{} {hint}", paint("hint:", "36;1")));
    }
    text
}

/// `text` in an ANSI colour where colours are wanted.
pub(super) fn paint(text: &str, code: &str) -> String {
    if colour() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A number of things, such as `1 stage` and `2 stages`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A size as a person reads it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1000 => format!("{b} B"),
        b if b < 1_000_000 => format!("{:.1} kB", b as f64 / 1e3),
        b if b < 1_000_000_000 => format!("{:.1} MB", b as f64 / 1e6),
        b => format!("{:.1} GB", b as f64 / 1e9),
    }
}
