//! Slurm, by its commands: `sbatch`, `squeue` and `scancel`, and `sacct` where there is one. A batch is an array. Formats are
//! those of `-o`, which have stayed the same for ten years.

use std::{
    fmt::Write as _,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::{
    engine::{After, Batch, Cluster, Engine, Job, Refusal, State},
    profile::Resources,
};
use crate::support::Named;

/// The engine.
pub(super) struct Slurm;

/// The largest array, where the controller doesn't tell: Slurm's own default.
const MOST_TASKS: usize = 1001;
/// How long before its time limit a job is told, in seconds.
const WARNING: u64 = 120;

impl Named for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }
}

impl Engine for Slurm {
    fn open(&self) -> Box<dyn Cluster> {
        Box::new(Controller { most_tasks: None })
    }
}

struct Controller {
    most_tasks: Option<usize>,
}

/// What a command said, if it ended well.
struct Said {
    out: String,
    error: String,
    is_well: bool,
}

fn command(name: &str, arguments: &[&str], input: &str) -> std::io::Result<Said> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Within a job these are that job's, and options to the next one.
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited.filter(|name| name.starts_with("SLURM_") && name != "SLURM_CONF" && name != "SLURM_CLUSTERS")
    {
        command.env_remove(name);
    }
    // Reasons are told by their words.
    command.env("LC_ALL", "C");
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // What keeps it from being read shows in what the command says.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(Said { out: text(&output.stdout), error: text(&output.stderr), is_well: output.status.success() })
}

impl Cluster for Controller {
    fn most_tasks(&mut self) -> usize {
        *self.most_tasks.get_or_insert_with(|| {
            let said = command("scontrol", &["show", "config"], "").ok().filter(|said| said.is_well);
            let line =
                said.and_then(|said| said.out.lines().find(|line| line.starts_with("MaxArraySize")).map(str::to_owned));
            line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok()).unwrap_or(MOST_TASKS)
        })
    }

    fn script(&self, batch: &Batch<'_>) -> String {
        let (program, command) = (batch.program.display(), batch.command);
        let mut script = String::from("#!/bin/sh\n");
        for option in options(batch) {
            let _ = writeln!(script, "#SBATCH {option}");
        }
        script.push_str("export PIPE_JOB=\"slurm ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n");
        script.push_str("export PIPE_AGAIN=\"scontrol requeue ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n");
        if batch.resources.cpus.is_some() {
            script.push_str("export RAYON_NUM_THREADS=$SLURM_CPUS_PER_TASK\n");
        }
        for line in batch.resources.before.iter().flatten() {
            let _ = writeln!(script, "{line}");
        }
        let container = batch.resources.container.as_ref().map(|image| {
            let gpus = if batch.resources.gpus.unwrap_or(0) > 0 { "--nv " } else { "" };
            let store = batch.folder.ancestors().nth(2).unwrap_or(batch.folder).display();
            format!("apptainer exec {gpus}--bind '{store}' '{image}' ")
        });
        let container = container.unwrap_or_default();
        // `exec`, so that the program itself is told of the time limit.
        let _ = writeln!(script, "exec {container}'{program}' {command} \"$SLURM_ARRAY_TASK_ID\"");
        script
    }

    fn submit(&mut self, script: &str) -> Result<String, Refusal> {
        let said = command("sbatch", &["--parsable"], script)
            .map_err(|error| Refusal::Never(format!("sbatch can't be run here: {error}")))?;
        // A cluster's name may follow.
        let id = said.out.lines().last().unwrap_or_default().split(';').next().unwrap_or_default();
        if said.is_well && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(id.to_owned());
        }
        Err(refusal(&said.error))
    }

    fn test(&mut self, script: &str) -> Result<(), String> {
        let said = command("sbatch", &["--test-only"], script)
            .map_err(|error| format!("sbatch can't be run here: {error}"))?;
        if said.is_well { Ok(()) } else { Err(plain(&said.error)) }
    }

    fn jobs(&mut self, beginning: &str) -> Option<Vec<Job>> {
        let arguments = ["-h", "-r", "--me", "-t", "all", "-o", "%i|%T|%r|%j"];
        let said = command("squeue", &arguments, "").ok().filter(|said| said.is_well)?;
        Some(said.out.lines().filter_map(job).filter(|job| job.batch.starts_with(beginning)).collect())
    }

    fn remembered(&mut self, id: &str, task: usize) -> Option<(State, Option<String>)> {
        let job = format!("{id}_{task}");
        let said = command("sacct", &["-j", &job, "-n", "-P", "-o", "State,MaxRSS"], "").ok()?;
        if !said.is_well {
            return None;
        }
        let lines: Vec<(&str, &str)> = said.out.lines().filter_map(|line| line.split_once('|')).collect();
        let used = lines.iter().map(|(_, used)| *used).rfind(|used| !used.is_empty());
        Some((state(lines.first()?.0, ""), used.map(str::to_owned)))
    }

    fn cancel(&mut self, ids: &[String]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let said = command("scancel", &ids.iter().map(String::as_str).collect::<Vec<_>>(), "")?;
        // Those that have ended by now aren't known any more.
        if !said.is_well && !said.error.contains("Invalid job id") {
            bail!("scancel: {}", said.error);
        }
        Ok(())
    }
}

/// The lines `#SBATCH`. Each of a profile's can stay away, for sites forbid some.
fn options(batch: &Batch<'_>) -> Vec<String> {
    let Resources { account, partition, qos, constraint, exclude, reservation, .. } = batch.resources;
    let throttle = batch.throttle.map_or_else(String::new, |most| format!("%{most}"));
    let folder = batch.folder.display();
    let mut options = vec![
        format!("--job-name={}", batch.name),
        format!("--array={}{throttle}", ranges(batch.tasks)),
        format!("--output={folder}/log/{}-%a.log", batch.number),
        "--open-mode=append".to_owned(),
        format!("--chdir={folder}"),
        "--requeue".to_owned(),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
    ];
    let names = batch.resources.environment.iter().flatten().map(String::as_str);
    options
        .push(format!("--export={}", ["HOME", "PATH", "USER"].into_iter().chain(names).collect::<Vec<_>>().join(",")));
    let named = [
        ("account", account),
        ("partition", partition),
        ("qos", qos),
        ("constraint", constraint),
        ("exclude", exclude),
        ("reservation", reservation),
    ];
    options.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    if let Some(seconds) = batch.resources.time.as_deref().and_then(seconds) {
        let seconds = seconds * u64::from(batch.longer);
        options.push(format!("--time={}", clock(seconds)));
        // Slurm may send it a minute early, so that it would be too early in a short job.
        if seconds >= 3 * WARNING {
            options.push(format!("--signal=B:USR1@{WARNING}"));
        }
    }
    match (&batch.resources.memory, batch.estimate) {
        (Some(memory), _) if memory == "none" => {}
        (Some(memory), _) => options.push(format!("--mem={memory}")),
        (None, Some(bytes)) => options.push(format!("--mem={}M", bytes.div_ceil(1 << 20))),
        (None, None) => {}
    }
    options.extend(batch.resources.cpus.map(|cpus| format!("--cpus-per-task={cpus}")));
    if let Some(gpus) = batch.resources.gpus.filter(|gpus| *gpus > 0) {
        let kind = batch.resources.gpu_type.as_ref().map_or_else(String::new, |kind| format!("{kind}:"));
        options.push(format!("--gpus-per-node={kind}{gpus}"));
    }
    if !batch.after.is_empty() {
        let after = batch.after.iter().map(|after| match after {
            After::Task(id, task) => format!("afterok:{id}_{task}"),
            After::Same(id) => format!("aftercorr:{id}"),
        });
        options.push(format!("--dependency={}", after.collect::<Vec<_>>().join(",")));
        options.push("--kill-on-invalid-dep=yes".to_owned());
    }
    options.extend(batch.resources.options.iter().flatten().cloned());
    options
}

/// Numbers as `--array` takes them: `0-3,7`.
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

/// Seconds of a time limit: minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`.
fn seconds(limit: &str) -> Option<u64> {
    let (days, rest) = limit.split_once('-').map_or((None, limit), |(days, rest)| (Some(days), rest));
    let parts = rest.split(':').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [minutes]) => minutes * 60,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        (Some(_), [hours]) => hours * 3600,
        (Some(_), [hours, minutes]) => hours * 3600 + minutes * 60,
        (_, [hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        _ => return None,
    };
    Some(seconds + days.map_or(Some(0), |days| days.parse::<u64>().ok())? * 86_400)
}

/// A time limit as `--time` takes it.
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!("{days}-{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// What `sbatch` means by what it says on stderr. With each it ends with status 1.
fn refusal(said: &str) -> Refusal {
    const FULL: [&str; 6] = [
        "MaxSubmitJob",
        "AssocMaxSubmitJobLimit",
        "job submit limit",
        "Job violates accounting/QOS policy",
        "Slurm temporarily unable to accept job",
        "Resource temporarily unavailable",
    ];
    const AWAY: [&str; 4] =
        ["Unable to contact slurm controller", "Socket timed out", "Unexpected message received", "Connection refused"];
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let said = plain(said);
    if says(&FULL) {
        Refusal::Full(said)
    } else if says(&AWAY) {
        Refusal::Away(said)
    } else {
        Refusal::Never(said)
    }
}

/// What `sbatch` says, in a line.
fn plain(said: &str) -> String {
    let said = said.replace("sbatch: error: ", "").replace("allocation failure: ", "");
    said.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// A line of `squeue`: `1_7|PENDING|Resources|NAME`.
fn job(line: &str) -> Option<Job> {
    let mut parts = line.splitn(4, '|');
    let (id, word, reason, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (id, task) = id.split_once('_')?;
    Some(Job { batch: name.to_owned(), id: id.to_owned(), task: task.parse().ok()?, state: state(word, reason) })
}

/// The reasons for which a job never begins unless somebody changes it.
const NEVER: [&str; 9] = [
    "DependencyNeverSatisfied",
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "JobHeldAdmin",
];

/// A state by its name, as `squeue` and `sacct` write it.
fn state(word: &str, reason: &str) -> State {
    match word.split_whitespace().next().unwrap_or_default() {
        "PENDING" if NEVER.contains(&reason) => State::Never(reason.to_owned()),
        "COMPLETED" => State::Done,
        "FAILED" => State::Failed,
        "CANCELLED" | "REVOKED" => State::Cancelled,
        "TIMEOUT" | "DEADLINE" => State::TimeLimit,
        "OUT_OF_MEMORY" => State::OutOfMemory,
        "NODE_FAIL" | "BOOT_FAIL" => State::NodeLost,
        "PREEMPTED" => State::Preempted,
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STAGE_OUT" | "SIGNALING" | "RESIZING" | "STOPPED" => {
            State::Running
        }
        // Whatever else there is comes before it runs: REQUEUED and its like.
        _ => State::Waiting(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn refusals_are_told_apart_by_what_sbatch_says() {
        // Seen with Slurm 22.05, with accounting.
        let full = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates \
                    accounting/QOS policy (job submit limit, user's size and/or time limits)";
        assert!(matches!(refusal(full), Refusal::Full(said) if !said.contains("sbatch: error")));
        let away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)";
        assert!(matches!(refusal(away), Refusal::Away(_)));
        for never in
            ["Invalid job array specification", "Invalid partition name specified", "Invalid qos specification"]
        {
            assert_eq!(refusal(never), Refusal::Never(never.to_owned()));
        }
    }

    #[test]
    fn lines_of_squeue_are_jobs() {
        let waiting = |reason: &str| State::Waiting(reason.to_owned());
        for (line, id, task, expected) in [
            ("12_7|PENDING|Resources|pipe-a-0", "12", 7, waiting("Resources")),
            ("12_7|PENDING|BeginTime|pipe-a-0", "12", 7, waiting("BeginTime")),
            ("3_0|PENDING|DependencyNeverSatisfied|n", "3", 0, State::Never("DependencyNeverSatisfied".into())),
            ("3_0|RUNNING|None|n", "3", 0, State::Running),
            ("3_0|COMPLETING|None|n", "3", 0, State::Running),
            ("3_0|OUT_OF_MEMORY|OutOfMemory|n", "3", 0, State::OutOfMemory),
            ("3_0|TIMEOUT|TimeLimit|n", "3", 0, State::TimeLimit),
            ("3_0|NODE_FAIL|NodeDown|n", "3", 0, State::NodeLost),
            ("3_0|REQUEUED|None|n", "3", 0, waiting("None")),
        ] {
            let name = line.rsplit('|').next().unwrap().to_owned();
            assert_eq!(job(line), Some(Job { batch: name, id: id.to_owned(), task, state: expected }), "{line}");
        }
        assert_eq!(job("12|RUNNING|None|somebody's"), None);
        assert_eq!(state("CANCELLED by 1000", ""), State::Cancelled);
    }

    #[test]
    fn limits_and_ranges_are_as_slurm_takes_them() {
        for (limit, expected) in [
            ("30", 1800),
            ("1:30", 90),
            ("8:00:00", 28_800),
            ("1-12", 129_600),
            ("2-00:30", 174_600),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(seconds(limit), Some(expected), "{limit}");
        }
        assert_eq!(clock(129_661), "1-12:01:01");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn script_has_what_the_profile_says_and_nothing_else() {
        let resources = Resources {
            account: Some("team".into()),
            time: Some("1:00:00".into()),
            gpus: Some(2),
            gpu_type: Some("a100".into()),
            before: Some(vec!["module load cuda".into()]),
            environment: Some(vec!["TOKEN".into()]),
            options: Some(vec!["--mail-type=FAIL".into()]),
            ..Resources::default()
        };
        let after = [After::Same("7".into()), After::Task("8".into(), 3)];
        let batch = Batch {
            name: "pipe-run-1",
            folder: Path::new("/store/jobs/run"),
            number: 1,
            tasks: &[0, 1, 2],
            resources: &resources,
            estimate: Some(3 << 30),
            longer: 2,
            throttle: Some(4),
            after: &after,
            program: Path::new("/store/jobs/program/pipe"),
            command: "stage --job '/store/jobs/run' --batch 1 --task",
        };
        let script = Slurm.open().script(&batch);
        assert_eq!(
            script,
            "\
#!/bin/sh
#SBATCH --job-name=pipe-run-1
#SBATCH --array=0-2%4
#SBATCH --output=/store/jobs/run/log/1-%a.log
#SBATCH --open-mode=append
#SBATCH --chdir=/store/jobs/run
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --export=HOME,PATH,USER,TOKEN
#SBATCH --account=team
#SBATCH --time=0-02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --mem=3072M
#SBATCH --gpus-per-node=a100:2
#SBATCH --dependency=aftercorr:7,afterok:8_3
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mail-type=FAIL
export PIPE_JOB=\"slurm ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"
export PIPE_AGAIN=\"scontrol requeue ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"
module load cuda
exec '/store/jobs/program/pipe' stage --job '/store/jobs/run' --batch 1 --task \"$SLURM_ARRAY_TASK_ID\"
"
        );
        let nothing = Resources { memory: Some("none".into()), ..Resources::default() };
        let script = Slurm.open().script(&Batch { resources: &nothing, throttle: None, after: &[], ..batch });
        assert!(
            !script.contains("--mem") && !script.contains("--time") && !script.contains("--dependency"),
            "{script}"
        );
    }
}
