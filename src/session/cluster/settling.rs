//! What has become of stages, for reporters and for those that need them.

use std::time::Instant;

use super::{follow::Follower, run_plan::Output};
use crate::engine::{
    executor::{Ending, Event, Outcome},
    store::{Artifact, Metrics},
};

impl Follower<'_> {
    /// The stage before one that keeps it from running.
    pub(super) fn failed_need(&self, number: usize) -> Option<usize> {
        let is_bad = |need: &usize| self.stages[*need].outcome.as_ref().is_some_and(|outcome| !outcome.is_good());
        self.needs[number].iter().copied().find(is_bad)
    }

    pub(super) fn leave_out(&mut self, number: usize, need: &usize) {
        let (id, because) = (self.plan.stages[number].id.clone(), self.plan.stages[*need].id.clone());
        let is_paused = self.stages[*need].outcome.as_ref().is_some_and(|outcome| outcome.ending == Ending::Paused);
        let how = if is_paused { "was paused" } else { "failed" };
        self.reporter.event(&id, Event::NotRun { because: &because, how });
        let kind = &self.plan.stages[number].node.kind;
        let outcome = Outcome::without_artifact(kind, Ending::NotRun, format!("`{because}` {how}"));
        self.settle(number, outcome);
    }

    pub(super) fn settle_with(&mut self, number: usize, ending: Ending, artifact: Artifact) {
        let planned = &self.plan.stages[number];
        let (id, node) = (&planned.id, &planned.node);
        match ending {
            Ending::Hit => self.reporter.event(id, Event::Hit { node, artifact: &artifact }),
            _ => self.reporter.event(id, Event::Finished { artifact: &artifact }),
        }
        self.outputs.insert(number, Output { key: artifact.key.clone(), digest: artifact.digest.clone() });
        let outcome = Outcome {
            key: Some(artifact.key.clone()),
            seconds: if ending == Ending::Ran { artifact.provenance.seconds } else { 0.0 },
            artifact: Some(artifact),
            error: None,
            ..Outcome::without_artifact(&node.kind, ending, String::new())
        };
        self.settle(number, outcome);
    }

    pub(super) fn pause(&mut self, number: usize, place: String, so_far: Metrics) {
        let planned = &self.plan.stages[number];
        self.reporter.event(&planned.id, Event::Paused { place: &place });
        let outcome = Outcome { so_far, ..Outcome::without_artifact(&planned.node.kind, Ending::Paused, place) };
        self.settle(number, outcome);
    }

    pub(super) fn fail(&mut self, number: usize, error: &anyhow::Error) {
        let planned = &self.plan.stages[number];
        self.reporter.event(&planned.id, Event::Failed { error });
        let outcome = Outcome::without_artifact(&planned.node.kind, Ending::Failed, crate::support::explained(error));
        self.settle(number, outcome);
    }

    fn settle(&mut self, number: usize, outcome: Outcome) {
        let stage = &mut self.stages[number];
        let key = outcome.key.clone().or(stage.key.clone());
        stage.outcome = Some(Outcome { key, ..outcome });
        self.changed = Instant::now();
    }
}
