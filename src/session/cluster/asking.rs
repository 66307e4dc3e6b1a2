//! Asks the engine for jobs whose results haven't come, and does what is to be done about those that have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    ends::{Attempt, Decision, decide, last_lines},
    engine::{Job, State, Which},
    follow::{Follower, NONE, Stage, beginning},
    records::RunFolder,
};
use crate::{
    engine::executor::{Ending, Event},
    session::launch::End,
    support::Hinted,
};

/// How many times longer the pause between two questions is while nothing happens.
const IDLE: u32 = 3;
/// After how many pauses nothing happens.
const STILL: u32 = 10;
/// For how many pauses a job may wait until it's told why.
const LONG: u32 = 30;
/// How often a job may be missing, or ended without a result, when the engine is asked, until it's believed.
const LOOKS: u32 = 2;

impl Follower<'_> {
    /// Asks the engine for what hasn't come, in one question.
    pub(super) fn ask(&mut self) -> Result<()> {
        let pause = Duration::from_secs(self.plan.profile.ask);
        let every = if self.changed.elapsed() > STILL * pause { IDLE * pause } else { pause };
        let is_open = |stage: &Stage| stage.outcome.is_none() && stage.at.is_some();
        if self.asked.is_some_and(|asked| asked.elapsed() < every) || !self.stages.iter().any(is_open) {
            return Ok(());
        }
        // The first time something may just have been submitted.
        let is_first =
            self.asked.replace(Instant::now()).is_none() && self.batches.iter().all(|known| known.id.is_some());
        if is_first {
            return Ok(());
        }
        let Some(jobs) = self.cluster.jobs(&beginning(&self.folder)) else {
            self.tell("the engine doesn't answer; jobs go on meanwhile".into());
            return Ok(());
        };
        self.find_lost_batches(&jobs)?;
        // What came between the last look and the answer.
        self.look_at_store()?;
        let jobs: BTreeMap<(&str, usize), &Job> = jobs.iter().map(|job| ((job.id.as_str(), job.task), job)).collect();
        // Where one stage of a task was stopped, those after it haven't begun.
        let stopped: BTreeSet<(usize, usize)> = self
            .stages
            .iter()
            .filter(|stage| {
                matches!(stage.end, Some(End::Again { .. } | End::Lost | End::Busy | End::InputLost { .. }))
            })
            .filter_map(|stage| stage.at)
            .collect();
        for number in 0..self.stages.len() {
            let Some((batch, task)) = self.stages[number].at.filter(|_| self.stages[number].outcome.is_none()) else {
                continue;
            };
            let Some(id) = self.batches[batch].id.clone() else { continue };
            let state = match jobs.get(&(id.as_str(), task)).map(|job| job.state.clone()) {
                // Ray keeps one that waits until it could begin; it computes nothing then.
                Some(State::Waiting(_)) if self.folder.is_cancelled() && !self.stages[number].has_started => {
                    Some(State::Cancelled)
                }
                state => state,
            };
            if state.as_ref().is_some_and(State::is_open) {
                self.stages[number].looks = 0;
                self.wait(number, state.as_ref(), LONG * pause);
                continue;
            }
            self.stages[number].looks += 1;
            if let Some(artifact) = self.elsewhere(number, !self.plan.stages[number].force) {
                self.settle_with(number, Ending::Ran, artifact);
                continue;
            }
            if self.stages[number].looks >= LOOKS && self.held.is_some() {
                self.ended(number, (batch, task), &id, state, stopped.contains(&(batch, task)))?;
            }
        }
        Ok(())
    }

    /// Tells why a job waits that has waited for long, for it may be for ever.
    fn wait(&mut self, number: usize, state: Option<&State>, long: Duration) {
        let stage = &mut self.stages[number];
        let Some(State::Waiting(reason)) = state.filter(|_| !stage.has_started) else {
            stage.waits = None;
            return;
        };
        if stage.waits.get_or_insert_with(Instant::now).elapsed() >= long {
            let id = &self.plan.stages[number].id;
            let text = format!("the job of `{id}` has waited for {} s: {reason}", long.as_secs());
            self.tell_of(format!("waits: {reason}"), &text);
        }
    }

    /// Finds batches by their names of which it isn't known whether they were taken.
    fn find_lost_batches(&mut self, jobs: &[Job]) -> Result<()> {
        for number in 0..self.batches.len() {
            if self.batches[number].id.is_some() {
                continue;
            }
            let known = &mut self.batches[number];
            let id = jobs.iter().find(|job| job.batch == known.record.name).map(|job| job.id.clone());
            known.looks += 1;
            if id.is_none() && known.looks < LOOKS {
                // It may be on its way.
                continue;
            }
            let id = id.unwrap_or_else(|| {
                let lost = self.stages.iter_mut().filter(|stage| stage.at.is_some_and(|(batch, _)| batch == number));
                lost.for_each(|stage| stage.at = None);
                NONE.to_owned()
            });
            if self.held.is_some() {
                self.folder.name_batch(number, &id)?;
            }
            self.batches[number].id = Some(id);
        }
        Ok(())
    }

    /// Does what is to be done about a job that ended and left no result.
    fn ended(&mut self, number: usize, at: (usize, usize), id: &str, state: Option<State>, again: bool) -> Result<()> {
        // Asked only where it tells more: some sites don't like it.
        let is_asked = matches!(state, None | Some(State::OutOfMemory));
        let remembered = if is_asked { self.cluster.remembered(id, at.1) } else { None };
        let state = state.or_else(|| remembered.as_ref().map(|(state, _)| state.clone()));
        let planned = &self.plan.stages[number];
        let has_needs = self.needs[number].iter().all(|need| self.outputs.contains_key(need));
        let stage = &mut self.stages[number];
        if !has_needs && !stage.has_started {
            // It waited for a job that is submitted again; it will be, too.
            stage.at = None;
            return if let Some(State::Never(_)) = state {
                self.cluster.cancel(&[Which::Task(id.to_owned(), at.1)])
            } else {
                Ok(())
            };
        }
        let reached = stage.progress.map_or(0, |(done, _)| done);
        let attempt = Attempt {
            before: stage.attempts,
            advanced: reached > stage.before,
            place: stage.progress.map(|(done, total)| format!("{done} of {total}")),
            longer: stage.longer,
            again,
            resources: planned.resources.clone(),
            estimate: planned.estimate,
            used: remembered.and_then(|(_, used)| used),
        };
        match decide(state.as_ref(), &attempt) {
            Decision::Again(longer, why) => {
                (stage.attempts, stage.longer, stage.before) = (stage.attempts + 1, longer, reached);
                (stage.at, stage.end) = (None, None);
                self.reporter.event(&planned.id, Event::Note(&why));
            }
            Decision::Fail(told) => {
                if let Some(State::Never(_)) = state {
                    self.cluster.cancel(&[Which::Task(id.to_owned(), at.1)])?;
                }
                let _ = self.folder.bring_file(&RunFolder::log_name(at.0, at.1));
                let lines = last_lines(&self.folder.log(at.0, at.1)).or_else(|| self.cluster.last_words(id, at.1));
                let Hinted { message, hint } = told;
                let message =
                    lines.map_or(message.clone(), |lines| format!("{message}; the job's last lines:\n{lines}"));
                self.fail(number, &anyhow!(Hinted { message, hint }));
            }
        }
        Ok(())
    }
}
