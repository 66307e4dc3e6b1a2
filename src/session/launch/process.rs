//! Stages computed in a process of their own each, `pipe stage`: it reads the job from its stdin, and reports on its stdout.
//! Its stdin is also how it's stopped: where that ends, it pauses as soon as it can be resumed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;

use super::{
    launcher::{Launcher, Setup, StageJob},
    wire::{End, Message, Report},
};
use crate::{
    engine::{
        executor::{Done, Launch, Local, Task, Watch},
        store::{DigestCache, Store},
    },
    network::device::{DeviceChoice, DeviceChoices, environment, gpu},
    session::reading::READING,
    stages::Stages,
    support::{Hinted, Named, program},
};

/// How long nothing may be heard of a stage that a GPU computes; `PIPE_PATIENCE` says other seconds.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often it's looked whether the stage is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// In a process for each stage.
pub(super) struct InAChild;

impl Named for InAChild {
    fn name(&self) -> &'static str {
        "process"
    }
}

impl Launcher for InAChild {
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a> {
        Box::new(Children { setup })
    }
}

struct Children<'a> {
    setup: Setup<'a>,
}

impl Launch for Children<'_> {
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done> {
        let job = serde_json::to_string(&self.setup.job(task)?)?;
        // So that the other process needn't read the files again.
        watch.digests.lock().save();
        let mut child = Kept(spawn(&program::path()?, self.setup.store.root())?);
        let pid = child.0.id();
        tracing::info!(stage = task.id, pid, "launched a process");
        let mut stdin = child.0.stdin.take().context("the process has no stdin")?;
        // What keeps it from being read shows in how the process ends.
        let _ = writeln!(stdin, "{job}");
        let mut stdin = Some(stdin);
        let lines = lines(BufReader::new(child.0.stdout.take().context("the process has no stdout")?));
        let mut end = None;
        let (mut heard, patience) = (Instant::now(), patience());
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    heard = Instant::now();
                    let message = serde_json::from_str::<Message>(&line);
                    let message = message.with_context(|| format!("unexpected output of the process: {line}"))?;
                    end = message.notify(&task.node, &task.id, watch.reporter).or(end);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if heard.elapsed() > patience && self.setup.stages.choices().first.is_gpu() {
                        // `child` ends with this.
                        bail!(silence(patience));
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if watch.stop.load(Ordering::SeqCst) && stdin.take().is_some() {
                tracing::info!(stage = task.id, pid, "asked the process to stop");
            }
        }
        let status = child.0.wait()?;
        let end = end.ok_or_else(|| anyhow!("the process that computed it ended with {status}"))?;
        let computed = end.into_result()?;
        let key = task.manifest.key();
        let artifact = self.setup.store.record(&key)?.with_context(|| format!("{key} isn't in the store"))?;
        Ok(Done { artifact, computed })
    }
}

fn patience() -> Duration {
    let said = std::env::var("PIPE_PATIENCE").ok().and_then(|text| text.parse().ok());
    said.map_or(PATIENCE, Duration::from_secs)
}

fn silence(patience: Duration) -> Hinted {
    let seconds = patience.as_secs();
    Hinted::with(
        format!("nothing was heard of the device for {seconds} s, so the process that waited for it was ended"),
        "the state is kept, and the same command resumes from it; PIPE_PATIENCE=SECONDS waits longer",
    )
}

/// A process that doesn't outlive its parent.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(program: &Path, store: &Path) -> Result<Child> {
    let mut command = Command::new(program);
    // What GPUs are known to do is kept in the store.
    command.arg("stage").arg("--store").arg(store).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.envs(environment(gpu()));
    // Ctrl-C is the launching process's to pass on.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().with_context(|| format!("can't launch {}", program.display()))
}

/// The lines of a stream, until its end.
fn lines(from: impl BufRead + Send + 'static) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in from.lines().map_while(std::io::Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Computes the stage of the job that `input` begins with, as another process asks for, and reports to `output`. `stop` is
/// set where the input ends.
///
/// # Errors
/// If the job can't be read or the report not be written. What keeps the stage from being computed is reported.
pub fn compute(input: impl Read + Send + 'static, output: impl Write + Send, stop: &Arc<AtomicBool>) -> Result<()> {
    let mut input = BufReader::new(input);
    let mut job = String::new();
    input.read_line(&mut job).context("can't read the job")?;
    let job: StageJob = serde_json::from_str(&job).context("the job is malformed")?;
    let stopped = Arc::clone(stop);
    std::thread::spawn(move || {
        // There is nothing more to read but the end.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        stopped.store(true, Ordering::SeqCst);
    });
    let report = Report::new(output);
    let end = match launch(&job, &report, stop) {
        Ok(done) => End::Done { computed: done.computed },
        Err(error) => End::of(&error),
    };
    report.send(&Message::End(end))
}

fn launch<W: Write + Send>(job: &StageJob, report: &Report<W>, stop: &Arc<AtomicBool>) -> Result<Done> {
    let store = Store::open(&job.store)?;
    let stages = Stages::new(devices(&job.devices)?);
    let digests = Mutex::new(DigestCache::open(store.root()).with_reading(READING));
    Local::new(&store, &stages).launch(&job.task, Watch { stop, reporter: report, digests: &digests })
}

/// The devices that a job names, as [`DeviceChoices`] are displayed.
pub(in crate::session) fn devices(text: &str) -> Result<DeviceChoices> {
    if text.contains(',') { text.parse::<DeviceChoices>()?.found() } else { Ok(text.parse::<DeviceChoice>()?.into()) }
}
