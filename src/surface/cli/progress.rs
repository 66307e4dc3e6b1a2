//! Progress of a run on stderr: on a terminal a line for each running stage and one for the whole, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::{Mutex, MutexGuard};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::console::{BARS, colour, duration, eprint_line, error_text, paint};
use crate::engine::executor::{Event, Reporter};

/// Interval of plain progress lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// How long something must have run before its remaining time is estimated.
const ESTIMATE_AFTER: Duration = Duration::from_secs(2);
/// How a stage can end, in the order in which that is state.
const ENDINGS: [&str; 4] = [DONE, PAUSED, FAILED, NOT_RUN];
const DONE: &str = "done";
const PAUSED: &str = "paused";
const FAILED: &str = "failed";
const NOT_RUN: &str = "not run";
/// Columns for a stage's name, at most.
const NAME: usize = 28;

/// Reports a run's stages.
pub(super) struct ProgressReporter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<String, Running>,
    /// How stages have ended: one of [`ENDINGS`].
    ended: BTreeMap<String, &'static str>,
    /// Stages in all; 0 where unknown.
    total: usize,
    whole: Option<ProgressBar>,
}

struct Running {
    began: Instant,
    /// Units done at the first report, and its time.
    first: Option<(u64, Instant)>,
    printed: Instant,
    bar: ProgressBar,
}

impl Running {
    fn new() -> Self {
        let now = Instant::now();
        let bar = BARS.add(ProgressBar::no_length());
        bar.set_style(style(COUNT));
        Self { began: now, first: None, printed: now, bar }
    }

    /// How long the rest will take at the pace so far.
    fn remaining(&mut self, done: u64, total: u64) -> Option<Duration> {
        let (from, since) = *self.first.get_or_insert_with(|| (done, Instant::now()));
        let taken = since.elapsed();
        let is_known = taken >= ESTIMATE_AFTER && from < done && done < total;
        is_known.then(|| taken.mul_f64((total - done) as f64 / (done - from) as f64))
    }
}

impl ProgressReporter {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// So many stages are to come to an end.
    pub(super) fn expect(&self, total: usize) {
        let mut state = self.state();
        state.total = total;
        if total > 1 && !BARS.is_hidden() && state.whole.is_none() {
            let bar = BARS.add(ProgressBar::no_length());
            bar.set_style(style(WHOLE));
            state.whole = Some(bar);
        }
        state.redraw();
        if let Some(whole) = &state.whole {
            whole.enable_steady_tick(Duration::from_secs(1));
        }
    }

    /// Nothing more is to be state.
    pub(super) fn end(&self) {
        if let Some(bar) = self.state().whole.take() {
            bar.finish_and_clear();
        }
    }

    /// Something long begins.
    pub(super) fn start(&self, stage: &str) {
        let mut state = self.state();
        state.ended.remove(stage);
        state.running.insert(stage.to_owned(), Running::new());
        if let Some(whole) = state.whole.take() {
            // It stays below all others.
            BARS.remove(&whole);
            state.whole = Some(BARS.add(whole));
        }
        let width = state.running.keys().map(|name| name.width()).max().unwrap_or_default().min(NAME);
        state.running.iter().for_each(|(name, running)| running.bar.set_prefix(fitted(name, width)));
        state.redraw();
    }

    /// It's this far.
    pub(super) fn advance(&self, stage: &str, done: u64, total: u64, note: &str, remaining: Option<Duration>) {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(stage) else { return };
        let estimated = running.remaining(done, total);
        let remaining = remaining.or(estimated).filter(|_| done < total);
        let left = remaining.map_or_else(String::new, |time| format!("  {} left", duration(time.as_secs_f64())));
        if !BARS.is_hidden() {
            if total > 0 && running.bar.length() != Some(total) {
                running.bar.set_length(total);
                running.bar.set_style(style(SHARE));
            }
            running.bar.set_position(done);
            running.bar.set_message(format!("{note}{left}"));
        } else if running.printed.elapsed() > PLAIN_EVERY || done == total {
            running.printed = Instant::now();
            let of = if total > 0 { format!("/{total}") } else { String::new() };
            eprint_line(&format!("{stage}: {done}{of} {note}{left}"));
        }
    }

    /// It has ended; gives the time it took.
    pub(super) fn stop(&self, stage: &str) -> Option<f64> {
        let mut state = self.state();
        let running = state.running.remove(stage)?;
        running.bar.finish_and_clear();
        state.redraw();
        Some(running.began.elapsed().as_secs_f64())
    }

    /// A stage has come to its end; gives the progress of the whole, where there is no bar for that.
    fn settle(&self, stage: &str, ending: &'static str) -> String {
        let mut state = self.state();
        state.ended.insert(stage.to_owned(), ending);
        state.redraw();
        if state.total > 1 && state.whole.is_none() {
            format!(" ({} of {} stages)", state.ended.len(), state.total)
        } else {
            String::new()
        }
    }
}

impl State {
    fn redraw(&self) {
        if let Some(whole) = &self.whole {
            let (ended, running) = (self.ended.len(), self.running.len());
            let left = self.total.saturating_sub(ended + running);
            let number = |ending: &str| self.ended.values().filter(|found| **found == ending).count();
            let endings = ENDINGS.map(|ending| (number(ending), ending)).into_iter();
            let endings = endings.filter(|(number, ending)| *number > 0 || *ending == DONE);
            let endings: String = endings.map(|(number, ending)| format!("{number} {ending}, ")).collect();
            whole.set_message(format!("{endings}{running} running, {left} left"));
        }
    }
}

/// The line of a stage whose end isn't known, of one whose end is, and of the whole.
const COUNT: &str = "{prefix} {pos} {wide_msg}";
const SHARE: &str = "{prefix} {bar:24} {pos}/{len} {wide_msg}";
const WHOLE: &str = "{msg}  {elapsed}";

fn style(template: &str) -> ProgressStyle {
    let template = if colour() { template.replace("{prefix}", "{prefix:.bold}") } else { template.to_owned() };
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A name in so many columns; of a longer one the end, where the cells of a sweep differ.
fn fitted(name: &str, width: usize) -> String {
    let mut columns = name.width();
    if columns <= width {
        return format!("{name}{}", " ".repeat(width - columns));
    }
    let mut rest = name.chars();
    while columns >= width
        && let Some(character) = rest.next()
    {
        columns -= character.width().unwrap_or_default();
    }
    format!("…{}{}", rest.as_str(), " ".repeat(width - columns - 1))
}

impl Reporter for ProgressReporter {
    fn event(&self, stage: &str, event: Event<'_>) {
        let line = |text: &str| eprint_line(&format!("{stage}: {text}"));
        match event {
            Event::Hit { artifact, .. } => {
                self.settle(stage, DONE);
                line(&format!("{} {}", paint("unchanged", "32"), &artifact.key[..12]));
            }
            Event::InRemote { artifact, .. } => {
                self.settle(stage, DONE);
                line(&format!("{} {}", paint("in the remote", "32"), &artifact.key[..12]));
            }
            Event::Fetching => {
                self.start(stage);
                line("fetching its files");
            }
            Event::Fetched => {
                self.stop(stage);
            }
            Event::Waiting => line("being computed elsewhere; waiting"),
            Event::Started { node, .. } => {
                self.start(stage);
                line(&node.kind);
            }
            Event::Progress { done, total, note, remaining } => self.advance(stage, done, total, note, remaining),
            Event::Metrics(_) => {}
            Event::Note(note) => line(note),
            Event::Finished { artifact } => {
                let seconds = self.stop(stage).unwrap_or(artifact.provenance.seconds);
                let of = self.settle(stage, DONE);
                line(&format!("{} in {}{of}", paint("done", "32"), duration(seconds)));
            }
            Event::Paused { place } => {
                self.stop(stage);
                self.settle(stage, PAUSED);
                line(place);
            }
            Event::Failed { error } => {
                self.stop(stage);
                self.settle(stage, FAILED);
                line(&error_text(error));
            }
            Event::NotRun { because, how } => {
                self.settle(stage, NOT_RUN);
                line(&format!("not run, since `{because}` {how}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_columns() {
        assert_eq!(fitted("base", 6), "base  ");
        assert_eq!(fitted("topics (cell 12)", 10), "…(cell 12)");
        assert_eq!(fitted("话题 (cell 3)", 10), "… (cell 3)");
        assert_eq!(fitted("话题话题", 6), "…话题 ");
    }
}
