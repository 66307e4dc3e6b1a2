//! Looks at a cluster before anything is run there: submits one small job, and compares what that sees with what this machine
//! sees. On a disk that both see a file is locked here while the job runs, so that it shows whether locks hold between
//! machines; where they have a remote in common alone, both send and bring a file.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{
    ends::last_lines,
    engine::{Batch, Engine, Refusal, State, Which},
    profile::Profile,
    records::RunFolder,
    resources::Resources,
    start::{open, program_for},
};
use crate::{
    engine::store::{Store, host, unix_time},
    network::device::devices,
    session::Notify,
    support::{Hinted, Registry, clock::date, program, shell},
};

/// What is written to measure the disk, and what is sent to measure a remote.
const WRITTEN: usize = 64 << 20;
const SENT: usize = 8 << 20;
/// How often it's looked for the job's report.
const LOOK: Duration = Duration::from_millis(500);
/// How long after the job's end its report may take to be seen here.
const GRACE: Duration = Duration::from_secs(60);
/// How far clocks may lie apart, in seconds.
const APART: f64 = 5.0;

/// The file that is locked by who has submitted.
const LOCK: &str = "lock";
const REPORT: &str = "report.json";
/// The file by which a remote is measured.
const SPEED: &str = "speed";

/// What a job has seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// Its machine.
    pub host: String,
    /// Its build of the program.
    pub build: String,
    /// Whether it saw that the file was locked elsewhere; or why it couldn't tell.
    pub sees_lock: Result<bool, String>,
    /// Whether files can have second names there.
    pub has_links: bool,
    /// The devices that can be used.
    pub devices: Vec<String>,
    /// Its clock, in seconds since 1970, and that of the disk's stamps at the same moment.
    pub clock: (f64, f64),
    /// Bytes that it wrote to the store, or sent to the remote, in a second.
    pub written: f64,
}

/// A line of what was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Whether all is well with it.
    pub is_well: bool,
    /// What was found.
    pub text: String,
}

/// A job's side: looks at what there is, and leaves a report in the folder, or in that of the remote at a URL.
///
/// # Errors
/// If the folder can't be written, or what was sent not be brought.
pub fn look(folder: &Path, remote: Option<&str>, notify: &Notify) -> Result<()> {
    let shared = RunFolder::at(folder);
    let shared = match remote {
        Some(_) => {
            shared.make()?;
            let store = Store::open(shared.store()?)?;
            let shared = shared.shared_by(remote, &store, notify)?;
            shared.bring_file(LOCK)?;
            shared
        }
        None => shared,
    };
    let lock = fs::File::options().read(true).write(true).open(folder.join(LOCK))?;
    let sees_lock = match lock.file().try_lock() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error.to_string()),
    };
    let has_links = std::fs::hard_link(folder.join(LOCK), folder.join("second")).is_ok();
    let usable = devices()?.into_iter().filter(|device| device.usable);
    let size = if remote.is_some() { SENT } else { WRITTEN };
    let began = Instant::now();
    let mut file = fs::File::create(folder.join(SPEED))?;
    file.write_all(&vec![1; size])?;
    file.sync_all()?;
    shared.send(SPEED)?;
    let written = size as f64 / began.elapsed().as_secs_f64().max(1e-6);
    let now = unix_time();
    fs::write(folder.join("stamp"), "")?;
    let stamp = fs::metadata(folder.join("stamp"))?.modified()?;
    let stamp = stamp.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let report = Report {
        host: host(),
        build: program::build()?,
        sees_lock,
        has_links,
        devices: usable.map(|device| device.device).collect(),
        clock: (now, stamp),
        written,
    };
    // Under its name as soon as it's whole.
    fs::write(folder.join("report.new"), serde_json::to_vec(&report)?)?;
    fs::rename(folder.join("report.new"), folder.join(REPORT))?;
    shared.send(REPORT)
}

/// Submits a job that looks, waits for it, and gives what was found. `stop` ends the wait, and the job.
///
/// # Errors
/// If nothing can be submitted, or the store not be written.
pub fn examine(
    profile: &Profile,
    store: &Path,
    engines: &Registry<dyn Engine>,
    notify: &Notify,
    stop: &AtomicBool,
) -> Result<Vec<Finding>> {
    let root = std::path::absolute(store)?;
    let name = format!("pipe-doctor-{}", date(unix_time()).chars().filter(char::is_ascii_digit).collect::<String>());
    let own = root.join("jobs").join(&name);
    fs::create_dir_all(own.join("log"))?;
    let lock = fs::File::create(own.join(LOCK))?;
    let is_locked = lock.file().try_lock().is_ok();
    let remote = profile.remote.as_deref();
    let shared = RunFolder::at(&own).shared_by(remote, &Store::open(&root)?, notify)?;
    shared.send(LOCK)?;
    let folder = profile.folder(&own);
    let build = program::build()?;
    let program = program_for(profile, &build, &root)?;
    let mut cluster = open(profile, engines)?;
    let mut findings = Vec::new();
    let mut find = |is_well: bool, text: String| findings.push(Finding { is_well, text });

    let text = |path: &Path| path.display().to_string();
    let apart = remote.map_or(Vec::new(), |url| vec!["--apart", url]);
    let words = ["--store", &text(RunFolder::at(&folder).store()?), "--job", &text(&folder), "--task"];
    let command: Vec<String> =
        [&text(&program), "doctor"].into_iter().chain(apart).chain(words).map(str::to_owned).collect();
    let small = Resources { memory: profile.all.memory.clone().or(Some("none".to_owned())), ..profile.all.clone() };
    let small = batch(&name, &folder, remote.is_some(), &small, &command);
    let all = [("all".to_owned(), profile.all.clone())].into_iter();
    let kinds = profile.kinds.keys().map(|kind| (format!("kinds.{kind}"), profile.resources("", kind)));
    let stages = profile.stages.keys().map(|stage| (format!("stages.{stage}"), profile.resources(stage, "")));
    for (place, resources) in all.chain(kinds).chain(stages) {
        let script = cluster.script(&Batch { resources: &resources, ..small.clone() });
        match cluster.test(&script) {
            Ok(()) => find(true, format!("the site takes what `{place}` asks for")),
            Err(said) => find(false, format!("the site refuses what `{place}` asks for: {said}")),
        }
    }
    let id = match cluster.submit(&cluster.script(&small)) {
        Ok(id) => id,
        Err(Refusal::Full(said) | Refusal::Away(said) | Refusal::Never(said)) => {
            bail!(Hinted::with(
                format!("no job is taken: {said}"),
                "what `all` in the profile asks for has to be allowed"
            ))
        }
    };
    notify(&format!("job {id} looks at the cluster; Ctrl-C ends it"));
    let ended = wait(&shared, stop, &mut || {
        let jobs = cluster.jobs(&name)?;
        Some(jobs.first().map(|job| job.state.clone()))
    });
    let report = match ended {
        Waited::Report(report) => report,
        Waited::Stopped => {
            cluster.cancel(&[Which::Batch(id)])?;
            bail!("stopped before the job had looked");
        }
        Waited::Ended(state) => {
            let lines = last_lines(&own.join("log/0-0.log")).or_else(|| cluster.last_words(&id, 0));
            let lines = lines.map_or_else(String::new, |lines| format!(":\n{lines}"));
            let state = state.map_or("is gone".to_owned(), |state| format!("ended ({state:?})"));
            let asked = match remote {
                Some(url) => format!("does its machine reach {url}, and know who it is there?"),
                None => "is the store on a disk that its machine sees?".to_owned(),
            };
            find(false, format!("the job {state} and left no report that is seen here: {asked}{lines}"));
            return Ok(findings);
        }
    };
    let common = match remote {
        Some(url) => Common::Remote { url, now: unix_time() },
        None => Common::Store { root: &root, is_locked },
    };
    findings.extend(compared(&report, &build, &common));
    drop(lock);
    [LOCK, SPEED, REPORT].into_iter().for_each(|name| shared.forget(name));
    fs::remove_dir_all(&own)?;
    Ok(findings)
}

fn batch<'a>(
    name: &'a str,
    folder: &'a Path,
    is_apart: bool,
    resources: &'a Resources,
    command: &'a [String],
) -> Batch<'a> {
    Batch {
        name,
        run: name,
        folder,
        is_apart,
        number: 0,
        tasks: &[0],
        resources,
        estimate: None,
        longer: 1,
        throttle: None,
        after: &[],
        command,
    }
}

enum Waited {
    Report(Report),
    Stopped,
    /// The job has ended, as the engine says.
    Ended(Option<State>),
}

/// Waits for the report. `state` gives the job's state, and none if it's gone; nothing if the engine doesn't answer.
fn wait(folder: &RunFolder, stop: &AtomicBool, state: &mut dyn FnMut() -> Option<Option<State>>) -> Waited {
    let (mut asked, mut ended): (Instant, Option<Instant>) = (Instant::now(), None);
    loop {
        // A remote that doesn't answer may do so the next time.
        let _ = folder.bring_file(REPORT);
        let report = std::fs::read(folder.path().join(REPORT)).ok();
        if let Some(report) = report.and_then(|text| serde_json::from_slice(&text).ok()) {
            return Waited::Report(report);
        }
        if stop.load(SeqCst) {
            return Waited::Stopped;
        }
        if asked.elapsed() > 10 * LOOK {
            asked = Instant::now();
            if let Some(state) = state() {
                match state {
                    Some(state) if state.is_open() => ended = None,
                    state if ended.is_some_and(|ended| ended.elapsed() > GRACE) => return Waited::Ended(state),
                    Some(State::Never(reason)) => return Waited::Ended(Some(State::Never(reason))),
                    _ => {
                        ended.get_or_insert_with(Instant::now);
                    }
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// What the job's machine and this one have in common.
enum Common<'a> {
    /// A store, in which a file was locked here, if it can be.
    Store { root: &'a Path, is_locked: bool },
    /// A remote; the time here when the report came, in seconds since 1970.
    Remote { url: &'a str, now: f64 },
}

/// What a job's report says beside what is known here.
fn compared(report: &Report, build: &str, common: &Common<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |is_well: bool, text: String| findings.push(Finding { is_well, text });
    match common {
        Common::Store { root, .. } => find(true, format!("{} sees the store at {}", report.host, root.display())),
        Common::Remote { url, .. } => find(true, format!("{} reads and writes {url}", report.host)),
    }
    if report.build == build {
        find(true, format!("it has this build, {build}"));
    } else {
        find(false, format!("it has build {}, and this is {build}: take `program` out of the profile", report.build));
    }
    if let Common::Store { root, is_locked } = common {
        let (is_well, text) = locks(report, root, *is_locked);
        find(is_well, text);
    }
    let devices = if report.devices.is_empty() { "no device".to_owned() } else { report.devices.join(", ") };
    find(!report.devices.is_empty(), format!("it can compute on {devices}"));
    let (clock, stamp) = report.clock;
    let (other, of_other, to) = match common {
        Common::Store { .. } => ("the disk's", stamp, "the store"),
        // The report takes its time to come.
        Common::Remote { now, .. } => ("this one's", *now, "the remote"),
    };
    let apart = (clock - of_other).abs();
    find(apart <= APART, format!("its clock and {other} lie {apart:.1} s apart"));
    find(true, format!("it writes {:.0} MB/s to {to}", report.written / 1e6));
    findings
}

/// What a job's report says of locks in the store, and whether all is well with them.
fn locks(report: &Report, root: &Path, is_locked: bool) -> (bool, String) {
    let by_name = |why: &str| (report.has_links, locks_by_name(why, report.has_links));
    let hold = |text: &str| (true, text.to_owned());
    match &report.sees_lock {
        _ if !is_locked => by_name("this machine can't lock files there"),
        Err(error) => by_name(&format!("it can't lock files: {error}")),
        Ok(false) => {
            let format = shell::quoted(&root.join("format").display().to_string());
            (false, format!("locks of files don't hold between machines: echo 'lock link' >> {format}"))
        }
        Ok(true) if report.host != host() => hold("locks of files hold between machines"),
        Ok(true) => hold("locks of files hold; the job ran on this machine, so others may differ"),
    }
}

fn locks_by_name(why: &str, has_links: bool) -> String {
    let what = if has_links {
        "so a name is the lock"
    } else {
        "and files can't have second names either: this disk can't be shared"
    };
    format!("{why}, {what}")
}

/// Sees that a store is there to look at.
///
/// # Errors
/// If it can't be made.
pub fn prepare(store: &Path) -> Result<PathBuf> {
    Store::open(store)?;
    let root = std::path::absolute(store)?;
    fs::create_dir_all(root.join("jobs")).context("the store can't be written")?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            host: "n1".into(),
            build: "1".into(),
            sees_lock: Ok(true),
            has_links: true,
            devices: vec!["cpu".into()],
            clock: (100.0, 100.2),
            written: 2e8,
        }
    }

    fn bad(report: &Report, is_locked: bool) -> Vec<String> {
        let found = compared(report, "1", &Common::Store { root: Path::new("/store"), is_locked });
        found.into_iter().filter(|finding| !finding.is_well).map(|finding| finding.text).collect()
    }

    #[test]
    fn only_what_is_wrong_is_told_to_be() {
        assert_eq!(bad(&report(), true), Vec::<String>::new());
        assert_eq!(bad(&report(), false), Vec::<String>::new());
        let local = Report { sees_lock: Ok(false), ..report() };
        assert_eq!(
            bad(&local, true),
            ["locks of files don't hold between machines: echo 'lock link' >> /store/format"]
        );
        let none = Report { sees_lock: Err("Function not implemented".into()), has_links: false, ..report() };
        assert!(bad(&none, true)[0].contains("this disk can't be shared"));
        let other = Report { build: "2".into(), clock: (100.0, 160.0), ..report() };
        assert_eq!(bad(&other, true).len(), 2);
        // Where there's no disk in common, locks are of no use, and clocks are compared with each other.
        let apart = |now: f64| compared(&local, "1", &Common::Remote { url: "s3://a", now });
        assert!(apart(102.0).iter().all(|finding| finding.is_well));
        assert_eq!(apart(160.0).iter().filter(|finding| !finding.is_well).count(), 1);
    }

    #[test]
    fn job_leaves_a_report_that_sees_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = std::fs::File::create(dir.path().join(LOCK)).unwrap();
        lock.lock().unwrap();
        program::name(std::env::current_exe().unwrap());
        let notify: Notify = std::sync::Arc::new(|_: &str| ());
        look(dir.path(), None, &notify).unwrap();
        let (stop, folder) = (AtomicBool::new(false), RunFolder::at(dir.path()));
        let Waited::Report(report) = wait(&folder, &stop, &mut || None) else { panic!("no report") };
        assert_eq!(report.sees_lock, Ok(true));
        assert!(report.has_links && report.written > 0.0 && (report.clock.0 - report.clock.1).abs() < APART);
    }
}
