//! `pipe attach` and `pipe cancel`.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{
    args::{Attach, Cancel},
    console,
    exit::{self, Exit},
    interrupt, on,
    progress::ProgressReporter,
    report,
    run::{stage_json, summary},
};
use crate::{
    engine::store::unix_time,
    session::{
        Notify,
        cluster::{self, ENGINES, LEFT, RunFolder, Until},
    },
};

/// `pipe attach`: follows a run to its end, as `pipe run` does.
pub(super) fn attach(command: &Attach, store: &Path) -> Result<Exit> {
    let session = on::session(&command.place, store)?;
    let folder = RunFolder::find(session.store(), command.run.as_deref())?;
    let progress = ProgressReporter::new();
    let notify: Notify = Arc::new(console::eprint_line);
    let mut follower = cluster::attach(&folder, session.store(), &ENGINES, &progress, &notify)?;
    let plan = follower.plan();
    let (begun, recipe) = (plan.begun, plan.recipe.clone());
    console::eprint_line(&format!("run {} of {} on {}", folder.name(), plan.recipe, plan.on));
    progress.expect(plan.stages.len());
    interrupt::install_for_stages()?;
    exit::work_begins();
    let stop = interrupt::flag();
    let followed = interrupt::during(|| follower.follow(Until::AllEnded, &stop));
    progress.end();
    followed?;
    let outcomes = follower.outcomes();
    let is_open = outcomes.values().any(|outcome| outcome.error.as_deref() == Some(LEFT));
    if is_open && on::asks() {
        follower.cancel()?;
    }
    let seconds = unix_time() - begun;
    if command.json {
        let stages: Map<String, Value> =
            outcomes.iter().map(|(id, outcome)| (id.clone(), stage_json(outcome))).collect();
        let result = json!({ "run": folder.name(), "recipe": recipe, "seconds": seconds, "stages": stages });
        console::print(&serde_json::to_string_pretty(&result)?)?;
    } else {
        console::print(&report::outcomes(&outcomes, None))?;
    }
    console::eprint_line(&summary(&outcomes, seconds));
    Ok(Exit::of_stages(&outcomes))
}

/// `pipe cancel`: ends the jobs of a run.
pub(super) fn cancel(command: &Cancel, store: &Path) -> Result<Exit> {
    let session = on::session(&command.place, store)?;
    let folder = RunFolder::find(session.store(), command.run.as_deref())?;
    let progress = ProgressReporter::new();
    let notify: Notify = Arc::new(console::eprint_line);
    let mut follower = cluster::attach(&folder, session.store(), &ENGINES, &progress, &notify)?;
    follower.cancel()?;
    if command.json {
        console::print(&json!({ "run": folder.name(), "cancelled": true }).to_string())?;
    }
    console::eprint_line(&format!("the jobs of run {} are ended; what they have kept stays", folder.name()));
    Ok(Exit::Done)
}
