//! `pipe logs`.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};

use super::{args::Logs, console, exit::Exit, on};
use crate::session::{Notify, cluster::RunFolder};

/// How often it's looked for more; the second, where it comes by way of a remote.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// `pipe logs STAGE`: what the last job of a stage has printed.
pub(super) fn logs(command: &Logs, store: &Path) -> Result<Exit> {
    let session = on::session(&command.place, store)?;
    let folder = RunFolder::find(session.store(), command.run.as_deref())?;
    let plan = folder.plan()?;
    let notify: Notify = Arc::new(console::eprint_line);
    let folder = folder.shared_by(plan.profile.remote.as_deref(), session.store(), &notify)?;
    let number = plan
        .number(&command.stage)
        .with_context(|| format!("the run {} has no stage `{}`", folder.name(), command.stage))?;
    let batches = folder.batches()?;
    let mut tasks = batches
        .iter()
        .enumerate()
        .flat_map(|(batch, (record, _))| record.tasks.iter().map(move |(task, stages)| (batch, *task, stages)));
    let Some((batch, task, _)) = tasks.rfind(|(.., stages)| stages.contains(&number)) else {
        bail!("`{}` wasn't submitted in the run {}", command.stage, folder.name());
    };
    let look = if folder.remote().is_some() { LOOKS.1 } else { LOOKS.0 };
    let mut place = 0;
    loop {
        for file in [RunFolder::log_name(batch, task), RunFolder::events_name(number)] {
            folder.bring_file(&file)?;
        }
        let text = folder.printed(batch, task, place);
        place += text.len() as u64;
        if !text.is_empty() {
            console::print(String::from_utf8_lossy(&text).trim_end_matches('\n'))?;
        }
        if !command.follow || folder.has_ended(number) {
            return Ok(Exit::Done);
        }
        std::thread::sleep(look);
    }
}
