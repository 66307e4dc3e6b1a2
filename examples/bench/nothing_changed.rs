//! How long a run takes to find out that there is nothing to do, the whole process: recipes of 5 and 200 stages, a sweep
//! of 1,000 cells, and an input of a gigabyte. DVC on as many stages of its own beside them.

use std::{
    fmt::Write as _,
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde_json::Value;

use crate::{Args, median, number, spread};

/// The size of the large input.
const GIGABYTE: u64 = 1 << 30;

/// A recipe, and the command that runs it.
struct Case {
    name: &'static str,
    command: &'static str,
    recipe: String,
    /// Stages of DVC's pipeline to put beside it.
    dvc: Option<u64>,
}

impl Case {
    fn all() -> Result<[Self; 4]> {
        Ok([
            Self {
                name: "the main job, 5 stages",
                command: "run",
                recipe: fs_err::read_to_string("recipes/chatglm_cls.yaml")?,
                dvc: Some(5),
            },
            Self { name: "200 stages", command: "run", recipe: stages(200), dvc: Some(200) },
            Self { name: "a sweep of 1,000 cells", command: "sweep", recipe: sweep(), dvc: None },
            Self {
                name: "a stage that reads 1 GB",
                command: "run",
                recipe: format!("stages:\n  large:\n{}", tokenize("large")),
                dvc: None,
            },
        ])
    }

    /// Runs it twice, so that all is in the store, and then times it.
    fn seconds(&self, args: &Args, dir: &Path) -> Result<Vec<f64>> {
        let recipe = dir.join("recipe.yaml");
        fs_err::write(&recipe, &self.recipe)?;
        let once = || -> Result<f64> {
            let mut command = Command::new(fs_err::canonicalize(&args.pipe)?);
            command.arg("--store").arg(dir.join("store")).arg(self.command).arg(&recipe);
            if self.name.starts_with("the main job") {
                // Stages as in the recipe, but of a few steps.
                for stage in ["encoder", "generator", "topics"] {
                    command.arg("--set").arg(format!("stages.{stage}.train.epochs=0.02"));
                }
                command.arg("--var").arg(format!("data={}", fs_err::canonicalize("recipes/data")?.display()));
            }
            let began = Instant::now();
            let done = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
            let seconds = began.elapsed().as_secs_f64();
            ensure!(done.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&done.stderr));
            Ok(seconds)
        };
        once()?;
        once()?;
        (0..args.rounds).map(|_| once()).collect()
    }
}

/// A tokenize stage on a file of its own.
fn tokenize(file: &str) -> String {
    format!(
        "    tokenize:\n      tokenizer: {{ wordpiece: {{ vocab_size: 300 }} }}\n      \
         corpus: [{{ path: {file}.txt, document: line, limit: 100 }}]\n"
    )
}

fn stages(count: usize) -> String {
    (0..count).fold("stages:\n".to_owned(), |mut recipe, stage| {
        // Writing to a string can't fail.
        let _ = write!(recipe, "  s{stage}:\n{}", tokenize(&stage.to_string()));
        recipe
    })
}

fn sweep() -> String {
    let list = |values: Vec<String>| values.join(", ");
    format!(
        "stages:\n  tokens:\n{}  model:\n    pretrain:\n      tokens: tokens\n      \
         model: {{ gpt2: {{ hidden: 8, layers: 1, heads: 1, max_length: 16 }} }}\n      \
         objectives: [{{ generative: {{ causal_lm: {{}} }} }}]\n      \
         train: {{ steps: 1, batch: {{ examples: 1 }}, max_length: 16, lr: 1.0e-3 }}\n\
         sweep:\n  grid:\n    stages.model.train.lr: [{}]\n    stages.model.train.seed: [{}]\n  \
         minimize: stages.model.metrics.loss\n",
        tokenize("0"),
        list((1..=20).map(|n| format!("{n}.0e-4")).collect()),
        list((0..50).map(|seed| seed.to_string()).collect()),
    )
}

/// Small texts for all stages, and a large one; older than the time within which digests aren't remembered.
fn write_inputs(dir: &Path) -> Result<()> {
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for stage in 0..200 {
        let text: String = (0..30).map(|line| format!("第{stage}个文件的第{line}行文字。\n")).collect();
        let path = dir.join(format!("{stage}.txt"));
        fs_err::write(&path, text)?;
        File::options().write(true).open(path)?.set_modified(an_hour_ago)?;
    }
    let large = dir.join("large.txt");
    fs_err::write(&large, "一行文字。\n".repeat(100))?;
    let file = File::options().write(true).open(&large)?;
    // The rest is a hole, which is read like anything else.
    file.set_len(GIGABYTE)?;
    file.set_modified(an_hour_ago)?;
    Ok(())
}

/// Seconds of `dvc repro` by the number of stages, as the peers' script tells; none without a `dvc`.
fn dvc(args: &Args) -> Result<Vec<Value>> {
    let Some(dvc) = &args.dvc else { return Ok(Vec::new()) };
    let mut command = Command::new("bash");
    command.arg(args.peers.join("dvc_noop/make.sh")).arg(dvc).arg(args.rounds.to_string());
    let done = command.output().with_context(|| format!("can't run {command:?}"))?;
    ensure!(done.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::Deserializer::from_slice(&done.stdout).into_iter().collect::<Result<_, _>>()?)
}

/// A table, a row a case.
pub(crate) fn run(args: &Args, _store: &Path) -> Result<Table> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["nothing changed", "pipe, ms", "dvc repro, ms", "ratio"]);
    if !"nothing changed".contains(&args.only) {
        return Ok(table);
    }
    let peer = dvc(args)?;
    let dir = tempfile::tempdir()?;
    write_inputs(dir.path())?;
    for case in Case::all()? {
        let ours: Vec<f64> = case.seconds(args, dir.path())?.into_iter().map(|seconds| 1e3 * seconds).collect();
        let theirs = peer.iter().find(|said| case.dvc.is_some_and(|stages| said["stages"] == stages));
        let theirs = theirs.map(|said| number(said, "noop_repro_s")).transpose()?.map(|seconds| 1e3 * seconds);
        table.add_row([
            case.name.to_owned(),
            spread(&ours, 1),
            theirs.map_or_else(|| "–".into(), |milliseconds| format!("{milliseconds:.0}")),
            theirs.map_or_else(|| "–".into(), |theirs| format!("{:.0}", theirs / median(&ours))),
        ]);
    }
    Ok(table)
}
