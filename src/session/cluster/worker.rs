//! A job's side of a run: computes the stages of one task, as the run's plan says, and tells beside it what happens.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;

use super::{
    parts::Part,
    records::{CANCELLED, RunFolder},
    run_plan::{Results, RunPlan, RunStage},
};
use crate::{
    engine::{
        executor::{Done, Event, Launch, Local, Paused, Reporter, Watch},
        plan::reached,
        store::{DigestCache, Lost, State, Stopped, Store},
    },
    network::device,
    session::{
        Notify,
        launch::{End, Message, Report, devices},
        reading::READING,
    },
    stages::{
        DeviceCheck, Stages,
        estimate::{self, Machine},
        estimator,
    },
    support::{Hinted, program},
};

/// How often progress is written to the run's folder, which lies on a shared disk.
const SHOWN: Duration = Duration::from_secs(2);
/// How often what is told is sent to machines that share no disk with this one.
const SENT: Duration = Duration::from_secs(5);
/// How often a stage's last checkpoint is sent to them.
const STATE_SENT: Duration = Duration::from_secs(30);
/// How often a stage is taken up again that another process had taken over and left.
const ATTEMPTS: usize = 3;

/// How a task has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Worked {
    /// All its stages are in the store.
    Done,
    /// It was asked to stop, and goes on from there when it's run again.
    Again,
    /// A stage failed, and would fail again.
    Failed,
}

/// Computes a task of a run, which `remote` brings where machines have that in common alone. `reporter` is told as well; `stop`
/// pauses it as soon as it can be resumed.
///
/// # Errors
/// If nothing can be computed: the plan is another build's, or something of the run can't be read.
pub fn work(
    folder: &Path,
    batch: usize,
    task: usize,
    remote: Option<&str>,
    stop: &Arc<AtomicBool>,
    reporter: &dyn Reporter,
) -> Result<Worked> {
    let folder = RunFolder::at(folder);
    let store = Store::open(folder.store()?)?;
    let notify: Notify = Arc::new(|text: &str| tracing::warn!("{text}"));
    let folder = folder.shared_by(remote, &store, &notify)?;
    if folder.remote().is_some() {
        folder.make()?;
    }
    let Part { plan, numbers, own } = folder.part(batch, task)?;
    let build = program::build()?;
    ensure!(
        plan.build == build,
        Hinted::with(
            format!("the run {} was planned by build {}, and this is build {build}", folder.name(), plan.build),
            "without `program` in the profile the store is given the one that plans; submit it again otherwise",
        )
    );
    let worker = Worker {
        plan,
        numbers,
        store,
        digests: Mutex::new(DigestCache::default().with_reading(READING)),
        key: Mutex::new(None),
        folder,
        log: RunFolder::log_name(batch, task),
        stop,
        reporter,
    };
    let mut worked = Worked::Done;
    for stage in own {
        worker.folder.bring_file(CANCELLED)?;
        if stop.load(SeqCst) || worker.folder.is_cancelled() {
            return Ok(Worked::Again);
        }
        // What one of a group fails with is no reason to leave out the others.
        match worker.stage(stage)? {
            Worked::Again => return Ok(Worked::Again),
            Worked::Failed => worked = Worked::Failed,
            Worked::Done => {}
        }
    }
    Ok(worked)
}

struct Worker<'a> {
    plan: RunPlan,
    /// The numbers of the plan's stages in the run.
    numbers: Vec<usize>,
    store: Store,
    digests: Mutex<DigestCache>,
    /// That of the stage which is computed.
    key: Mutex<Option<String>>,
    folder: RunFolder,
    log: String,
    stop: &'a Arc<AtomicBool>,
    reporter: &'a dyn Reporter,
}

impl Worker<'_> {
    fn stage(&self, stage: usize) -> Result<Worked> {
        let id = &self.plan.stages[stage].id;
        let number = self.numbers[stage];
        let events = RunFolder::events_name(number);
        // What was told of it before is added to.
        self.folder.bring_file(&events)?;
        let report = Report::new(self.folder.events(number)?);
        let sparing = Sparing { report: &report, shown: Mutex::new(None) };
        let both: Vec<&dyn Reporter> = vec![&sparing, self.reporter];
        let result = self.telling([&events, &self.log], || self.compute(stage, &both));
        let (end, worked) = match &result {
            Ok(done) => {
                let (node, artifact) = (&self.plan.stages[stage].node, &done.artifact);
                let event = if done.computed { Event::Finished { artifact } } else { Event::Hit { node, artifact } };
                self.reporter.event(id, event);
                (End::Done { computed: done.computed }, Worked::Done)
            }
            Err(error) => {
                let is_stopped = error.is::<Paused>() || error.is::<Stopped>();
                if is_stopped {
                    self.reporter.event(id, Event::Paused { place: &error.to_string() });
                } else {
                    self.reporter.event(id, Event::Failed { error });
                }
                let is_away = self.folder.remote().is_some_and(|remote| remote.is_away());
                match is_stopped {
                    true if self.stop.load(SeqCst) => (End::Again { place: error.to_string() }, Worked::Again),
                    // Where it was to pause, that's its end.
                    true => (End::of(error), Worked::Done),
                    false if is_away => (End::Again { place: error.to_string() }, Worked::Again),
                    false => (End::of(error), Worked::Failed),
                }
            }
        };
        if worked == Worked::Again {
            self.send_state();
        }
        report.send(&Message::End(end))?;
        [&self.log, &events].into_iter().try_for_each(|file| self.folder.deliver(file))?;
        Ok(worked)
    }

    /// Does something, and meanwhile sends files that grow to machines that share no disk with this one.
    fn telling<T>(&self, files: [&str; 2], work: impl FnOnce() -> T) -> T {
        if self.folder.remote().is_none() {
            return work();
        }
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut sent, mut state_sent) = (Instant::now(), Instant::now());
                while !is_over.load(SeqCst) {
                    if state_sent.elapsed() >= STATE_SENT {
                        self.send_state();
                        state_sent = Instant::now();
                    }
                    if sent.elapsed() >= SENT {
                        sent = Instant::now();
                        for file in files {
                            // The next time, or at the end.
                            let _ = self.folder.send(file).inspect_err(|error| tracing::info!("{error:#}"));
                        }
                    }
                    std::thread::sleep(SENT / 50);
                }
            });
            // Also if it panics.
            let _over = Over(&is_over);
            work()
        })
    }

    fn results(&self) -> Results<'_> {
        Results { store: &self.store, remote: self.folder.remote().map(|remote| &**remote) }
    }

    /// Brings what a stage reads and what it needs, where machines share no disk.
    fn bring(&self, stage: usize, reporter: &dyn Reporter) -> Result<()> {
        let Some(remote) = self.folder.remote() else { return Ok(()) };
        let RunStage { id, inputs, .. } = &self.plan.stages[stage];
        remote.take(inputs)?;
        let mut known = BTreeMap::new();
        for need in self.plan.needs(stage) {
            let Some(output) = self.plan.output(need, self.results(), &mut known)? else { continue };
            if self.store.find(&output.key).ok().flatten().is_none()
                && let Some(artifact) = remote.find(&output.key)
            {
                let progress = |done, total| {
                    reporter.event(id, Event::Progress { done, total, note: "bytes fetched", remaining: None });
                };
                remote.materialise(&artifact, &|| reporter.event(id, Event::Waiting), &progress)?;
            }
        }
        Ok(())
    }

    /// Sends the last checkpoint of the stage to machines that share no disk with this one: one of them may have to go on.
    fn send_state(&self) {
        // Held until it's sent: a stage that is done has nothing left to send.
        let key = self.key.lock();
        if let (Some(remote), Some(key)) = (self.folder.remote(), key.as_ref())
            && let Some(state) = self.store.state(key)
        {
            // The next one, if it isn't taken.
            let _ = remote.send_state(key, &state).inspect_err(|error| tracing::info!("{error:#}"));
        }
    }

    /// Brings the checkpoint that another machine has sent of a stage, if it's further than what is here.
    fn bring_state(&self, key: &str) {
        let Some(remote) = self.folder.remote() else { return };
        let (here, brought) = (self.store.state(key), self.store.brought_state(key));
        let step = |state: &State| reached(state).map(|reached| reached.step);
        match remote.bring_state(key, brought.dir()) {
            Ok(_) => {
                let is_other = |here: &State| here.dir() != brought.dir();
                if here.is_some_and(|here| is_other(&here) && step(&here) >= step(&brought)) {
                    let _ = brought.clear();
                }
            }
            Err(error) => {
                tracing::warn!("{error:#}; it begins anew");
                let _ = brought.clear();
            }
        }
    }

    /// Gives what was made to the others.
    fn deliver(&self, done: &Done) -> Result<()> {
        let Some(remote) = self.folder.remote() else { return Ok(()) };
        self.key.lock().take();
        remote.insist(|| {
            // What it didn't take before is no reason not to try.
            remote.ask();
            let before = remote.finish().unpushed;
            remote.push(&done.artifact, done.computed);
            ensure!(remote.finish().unpushed == before, "{} doesn't take it", remote.url());
            remote.forget_state(&done.artifact.key);
            Ok(())
        })
    }

    fn compute(&self, stage: usize, reporter: &dyn Reporter) -> Result<Done> {
        let mut attempt = 1;
        loop {
            self.bring(stage, reporter)?;
            let task = self.plan.task(stage, self.results(), &mut BTreeMap::new())?;
            let key = task.manifest.key();
            let is_there = !task.force && self.store.find(&key).ok().flatten().is_some();
            device::keep_to(self.plan.gpu);
            let stages = Stages::new(devices(&self.plan.devices)?);
            if !is_there {
                self.check(stage, &stages)?;
                self.bring_state(&key);
            }
            *self.key.lock() = Some(key);
            let watch = Watch { stop: self.stop, reporter, digests: &self.digests };
            match Local::new(&self.store, &stages).launch(&task, watch) {
                // Whoever took it over is computing it, or has left it.
                Err(error) if error.is::<Lost>() && attempt < ATTEMPTS => attempt += 1,
                result => {
                    let done = result.map_err(|error| self.store.explain_full(error))?;
                    self.deliver(&done)?;
                    return Ok(done);
                }
            }
        }
    }

    /// Sees that a stage can be computed on this machine: the one that submitted it may have had no GPU, or less memory.
    fn check(&self, stage: usize, stages: &Stages) -> Result<()> {
        let choices = stages.choices();
        let (graph, plan) = self.plan.as_planned(stage, self.results())?;
        let Some(node) = graph.get(&self.plan.stages[stage].node.name) else { return Ok(()) };
        if let Some((_, problem)) = DeviceCheck::new(choices).problem(node, &graph, &plan)? {
            bail!(problem);
        }
        let machine = Machine::new(choices);
        if !self.plan.ignore_memory
            && let Some(lacking) = estimate::lacking(node, &machine, &estimator(&graph, &plan, &machine))
        {
            bail!(Hinted::with(lacking.message, lacking.hint));
        }
        Ok(())
    }
}

/// Says that something is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Writes events, and progress only now and then.
struct Sparing<'a, W> {
    report: &'a Report<W>,
    shown: Mutex<Option<Instant>>,
}

impl<W: Write + Send> Reporter for Sparing<'_, W> {
    fn event(&self, stage: &str, event: Event<'_>) {
        if let Event::Progress { done, total, .. } = event {
            let mut shown = self.shown.lock();
            if done < total && shown.is_some_and(|shown| shown.elapsed() < SHOWN) {
                return;
            }
            *shown = Some(Instant::now());
        }
        self.report.event(stage, event);
    }
}
