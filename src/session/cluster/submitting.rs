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
        let pause = REFUSED * Duration::from_secs(self.plan.profile.ask);
        if self.refused.is_some_and(|refused| refused.elapsed() < pause) {
            return Ok(());
        }
        loop {
            let ready: Vec<Ready> = (0..self.stages.len()).filter_map(|number| self.ready(number, ahead)).collect();
            if ready.is_empty() {
                return Ok(());
            }
            let most = self.cluster.most_tasks();
            for batch in together(ready, self.plan.profile.group, most) {
                if !self.offer(batch)? {
                    return Ok(());
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

    /// Offers a batch to the engine; gives whether more can be offered.
    fn offer(&mut self, batch: Together) -> Result<bool> {
        let number = self.batches.len();
        let key = batch.tasks.values().flatten().find_map(|stage| self.stages[*stage].key.clone());
        let key = key.map_or_else(String::new, |key| format!("-{}", &key[..8]));
        let name = format!("{}{number}{key}", beginning(&self.folder));
        let place = Place { name: &name, folder: self.folder.path(), number, program: &self.program };
        let script = batch.script(&*self.cluster, place, self.plan.profile.throttle);
        let record =
            BatchRecord { name: name.clone(), tasks: batch.tasks, longer: batch.shape.longer, at: unix_time() };
        // What is noted first is found again, whenever this process ends.
        self.folder.add_batch(&record, number)?;
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
            Ok(_) => Ok(true),
            Err(Refusal::Full(said)) => {
                self.refused = Some(Instant::now());
                self.tell(format!("no more jobs are taken at the moment, so the rest waits: {said}"));
                Ok(false)
            }
            Err(Refusal::Away(said)) => {
                self.refused = Some(Instant::now());
                self.tell(format!("the engine doesn't answer, which is waited for: {said}"));
                Ok(false)
            }
            Err(Refusal::Never(said)) => {
                let error = Hinted::with(format!("its job isn't taken: {said}"), "the profile says what is asked for");
                stages.into_iter().for_each(|stage| self.fail(stage, &anyhow!(error.clone())));
                Ok(true)
            }
        }
    }
}
