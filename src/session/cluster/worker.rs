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
    records::RunFolder,
    run_plan::{Results, RunPlan},
};
use crate::{
    engine::{
        executor::{Done, Event, Launch, Local, Paused, Reporter, Watch},
        remote::Remote,
        store::{DigestCache, Lost, Stopped, Store},
    },
    session::{
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
    let remote = remote.map(|url| Remote::open(url, &store, |text: &str| tracing::warn!("{text}"))).transpose()?;
    remote.iter().for_each(Remote::ask);
    let folder = folder.shared_by(remote.map(Arc::new));
    folder.bring_task(batch)?;
    let plan = folder.plan()?;
    let own = program::build()?;
    ensure!(
        plan.build == own,
        Hinted::with(
            format!("the run {} was planned by build {}, and this is build {own}", folder.name(), plan.build),
            "without `program` in the profile the store is given the one that plans; submit it again otherwise",
        )
    );
    let numbers = folder.stages_of(batch, task)?;
    let worker = Worker {
        plan,
        store,
        digests: Mutex::new(DigestCache::default().with_reading(READING)),
        folder,
        log: format!("log/{batch}-{task}.log"),
        stop,
        reporter,
    };
    let mut worked = Worked::Done;
    for number in numbers {
        if stop.load(SeqCst) || worker.folder.is_cancelled() {
            return Ok(Worked::Again);
        }
        // What one of a group fails with is no reason to leave out the others.
        match worker.stage(number)? {
            Worked::Again => return Ok(Worked::Again),
            Worked::Failed => worked = Worked::Failed,
            Worked::Done => {}
        }
    }
    Ok(worked)
}

struct Worker<'a> {
    plan: RunPlan,
    store: Store,
    digests: Mutex<DigestCache>,
    folder: RunFolder,
    log: String,
    stop: &'a Arc<AtomicBool>,
    reporter: &'a dyn Reporter,
}

impl Worker<'_> {
    fn stage(&self, number: usize) -> Result<Worked> {
        let id = &self.plan.stages[number].id;
        let events = format!("events/{number}.jsonl");
        // What was told of it before is added to.
        self.folder.bring_file(&events)?;
        let report = Report::new(self.folder.events(number)?);
        let sparing = Sparing { report: &report, shown: Mutex::new(None) };
        let both: Vec<&dyn Reporter> = vec![&sparing, self.reporter];
        let result = self.telling([&events, &self.log], || self.compute(number, &both));
        let (end, worked) = match &result {
            Ok(done) => {
                let (node, artifact) = (&self.plan.stages[number].node, &done.artifact);
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
                // Where it was to pause, that's its end.
                let is_asked = is_stopped && self.stop.load(SeqCst);
                match (is_asked, is_stopped) {
                    (true, _) => (End::Again { place: error.to_string() }, Worked::Again),
                    (false, true) => (End::of(error), Worked::Done),
                    (false, false) => (End::of(error), Worked::Failed),
                }
            }
        };
        report.send(&Message::End(end))?;
        self.folder.send(&events)?;
        self.folder.send(&self.log)?;
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
                let mut sent = Instant::now();
                while !is_over.load(SeqCst) {
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
    fn bring(&self, number: usize, reporter: &dyn Reporter) -> Result<()> {
        let Some(remote) = self.folder.remote() else { return Ok(()) };
        let stage = &self.plan.stages[number];
        for file in &stage.inputs {
            remote.take(file, &self.store.root().join(&file.path))?;
        }
        let mut known = BTreeMap::new();
        for need in self.plan.needs(number) {
            let Some(output) = self.plan.output(need, self.results(), &mut known)? else { continue };
            if self.store.find(&output.key)?.is_none()
                && let Some(artifact) = remote.find(&output.key)
            {
                let progress = |done, total| {
                    let event = Event::Progress { done, total, note: "bytes fetched", remaining: None };
                    reporter.event(&stage.id, event);
                };
                remote.materialise(&artifact, &|| reporter.event(&stage.id, Event::Waiting), &progress)?;
            }
        }
        Ok(())
    }

    /// Gives what was made to the others.
    fn deliver(&self, done: Done) -> Result<Done> {
        if let Some(remote) = self.folder.remote() {
            remote.push(&done.artifact, done.computed);
            ensure!(remote.finish().unpushed == 0, "{} doesn't take it", remote.url());
        }
        Ok(done)
    }

    fn compute(&self, number: usize, reporter: &dyn Reporter) -> Result<Done> {
        let mut attempt = 1;
        loop {
            self.bring(number, reporter)?;
            let task = self.plan.task(number, self.results(), &mut BTreeMap::new())?;
            let is_there = !task.force && self.store.find(&task.manifest.key()).ok().flatten().is_some();
            let stages = Stages::new(devices(&self.plan.devices)?);
            if !is_there {
                self.check(number, &stages)?;
            }
            let watch = Watch { stop: self.stop, reporter, digests: &self.digests };
            match Local::new(&self.store, &stages).launch(&task, watch) {
                // Whoever took it over is computing it, or has left it.
                Err(error) if error.is::<Lost>() && attempt < ATTEMPTS => attempt += 1,
                result => {
                    return result.map_err(|error| self.store.explain_full(error)).and_then(|done| self.deliver(done));
                }
            }
        }
    }

    /// Sees that a stage can be computed on this machine: the one that submitted it may have had no GPU, or less memory.
    fn check(&self, number: usize, stages: &Stages) -> Result<()> {
        let choices = stages.choices();
        let (graph, plan) = self.plan.as_planned(number, self.results())?;
        let Some(node) = graph.get(&self.plan.stages[number].node.name) else { return Ok(()) };
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
