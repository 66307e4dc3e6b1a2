//! What `sbatch` is given: a script of the shell with options in its first lines.

use std::fmt::Write;

use crate::session::cluster::{
    engine::{After, Batch},
    resources::{Resources, seconds},
};
use crate::support::shell;

/// How long before its time limit a job is told, in seconds.
const WARNING: u64 = 120;

/// The script of a batch.
pub(super) fn script(batch: &Batch<'_>) -> String {
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
        let store = shell::quoted(&batch.store().display().to_string());
        format!("apptainer exec {gpus}--bind {store} {} ", shell::quoted(image))
    });
    let container = container.unwrap_or_default();
    // `exec`, so that the program itself is told of the time limit.
    let task = "\"$SLURM_ARRAY_TASK_ID\"";
    let command = if batch.is_apart { batch.logged(task) } else { format!("exec {}", batch.line(task)) };
    let _ = writeln!(script, "{}", command.replacen("exec ", &format!("exec {container}"), 1));
    script
}

/// The lines `#SBATCH`. Each of a profile's can stay away, for sites forbid some.
fn options(batch: &Batch<'_>) -> Vec<String> {
    let Resources { account, partition, qos, constraint, exclude, reservation, .. } = batch.resources;
    let throttle = batch.throttle.map_or_else(String::new, |most| format!("%{most}"));
    let folder = batch.folder.display().to_string();
    // A percent sign begins what Slurm puts in. A folder that the script makes isn't there yet.
    let (folder, log) = match batch.is_apart {
        true => ("/tmp".to_owned(), "/dev/null".to_owned()),
        false => (folder.clone(), format!("{}/log/{}-%a.log", folder.replace('%', "%%"), batch.number)),
    };
    let mut options = vec![
        format!("--job-name={}", batch.name),
        format!("--array={}{throttle}", ranges(batch.tasks)),
        format!("--output={}", option(&log)),
        "--open-mode=append".to_owned(),
        format!("--chdir={}", option(&folder)),
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

/// A word as the lines `#SBATCH` take it: as a shell does, but a backslash has its meaning within quotes, too.
fn option(word: &str) -> String {
    let is_plain = word.chars().all(|c| c.is_alphanumeric() || "._=/+:,-%".contains(c));
    if is_plain { word.to_owned() } else { shell::quoted(&word.replace('\\', r"\\")) }
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

/// A time limit as `--time` takes it.
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!("{days}-{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn limits_and_ranges_are_as_slurm_takes_them() {
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
            run: "pipe-run-",
            folder: Path::new("/store/jobs/run"),
            is_apart: false,
            number: 1,
            tasks: &[0, 1, 2],
            resources: &resources,
            estimate: Some(3 << 30),
            longer: 2,
            throttle: Some(4),
            after: &after,
            command: &["/store/jobs/program/pipe", "stage", "--job", "/store/jobs/run", "--batch", "1", "--task"]
                .map(str::to_owned),
        };
        let text = script(&batch);
        assert_eq!(
            text,
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
exec /store/jobs/program/pipe stage --job /store/jobs/run --batch 1 --task \"$SLURM_ARRAY_TASK_ID\"
"
        );
        let nothing = Resources { memory: Some("none".into()), ..Resources::default() };
        let text = script(&Batch { resources: &nothing, throttle: None, after: &[], ..batch });
        assert!(["--mem", "--time", "--dependency"].iter().all(|option| !text.contains(option)), "{text}");

        let command = ["/it's/pipe", "stage", "--job", "/it's/a b%"].map(str::to_owned);
        let text = script(&Batch { folder: Path::new("/it's/a b%"), command: &command, after: &[], ..batch });
        for line in [
            r"#SBATCH --output='/it'\''s/a b%%/log/1-%a.log'",
            r"#SBATCH --chdir='/it'\''s/a b%'",
            r#"exec '/it'\''s/pipe' stage --job '/it'\''s/a b%' "$SLURM_ARRAY_TASK_ID""#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
