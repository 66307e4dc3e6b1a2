//! What the events of a run come to.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::event::{Begun, Found, Line, StageEvent, What};

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Which run it was; none if its first line is missing.
    pub begun: Option<Begun>,
    /// When it began, in seconds since 1970.
    pub at: f64,
    /// From its first line to its last one.
    pub seconds: f64,
    /// How it ended; none if it hasn't, or was killed.
    pub ended: Option<String>,
    /// The stages, in the order in which something first happened to them.
    pub stages: IndexMap<String, StageRun>,
}

/// Stages that are told to have taken longest, at most.
const LONGEST: usize = 5;

/// What became of a stage in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct StageRun {
    /// Its kind, where it got so far.
    pub kind: String,
    /// Its key, where it got so far.
    pub key: Option<String>,
    /// The stages that it needs.
    pub needs: BTreeSet<String>,
    /// `hit`, `fetched`, `ran`, `failed`, `paused` or `not_run`; `running` if that's the last that is known.
    pub ending: &'static str,
    /// Seconds of work for it: computing, and fetching its files.
    pub seconds: f64,
    /// Seconds that it took when it was computed, where it didn't have to be.
    pub saved: f64,
    /// What it failed with, how far it is, or why it wasn't run.
    pub told: Option<String>,
    /// When what is going on began.
    since: Option<f64>,
}

impl Default for StageRun {
    fn default() -> Self {
        Self {
            kind: String::new(),
            key: None,
            needs: BTreeSet::new(),
            ending: RUNNING,
            seconds: 0.0,
            saved: 0.0,
            told: None,
            since: None,
        }
    }
}

const RUNNING: &str = "running";

impl Summary {
    /// Of the lines of a file.
    pub fn of(lines: &[Line]) -> Self {
        let mut summary = Self::default();
        if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
            (summary.at, summary.seconds) = (first.at, last.at - first.at);
        }
        for Line { at, what } in lines {
            match what {
                What::Begun(begun) => summary.begun = Some(begun.clone()),
                What::Stage { id, event } => summary.stages.entry(id.clone()).or_default().happened(*at, event),
                What::Ended { how } => summary.ended = Some(how.clone()),
            }
        }
        // Of what is going on the time until the last event is known.
        for stage in summary.stages.values_mut().filter(|stage| stage.ending == RUNNING) {
            stage.stop(summary.at + summary.seconds);
        }
        summary
    }

    /// Seconds that were saved by what was there already.
    pub fn saved(&self) -> f64 {
        self.stages.values().map(|stage| stage.saved).sum()
    }

    /// How many stages ended so.
    pub fn count(&self, ending: &str) -> usize {
        self.stages.values().filter(|stage| stage.ending == ending).count()
    }

    /// The few stages that took most time, the longest first; none that took no time.
    pub fn longest(&self) -> Vec<(&str, f64)> {
        let took = self.stages.iter().filter(|(_, stage)| stage.seconds > 0.0);
        let mut stages: Vec<_> = took.map(|(id, stage)| (id.as_str(), stage.seconds)).collect();
        stages.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        stages.truncate(LONGEST);
        stages
    }

    /// The stages, each of which needs the one before it, that took longest together: however many stages had run at the
    /// same time, the run would have taken as long. Those that took no time aren't in it.
    pub fn critical_path(&self) -> Vec<(&str, f64)> {
        let mut ends: BTreeMap<&str, f64> = BTreeMap::new();
        for id in self.stages.keys() {
            self.end(id, &mut ends);
        }
        let mut path = Vec::new();
        let mut at = latest(ends.iter().map(|(id, end)| (*id, *end)));
        while let Some(id) = at.filter(|_| path.len() < self.stages.len()) {
            let Some(stage) = self.stages.get(id) else { break };
            path.push((id, stage.seconds));
            at = latest(stage.needs.iter().filter_map(|need| {
                let (need, _) = self.stages.get_key_value(need)?;
                Some((need.as_str(), *ends.get(need.as_str())?))
            }));
        }
        path.retain(|(_, seconds)| *seconds > 0.0);
        path.reverse();
        path
    }

    /// How long a stage takes with all that comes before it.
    fn end<'a>(&'a self, id: &'a str, ends: &mut BTreeMap<&'a str, f64>) -> f64 {
        if let Some(end) = ends.get(id) {
            return *end;
        }
        let Some(stage) = self.stages.get(id) else { return 0.0 };
        // Against circles, which a damaged file may have.
        ends.insert(id, 0.0);
        let before = stage.needs.iter().map(|need| self.end(need, ends)).fold(0.0, f64::max);
        ends.insert(id, before + stage.seconds);
        before + stage.seconds
    }
}

fn latest<'a>(ends: impl Iterator<Item = (&'a str, f64)>) -> Option<&'a str> {
    ends.filter(|(_, end)| *end > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(id, _)| id)
}

impl StageRun {
    /// How it ended, as people read it.
    pub fn word(&self) -> &'static str {
        match self.ending {
            "hit" => "unchanged",
            "fetched" => "in the remote",
            "not_run" => "not run",
            other => other,
        }
    }

    fn happened(&mut self, at: f64, event: &StageEvent) {
        match event {
            StageEvent::Hit(found) => self.found("hit", found),
            StageEvent::InRemote(found) => self.found("fetched", found),
            StageEvent::Started { kind, key, needs } => {
                (self.kind, self.key, self.needs) = (kind.clone(), Some(key.clone()), needs.clone());
                (self.ending, self.since) = (RUNNING, Some(at));
                // It has to be computed after all.
                self.saved = 0.0;
            }
            StageEvent::Fetching => self.since = Some(at),
            StageEvent::Fetched => self.stop(at),
            StageEvent::Finished { seconds } => {
                (self.ending, self.since) = ("ran", None);
                self.seconds += seconds;
            }
            StageEvent::Paused { place } => self.ended("paused", at, place.clone()),
            StageEvent::Failed { error } => self.ended("failed", at, error.clone()),
            StageEvent::NotRun { because, how } => self.ended("not_run", at, format!("{because} {how}")),
            StageEvent::Waiting | StageEvent::Progress { .. } | StageEvent::Note(_) => {}
        }
    }

    fn found(&mut self, ending: &'static str, Found { kind, key, needs, seconds }: &Found) {
        (self.kind, self.key, self.needs) = (kind.clone(), Some(key.clone()), needs.clone());
        (self.ending, self.since, self.saved) = (ending, None, *seconds);
    }

    fn ended(&mut self, ending: &'static str, at: f64, told: String) {
        self.stop(at);
        (self.ending, self.told) = (ending, Some(told));
    }

    fn stop(&mut self, at: f64) {
        self.seconds += self.since.take().map_or(0.0, |since| (at - since).max(0.0));
    }
}
