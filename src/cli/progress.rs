//! Talk on stderr: progress bars on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    executor::{Event, Reporter},
    recipe::{Checked, Diagnostics},
};

/// Pace of plain progress lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// The recipe whose secrets must not be said.
static RECIPE: OnceLock<Checked> = OnceLock::new();

/// From now on, secrets of this recipe are left out of all that's said.
pub(super) fn hush(checked: &Checked) {
    let _ = RECIPE.set(checked.clone());
}

/// A message without secrets.
pub(super) fn hushed(message: &str) -> String {
    RECIPE.get().map_or_else(|| message.to_owned(), |recipe| recipe.scrub(message))
}

/// Writes a line to stderr; that stderr is gone is nobody's problem.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", hushed(line));
}

/// Writes to stdout.
///
/// # Errors
/// If stdout is gone.
pub(super) fn put(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Whether stderr takes colours: a terminal, and `NO_COLOR` isn't set.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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

/// Seconds as a person reads them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.0} ms", s * 1000.0),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

/// Tells of a run's stages on stderr.
pub(super) struct Talk {
    bars: Option<MultiProgress>,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Talk {
    pub(super) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, running: Mutex::default() }
    }

    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(hushed(line));
            }
            None => say(line),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something long begins.
    pub(super) fn start(&self, stage: &str) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::no_length().with_prefix(stage.to_owned()));
            bar.set_style(style(COUNT));
            bar
        });
        let now = Instant::now();
        self.running().insert(stage.to_owned(), Running { began: now, told: now, bar });
    }

    /// It's this far.
    pub(super) fn advance(&self, stage: &str, done: u64, total: u64, note: &str, remaining: Option<Duration>) {
        let mut running = self.running();
        let Some(running) = running.get_mut(stage) else { return };
        let remaining = remaining.filter(|_| done < total);
        let left = remaining.map_or_else(String::new, |time| format!("  {} left", duration(time.as_secs_f64())));
        if let Some(bar) = &running.bar {
            if total > 0 && bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(style(SHARE));
            }
            bar.set_position(done);
            bar.set_message(format!("{note}{left}"));
        } else if running.told.elapsed() > PLAIN_EVERY || done == total {
            running.told = Instant::now();
            let of = if total > 0 { format!("/{total}") } else { String::new() };
            say(&format!("{stage}: {done}{of} {note}{left}"));
        }
    }

    /// It has ended; gives the time it took.
    pub(super) fn stop(&self, stage: &str) -> Option<f64> {
        let running = self.running().remove(stage)?;
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        Some(running.began.elapsed().as_secs_f64())
    }
}

/// Bar of a stage whose end isn't known, and of one whose end is.
const COUNT: &str = "{prefix:.bold} {pos} {msg}";
const SHARE: &str = "{prefix:.bold} {bar:24} {pos}/{len} {msg}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Reporter for Talk {
    fn event(&self, stage: &str, event: Event<'_>) {
        match event {
            Event::Hit { artifact, .. } => {
                self.line(&format!("{stage}: {} {}", paint("unchanged", "32"), &artifact.key[..12]));
            }
            Event::InRemote { artifact, .. } => {
                self.line(&format!("{stage}: {} {}", paint("in the remote", "32"), &artifact.key[..12]));
            }
            Event::Fetching => {
                self.start(stage);
                self.line(&format!("{stage}: fetching its files"));
            }
            Event::Fetched => {
                self.stop(stage);
            }
            Event::Waiting => self.line(&format!("{stage}: being computed elsewhere; waiting")),
            Event::Started { node, .. } => {
                self.start(stage);
                self.line(&format!("{stage}: {}", node.stage.kind()));
            }
            Event::Progress { done, total, note, remaining } => self.advance(stage, done, total, note, remaining),
            Event::Figures(_) => {}
            Event::Note(note) => self.line(&format!("{stage}: {note}")),
            Event::Finished { artifact } => {
                let seconds = self.stop(stage).unwrap_or(artifact.provenance.seconds);
                self.line(&format!("{stage}: {} in {}", paint("done", "32"), duration(seconds)));
            }
            Event::Paused { place } => {
                self.stop(stage);
                self.line(&format!("{stage}: {place}"));
            }
            Event::Failed { error } => {
                self.stop(stage);
                self.line(&format!("{stage}: {}", error_text(error)));
            }
            Event::NotRun { because, how } => self.line(&format!("{stage}: not run, since `{because}` {how}")),
        }
    }
}
