//! `pipe plan`.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    args,
    args::PlanFormat,
    console::{self, bytes},
    estimates::Estimates,
    exit::Exit,
    load::{self, RemoteChoice},
    on,
};
use crate::{
    engine::{
        plan::{Key, Plan, Planned, Status, mermaid},
        store::{Artifact, short},
    },
    session::{Check, Checks, Wanted},
};

pub(super) use super::args::PlanFormat as Form;

/// `pipe plan RECIPE`.
pub(super) fn plan(command: &args::Plan, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let recipe = load::recipe(&command.recipe)?;
    let devices = load::devices(&command.device_options, &recipe)?;
    let wanted = Wanted { stages: command.stages.clone(), ..Wanted::default() };
    if let Some(on) = &command.on {
        let on = on::profile(on, &command.recipe)?;
        let session = load::session_on(&on, store, remote)?;
        let prepared = session.plan(&recipe, &wanted, devices)?;
        return on::print(&session.preview(prepared, &on)?, command.manifest, command.json);
    }
    let session = load::session(store, remote)?;
    let prepared = session.plan(&recipe, &wanted, devices)?;
    Checks::of_devices(&prepared.devices, &session.options().notify).check(prepared.upcoming())?;
    let estimates = Estimates::new(&prepared.graph, &prepared.plan, &prepared.devices);
    print(&prepared.plan, &estimates, if command.json { PlanFormat::Json } else { command.format })
}

/// Prints a plan.
pub(super) fn print(plan: &Plan, estimates: &Estimates, form: PlanFormat) -> Result<Exit> {
    let text = match form {
        PlanFormat::Text => match estimates.table() {
            Some(training) => format!("{}\n\n{training}", table(plan)),
            None => table(plan),
        },
        PlanFormat::Json => serde_json::to_string_pretty(&json!({ "stages": stages(plan, estimates) }))?,
        PlanFormat::Mermaid => mermaid(plan),
    };
    console::print(&text)?;
    Ok(Exit::Done)
}

fn table(plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "plan", "why"]);
    let fetched = plan.fetched();
    for (name, planned) in plan.stages() {
        let (word, why) = match &planned.status {
            Status::Hit(artifact) => ("unchanged", short(&artifact.key).to_owned()),
            Status::Remote(artifact) if fetched.contains(name) => {
                ("fetch", format!("{}, {}", short(&artifact.key), bytes(artifact.bytes())))
            }
            Status::Remote(artifact) => {
                ("in the remote", format!("{}, only its metrics are needed", short(&artifact.key)))
            }
            Status::Miss { from: None, .. } => ("run", reason(planned)),
            Status::Miss { from: Some(_), .. } => ("continue", reason(planned)),
            Status::Waits => ("depends", format!("on the output of {}", before(&planned.key))),
        };
        table.add_row([name, &planned.node.kind, word, &why]);
    }
    table.to_string()
}

/// Why a stage runs, or may have to; empty for one that is there.
pub(super) fn reason(planned: &Planned) -> String {
    match &planned.status {
        Status::Hit(_) | Status::Remote(_) => String::new(),
        Status::Miss { reason, from: None } => reason.to_string(),
        Status::Miss { reason, from: Some(step) } => format!("continues after step {step}; {reason}"),
        Status::Waits => format!("depends on the output of {}", before(&planned.key)),
    }
}

fn stages(plan: &Plan, estimates: &Estimates) -> Value {
    let fetched = plan.fetched();
    let stage = |name: &str, planned: &Planned| {
        let status = &planned.status;
        let (reason, from) = match status {
            Status::Hit(_) | Status::Remote(_) => (None, None),
            Status::Miss { reason, from } => (Some(reason.to_string()), *from),
            Status::Waits => (Some(format!("depends on the output of {}", before(&planned.key))), None),
        };
        json!({
            "kind": planned.node.kind,
            "needs": planned.node.needs.values().collect::<Vec<_>>(),
            "status": status.word(),
            "key": planned.key.known(),
            "reason": reason,
            "continues_from": from,
            "fetch_bytes": status.artifact().filter(|_| fetched.contains(name)).map(Artifact::bytes),
            "estimate": estimates.json(name),
        })
    };
    plan.stages()
        .map(|(name, planned)| (name.to_owned(), stage(name, planned)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The stages that a key is after.
fn before(key: &Key) -> String {
    match key {
        Key::Known(_) => String::new(),
        Key::After(stages) => stages.join(", "),
    }
}
