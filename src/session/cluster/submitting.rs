//! Submits what can run. What is offered to the engine is noted before, so that it's found again whenever this process ends.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    batches::{Place, Ready, Shape, Together, together},
    engine::Refusal,
    follow::{Follower, Known, NONE, beginning, lock_name},
    records::BatchRecord,
};
use crate::{engine::store::unix_time, support::Hinted};

/// How many questions' time it's waited until a batch is offered again that wasn't taken.
const REFUSED: u32 = 3;

/// What has become of a batch that was offered.
enum Offered {
    /// It was taken, or never will be.
    Settled,
    /// It's too much at the moment.
    Full,
    /// It isn't known whether it was taken.
    Away,
}

impl Follower<'_> {
    /// Whether it's this process that submits.
    pub(super) fn takes_over(&mut self) -> Result<bool> {
        if self.held.is_none()
            && let Some(left) = self.watch.look()?
        {
            self.held = self.store.hold(&lock_name(&self.folder), &left)?;
        }
        if self.held.is_none() && self.told.insert("another".into()) {
            (self.notify)("another process follows this run already; this one only looks on");
        }
        Ok(self.held.is_some() && !self.folder.is_cancelled())
    }

    /// Submits what can run: stages whose needs are there, and if `ahead` those whose needs are submitted.
    pub(super) fn submit(&mut self, ahead: bool) -> Result<()> {
        let ahead = ahead && self.cluster.has_order();
        let pause = REFUSED * Duration::from_secs(self.plan.profile.ask);
        if self.refused.is_some_and(|refused| refused.elapsed() < pause) {
            return Ok(());
        }
        'all: loop {
            let ready: Vec<Ready> = (0..self.stages.len()).filter_map(|number| self.ready(number, ahead)).collect();
            if ready.is_empty() {
                return Ok(());
            }
            let most = self.cluster.most_tasks().min(self.most);
            for batch in together(ready, self.plan.profile.group, most) {
                let size = batch.tasks.len();
                match self.offer(batch)? {
                    Offered::Settled => self.most = self.most.saturating_mul(2),
                    // What is too large as a whole may be taken in parts.
                    Offered::Full if size > 1 => {
                        self.most = size / 2;
                        continue 'all;
                    }
                    Offered::Full | Offered::Away => {
                        self.refused = Some(Instant::now());
                        return Ok(());
                    }
                }
            }
        }
    }

    fn ready(&self, number: usize, ahead: bool) -> Option<Ready> {
        let (stage, planned) = (&self.stages[number], &self.plan.stages[number]);
        if stage.outcome.is_some() || stage.at.is_some() || planned.stored.is_some() {
            return None;
        }
        let mut after = BTreeSet::new();
        for need in self.needs[number].iter().copied() {
            if self.outputs.contains_key(&need) {
                continue;
            }
            let (batch, task) = self.stages[need].at.filter(|_| ahead)?;
            after.insert((self.batches[batch].id.clone().filter(|id| id != NONE)?, task));
        }
        let shape = Shape { resources: planned.resources.clone(), estimate: planned.estimate, longer: stage.longer };
        Some(Ready { stage: number, shape, after })
    }

    /// Offers a batch to the engine.
    fn offer(&mut self, batch: Together) -> Result<Offered> {
        let number = self.batches.len();
        let key = batch.tasks.values().flatten().find_map(|stage| self.stages[*stage].key.clone());
        let key = key.map_or_else(String::new, |key| format!("-{}", &key[..8]));
        let run = beginning(&self.folder);
        let name = format!("{run}{number}{key}");
        let folder = self.plan.profile.folder(self.folder.path());
        let remote = self.plan.profile.remote.as_deref();
        let place = Place { name: &name, run: &run, folder: &folder, remote, number, program: &self.program };
        let script = batch.script(&*self.cluster, place, self.plan.profile.throttle);
        let record =
            BatchRecord { name: name.clone(), tasks: batch.tasks, longer: batch.shape.longer, at: unix_time() };
        // What is noted first is found again, whenever this process ends.
        self.folder.add_batch(&record, number, &self.plan, &self.needs)?;
        let submitted = self.cluster.submit(&script);
        tracing::info!(batch = name, tasks = record.tasks.len(), ?submitted, "offered a batch");
        let id = match &submitted {
            Ok(id) => Some(id.clone()),
            Err(Refusal::Away(_)) => None,
            Err(_) => Some(NONE.to_owned()),
        };
        id.iter().try_for_each(|id| self.folder.name_batch(number, id))?;
        if !matches!(submitted, Err(Refusal::Full(_) | Refusal::Never(_))) {
            for (task, stages) in &record.tasks {
                for &stage in stages {
                    let stage = &mut self.stages[stage];
                    (stage.at, stage.looks) = (Some((number, *task)), 0);
                }
            }
        }
        let stages: Vec<usize> = record.tasks.values().flatten().copied().collect();
        self.batches.push(Known { record, id, looks: 0 });
        match submitted {
            Ok(_) => Ok(Offered::Settled),
            Err(Refusal::Full(said)) => {
                self.tell(format!("no more jobs are taken at the moment, so the rest waits: {said}"));
                Ok(Offered::Full)
            }
            Err(Refusal::Away(said)) => {
                self.tell(format!("the engine doesn't answer, which is waited for: {said}"));
                Ok(Offered::Away)
            }
            Err(Refusal::Never(said)) => {
                let error = Hinted::with(format!("its job isn't taken: {said}"), "the profile says what is asked for");
                stages.into_iter().for_each(|stage| self.fail(stage, &anyhow!(error.clone())));
                Ok(Offered::Settled)
            }
        }
    }
}
