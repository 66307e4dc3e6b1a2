//! How a run goes, on stderr: on a terminal a line for each running stage and one for the whole, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::console::{BARS, colour, duration, eprint_line, error_text, paint};
use crate::engine::executor::{Event, Reporter};

/// Pace of plain progress lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// How long something must have run for its end to be foretold from that.
const FORETOLD_AFTER: Duration = Duration::from_secs(2);
/// How a stage can end, in the order in which that is told.
const ENDINGS: [&str; 4] = [DONE, PAUSED, FAILED, NOT_RUN];
const DONE: &str = "done";
const PAUSED: &str = "paused";
const FAILED: &str = "failed";
const NOT_RUN: &str = "not run";
/// Columns for a stage's name, at most.
const NAME: usize = 28;

/// Tells of a run's stages.
pub(super) struct ProgressReporter {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    running: BTreeMap<String, Running>,
    /// How stages have ended: one of [`ENDINGS`].
    ended: BTreeMap<String, &'static str>,
    /// Stages in all; 0 where nobody has said.
    total: usize,
    whole: Option<ProgressBar>,
}

struct Running {
    began: Instant,
    /// Units that were done when the first ones were told, and when that was.
    first: Option<(u64, Instant)>,
    told: Instant,
    bar: ProgressBar,
}

impl Running {
    fn new() -> Self {
        let now = Instant::now();
        let bar = BARS.add(ProgressBar::no_length());
        bar.set_style(style(COUNT));
        Self { began: now, first: None, told: now, bar }
    }

    /// How long the rest will take at the pace so far.
    fn remaining(&mut self, done: u64, total: u64) -> Option<Duration> {
        let (from, since) = *self.first.get_or_insert_with(|| (done, Instant::now()));
        let taken = since.elapsed();
        let is_known = taken >= FORETOLD_AFTER && from < done && done < total;
        is_known.then(|| taken.mul_f64((total - done) as f64 / (done - from) as f64))
    }
}

impl ProgressReporter {
    pub(super) fn new() -> Self {
        Self { told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many stages are to come to an end.
    pub(super) fn expect(&self, total: usize) {
        let mut told = self.told();
        told.total = total;
        if total > 1 && !BARS.is_hidden() && told.whole.is_none() {
            let bar = BARS.add(ProgressBar::no_length());
            bar.set_style(style(WHOLE));
            told.whole = Some(bar);
        }
        told.redraw();
        if let Some(whole) = &told.whole {
            whole.enable_steady_tick(Duration::from_secs(1));
        }
    }

    /// Nothing more is to be told.
    pub(super) fn end(&self) {
        if let Some(bar) = self.told().whole.take() {
            bar.finish_and_clear();
        }
    }

    /// Something long begins.
    pub(super) fn start(&self, stage: &str) {
        let mut told = self.told();
        told.ended.remove(stage);
        told.running.insert(stage.to_owned(), Running::new());
        if let Some(whole) = told.whole.take() {
            // It stays below all others.
            BARS.remove(&whole);
            told.whole = Some(BARS.add(whole));
        }
        let width = told.running.keys().map(|name| name.width()).max().unwrap_or_default().min(NAME);
        told.running.iter().for_each(|(name, running)| running.bar.set_prefix(fitted(name, width)));
        told.redraw();
    }

    /// It's this far.
    pub(super) fn advance(&self, stage: &str, done: u64, total: u64, note: &str, remaining: Option<Duration>) {
        let mut told = self.told();
        let Some(running) = told.running.get_mut(stage) else { return };
        let foretold = running.remaining(done, total);
        let remaining = remaining.or(foretold).filter(|_| done < total);
        let left = remaining.map_or_else(String::new, |time| format!("  {} left", duration(time.as_secs_f64())));
        if !BARS.is_hidden() {
            if total > 0 && running.bar.length() != Some(total) {
                running.bar.set_length(total);
                running.bar.set_style(style(SHARE));
            }
            running.bar.set_position(done);
            running.bar.set_message(format!("{note}{left}"));
        } else if running.told.elapsed() > PLAIN_EVERY || done == total {
            running.told = Instant::now();
            let of = if total > 0 { format!("/{total}") } else { String::new() };
            eprint_line(&format!("{stage}: {done}{of} {note}{left}"));
        }
    }

    /// It has ended; gives the time it took.
    pub(super) fn stop(&self, stage: &str) -> Option<f64> {
        let mut told = self.told();
        let running = told.running.remove(stage)?;
        running.bar.finish_and_clear();
        told.redraw();
        Some(running.began.elapsed().as_secs_f64())
    }

    /// A stage has come to its end; gives what to say of the whole, where no line is kept for that.
    fn settle(&self, stage: &str, ending: &'static str) -> String {
        let mut told = self.told();
        told.ended.insert(stage.to_owned(), ending);
        told.redraw();
        if told.total > 1 && told.whole.is_none() {
            format!(" ({} of {} stages)", told.ended.len(), told.total)
        } else {
            String::new()
        }
    }
}

impl Told {
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
            Event::Figures(_) => {}
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
