//! Keeps an MLflow server up to date.
//!
//! Each stage that is computed gets a run, below that of the whole, which is made with the first of them. A run has all of
//! its training: where one resumes after its process was stopped, the run that was left is closed, and the new one begins
//! with the curve so far; where the same process resumes it, as sweeps by rungs do, its run is reopened. What comes out of
//! the store gets a run only where the server has none of the same key that finished.

use std::{
    collections::{BTreeSet, HashMap},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    api::{Access, Pair, Run, Server, var},
    message::{FAILED, FINISHED, KILLED, Message, StageInfo, has_runs},
    values::{self, METRICS, PARAMS},
};
use crate::{
    engine::{
        executor::{Ending, Outcome},
        store::{Artifact, Provenance, canonical_json, unix_time},
    },
    session::sweep::{CellResult, Status},
    support::explained,
    surface::tracking::subject::{Curves, Notify, RunEnd, Subject},
};

/// How long metrics may wait, so that many go with one call.
const EVERY: Duration = Duration::from_secs(1);

/// Tags that identify a run.
const KEY: &str = "pipe.key";
const TYPE: &str = "pipe.type";
const HOST: &str = "pipe.host";
const PARENT: &str = "mlflow.parentRunId";

pub(super) struct Worker {
    access: Access,
    subject: Subject,
    curves: Curves,
    notify: Notify,
    server: Option<Server>,
    /// The run of the whole.
    parent: Option<Run>,
    /// The runs of the stages that are being computed.
    open: HashMap<String, Open>,
    /// Those of stages that were paused, by key: a sweep may resume them.
    paused: HashMap<String, Open>,
    sent: Instant,
    /// Whether logging to the server has ended.
    is_off: bool,
}

/// An open run.
struct Open {
    run: Run,
    key: String,
    metrics: Vec<Value>,
    /// Names that have a curve.
    curves: BTreeSet<String>,
    step: i64,
    /// Metrics up to this step were logged before.
    logged: i64,
}

impl Open {
    fn add(&mut self, metrics: Vec<Value>) {
        let step = |metric: &Value| metric["step"].as_i64().unwrap_or_default();
        for metric in metrics.into_iter().filter(|metric| step(metric) > self.logged) {
            self.curves.extend(metric["key"].as_str().map(str::to_owned));
            self.step = self.step.max(step(&metric));
            self.metrics.push(metric);
        }
    }

    /// Adds what an artifact knows of itself; where that has a curve too, under a name of its own.
    fn conclude(&mut self, artifact: &Artifact, at: f64) {
        let numbers = values::numbers("", &artifact.metrics).into_iter();
        let metrics = numbers.filter_map(|(name, value)| {
            let name = if self.curves.contains(&name) { format!("final_{name}") } else { name };
            values::metric(&name, value, self.step as usize, at)
        });
        self.metrics.extend(metrics.collect::<Vec<_>>());
    }
}

impl Worker {
    pub(super) fn new(access: Access, subject: Subject, curves: Curves, notify: Notify) -> Self {
        let (open, paused, sent) = (HashMap::new(), HashMap::new(), Instant::now());
        Self { access, subject, curves, notify, server: None, parent: None, open, paused, sent, is_off: false }
    }

    /// Handles messages until the channel closes.
    pub(super) fn work(mut self, messages: &Receiver<Message>) -> Self {
        loop {
            match messages.recv_timeout(EVERY) {
                Ok(message) => self.attempt(|worker| worker.take(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sent.elapsed() >= EVERY {
                self.attempt(Self::send_all);
            }
        }
        self.attempt(Self::send_all);
        self
    }

    fn attempt(&mut self, what: impl FnOnce(&mut Self) -> Result<()>) {
        if !self.is_off
            && let Err(error) = what(self)
        {
            self.is_off = true;
            let url = self.access.url();
            (self.notify)(&format!(
                "warning: the MLflow server {url} can't be used, so this run is not logged there: {}",
                explained(&error)
            ));
        }
    }

    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Begin(stage_info, at) => {
                self.abandon(&stage_info.stage)?;
                let open = match self.paused.remove(&stage_info.key) {
                    Some(open) => self.resume(open)?,
                    None => {
                        self.bury(&stage_info.key)?;
                        self.begin(&stage_info, at)?
                    }
                };
                self.open.insert(stage_info.stage, open);
            }
            Message::Metrics { stage, metrics } => {
                if let Some(open) = self.open.get_mut(&stage) {
                    open.add(metrics);
                }
            }
            Message::End { stage, status, at, artifact } => {
                if let Some(mut open) = self.open.remove(&stage) {
                    artifact.iter().for_each(|artifact| open.conclude(artifact, at));
                    self.end(&mut open, artifact.as_deref(), status, at)?;
                    if status == KILLED {
                        self.paused.insert(open.key.clone(), open);
                    }
                }
            }
            Message::Stored(stage_info, artifact) => {
                self.abandon(&stage_info.stage)?;
                self.stored(&stage_info, &artifact)?;
            }
        }
        Ok(())
    }

    fn stored(&mut self, stage_info: &StageInfo, artifact: &Artifact) -> Result<()> {
        if self.has(&stage_info.key, FINISHED)? {
            return Ok(());
        }
        let Provenance { started, seconds, .. } = artifact.provenance;
        let mut open = self.begin(stage_info, started)?;
        open.add(values::metrics(&self.curves.of(artifact)).collect());
        open.conclude(artifact, started + seconds);
        self.end(&mut open, Some(artifact), FINISHED, started + seconds)
    }

    /// Closes a run whose stage another process has taken over.
    fn abandon(&mut self, stage: &str) -> Result<()> {
        match self.open.remove(stage) {
            Some(mut open) => self.end(&mut open, None, KILLED, unix_time()),
            None => Ok(()),
        }
    }

    /// Closes the runs that a process of this machine has left that was killed while it computed the same.
    fn bury(&mut self, key: &str) -> Result<()> {
        let left = format!("tags.`{KEY}` = '{key}' and attributes.status = 'RUNNING'");
        let host = self.subject.provenance.host.clone();
        let own = self.parent.as_ref().map(|run| run.id.clone());
        let server = self.server()?;
        for (run, tags) in server.search(&left)? {
            let tag = |name: &str| tags.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            if tag(HOST) == Some(&host) {
                server.end(&run, KILLED, unix_time())?;
                if let Some(parent) = tag(PARENT).filter(|parent| own.as_ref() != Some(parent)) {
                    server.end(parent, KILLED, unix_time())?;
                }
            }
        }
        Ok(())
    }

    /// Whether the server has a run of this key that ended so.
    fn has(&mut self, key: &str, status: &str) -> Result<bool> {
        let ended = format!("tags.`{KEY}` = '{key}' and attributes.status = '{status}'");
        Ok(!self.server()?.search(&ended)?.is_empty())
    }

    fn begin(&mut self, stage_info: &StageInfo, started: f64) -> Result<Open> {
        let tags = [
            (KEY, &*stage_info.key),
            (TYPE, "stage"),
            ("pipe.stage", &*stage_info.name),
            ("pipe.kind", &*stage_info.kind),
        ];
        let run = self.child(&stage_info.stage, started, &tags, &stage_info.params)?;
        let (metrics, curves, key) = (Vec::new(), BTreeSet::new(), stage_info.key.clone());
        Ok(Open { run, key, metrics, curves, step: 0, logged: 0 })
    }

    /// Reopens the run of a stage that was paused.
    fn resume(&mut self, open: Open) -> Result<Open> {
        self.server()?.reopen(&open.run.id)?;
        Ok(Open { logged: open.step, ..open })
    }

    fn end(&mut self, open: &mut Open, artifact: Option<&Artifact>, status: &str, at: f64) -> Result<()> {
        let tags = artifact.map(|artifact| {
            let tags = [("pipe.digest", &artifact.digest), ("pipe.device", &artifact.provenance.device)];
            tags.map(|(name, value)| (name.to_owned(), value.clone()))
        });
        let server = self.server()?;
        send(server, open)?;
        if let Some(tags) = tags {
            server.log(&open.run.id, &[], &[], &tags)?;
        }
        server.end(&open.run.id, status, at)
    }

    fn send_all(&mut self) -> Result<()> {
        self.sent = Instant::now();
        if let Some(server) = &self.server {
            self.open.values_mut().try_for_each(|open| send(server, open))?;
        }
        Ok(())
    }

    /// A run below that of the whole.
    fn child(&mut self, name: &str, started: f64, tags: &[(&str, &str)], params: &[Pair]) -> Result<Run> {
        let parent = self.parent()?.id.clone();
        let mut all = self.tags();
        all.extend(tags.iter().chain(&[(PARENT, &*parent)]).map(|(name, value)| ((*name).into(), (*value).into())));
        let server = self.server()?;
        let run = server.create(name, started, &all)?;
        log_params(server, &run, params)?;
        Ok(run)
    }

    /// The run of the whole, which is made when something is to go below it.
    fn parent(&mut self) -> Result<Run> {
        if let Some(run) = &self.parent {
            return Ok(run.clone());
        }
        let mut tags = self.tags();
        let overrides = self.subject.provenance.overrides.join(" ");
        tags.push((TYPE.into(), "recipe".into()));
        tags.extend((!overrides.is_empty()).then(|| ("pipe.overrides".into(), overrides)));
        let params: Vec<_> = self.subject.settings.iter().flat_map(|(path, value)| values::flat(path, value)).collect();
        let name = self.subject.name();
        let server = self.server()?;
        let run = server.create(&name, unix_time(), &tags)?;
        log_params(server, &run, &params)?;
        self.parent = Some(run.clone());
        Ok(run)
    }

    /// What all runs are marked with; those of `mlflow` are shown by MLflow's pages.
    fn tags(&self) -> Vec<Pair> {
        let Provenance { pipe, host, .. } = &self.subject.provenance;
        let path = self.subject.recipe.to_string_lossy();
        let user = var("USER").or_else(|| var("LOGNAME"));
        let mut tags = vec![
            ("mlflow.source.name", path.to_string()),
            ("mlflow.source.type", "LOCAL".into()),
            ("pipe.recipe", self.subject.name()),
            ("pipe.version", pipe.clone()),
            (HOST, host.clone()),
        ];
        tags.extend(user.map(|user| ("mlflow.user", user)));
        tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn server(&mut self) -> Result<&Server> {
        let server = match self.server.take() {
            Some(server) => server,
            None => {
                let experiment = var("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| self.subject.name());
                Server::open(self.access.clone(), &experiment)?
            }
        };
        Ok(self.server.insert(server))
    }

    /// Logs how the whole has ended, if anything was logged before.
    pub(super) fn finish(mut self, end: &RunEnd<'_>) {
        self.attempt(|worker| {
            let cells = end.results.map(|results| results.cells.as_slice()).unwrap_or_default();
            cells.iter().try_for_each(|cell| worker.cell(cell, end))?;
            let Some(parent) = worker.parent.clone() else { return Ok(()) };
            let stages = match (end.results, end.aim) {
                (None, _) => Some(end.outcomes),
                // The best is the first of them.
                (Some(_), Some(_)) => cells.first().map(|best| &best.stages),
                (Some(_), None) => None,
            };
            let server = worker.server()?;
            log_results(server, &parent, stages.into_iter().flatten(), unix_time())?;
            server.end(&parent.id, status(end.outcomes.values()), unix_time())
        });
        let Some(parent) = self.parent.clone().filter(|_| !self.is_off) else { return };
        let text = self.subject.provenance.recipe.clone().into_bytes();
        let recipe = format!("{}.yaml", self.subject.name());
        let uploaded = self.server().and_then(|server| {
            let page = (end.report)()?.into_bytes();
            server.upload(&parent, "report.html", "text/html; charset=utf-8", page)?;
            server.upload(&parent, &recipe, "application/yaml", text)
        });
        if let Err(error) = uploaded {
            (self.notify)(&format!(
                "warning: the report isn't among the MLflow run's artifacts: {}",
                explained(&error)
            ));
        }
    }

    /// A sweep's cell, if it has come to an end that the server doesn't know.
    fn cell(&mut self, cell: &CellResult, end: &RunEnd<'_>) -> Result<()> {
        let status = match cell.status() {
            Status::Done => FINISHED,
            Status::Failed => FAILED,
            Status::Stopped => KILLED,
            Status::Unfinished => return Ok(()),
        };
        // Of a cell that isn't there in full, not all keys are known.
        let keys: Vec<_> = cell.stages.values().map(|outcome| &outcome.key).collect();
        let Provenance { recipe, overrides, .. } = &self.subject.provenance;
        let of = if cell.good { json!([cell.overrides, keys]) } else { json!([cell.overrides, recipe, overrides]) };
        let key = blake3::hash(canonical_json(&of).as_bytes()).to_hex().to_string();
        if self.has(&key, status)? {
            return Ok(());
        }
        let made = || cell.stages.values().filter_map(|outcome| Some(&outcome.artifact.as_ref()?.provenance));
        let began = made().map(|made| made.started).fold(unix_time(), f64::min);
        let ended = made().map(|made| made.started + made.seconds).fold(began, f64::max);
        let number = cell.number.to_string();
        let tags = [(KEY, &*key), (TYPE, "cell"), ("pipe.cell", &*number), ("pipe.status", cell.status().name())];
        let aim = end.aim.map(|aim| ("pipe.objective", aim));
        let tags: Vec<_> = tags.into_iter().chain(aim).collect();
        let params: Vec<_> = cell.overrides.iter().flat_map(|(path, value)| values::flat(path, value)).collect();
        let run = self.child(&format!("cell {number}"), began, &tags, &params)?;
        let server = self.server()?;
        log_results(server, &run, &cell.stages, ended)?;
        server.end(&run.id, status, ended)
    }
}

fn send(server: &Server, open: &mut Open) -> Result<()> {
    for metrics in std::mem::take(&mut open.metrics).chunks(METRICS) {
        server.log(&open.run.id, metrics, &[], &[])?;
    }
    Ok(())
}

fn log_params(server: &Server, run: &Run, params: &[Pair]) -> Result<()> {
    params.chunks(PARAMS).try_for_each(|params| server.log(&run.id, &[], params, &[]))
}

/// The metrics of trainings and evaluations, by stage: `test.accuracy`.
fn log_results<'a>(
    server: &Server,
    run: &Run,
    stages: impl IntoIterator<Item = (&'a String, &'a Outcome)>,
    at: f64,
) -> Result<()> {
    let tracked = stages.into_iter().filter(|(_, outcome)| has_runs(&outcome.kind));
    let numbers = tracked.flat_map(|(name, outcome)| {
        let metrics = outcome.artifact.as_ref().map_or(&outcome.so_far, |artifact| &artifact.metrics);
        values::numbers(name, metrics)
    });
    let metrics: Vec<_> = numbers.filter_map(|(name, value)| values::metric(&name, value, 0, at)).collect();
    metrics.chunks(METRICS).try_for_each(|metrics| server.log(&run.id, metrics, &[], &[]))
}

/// MLflow's word for how stages ended together.
fn status<'a>(outcomes: impl Iterator<Item = &'a Outcome> + Clone) -> &'static str {
    let any = |ending: Ending| outcomes.clone().any(|outcome| outcome.ending == ending);
    match (any(Ending::Failed), any(Ending::Paused) || any(Ending::NotRun)) {
        (true, _) => FAILED,
        (false, true) => KILLED,
        (false, false) => FINISHED,
    }
}
