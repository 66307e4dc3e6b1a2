//! `pipe plan`.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    DONE,
    args::{Plan, PlanFormat},
    estimates::Estimates,
    load::{self, Loaded},
    ls::bytes,
    progress,
};
use crate::{
    engine::{
        plan::{Planned, Status, fetched, mermaid},
        store::{Artifact, DigestCache, Store},
    },
    stages::DeviceCheck,
};

pub(super) use super::args::PlanFormat as Form;

/// `pipe plan RECIPE`.
pub(super) fn plan(command: &Plan, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let Loaded { checked, mut graph } = load::load(&command.recipe)?;
    let devices = load::devices(&command.place, &checked)?;
    graph.select(&command.stages)?;
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let remote = load::remote(remote, &store)?;
    let planned = crate::engine::plan::plan(&graph, &store, remote.as_deref(), &mut digests, &[])?;
    DeviceCheck::new(&devices).check(&checked, &graph, &planned)?;
    let estimates = Estimates::new(&graph, &planned, &devices);
    print(&planned, &estimates, if command.json { PlanFormat::Json } else { command.format })
}

/// Prints a plan.
pub(super) fn print(planned: &[Planned], estimates: &Estimates, form: PlanFormat) -> Result<u8> {
    let text = match form {
        PlanFormat::Text => match estimates.table() {
            Some(training) => format!("{}\n\n{training}", table(planned)),
            None => table(planned),
        },
        PlanFormat::Json => serde_json::to_string_pretty(&json!({ "stages": stages(planned, estimates) }))?,
        PlanFormat::Mermaid => mermaid(planned),
    };
    progress::put(&text)?;
    Ok(DONE)
}

fn table(planned: &[Planned]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "plan", "why"]);
    let fetched = fetched(planned);
    for stage in planned {
        let (plan, why) = match &stage.status {
            Status::Hit(artifact) => ("unchanged", artifact.key[..12].to_owned()),
            Status::Remote(artifact) if fetched.contains(stage.name.as_str()) => {
                ("fetch", format!("{}, {}", &artifact.key[..12], bytes(artifact.bytes())))
            }
            Status::Remote(artifact) => ("in the remote", format!("{}, its figures are enough", &artifact.key[..12])),
            Status::Miss { reason, from: None, .. } => ("run", reason.clone()),
            Status::Miss { reason, from: Some(step), .. } => {
                ("continue", format!("goes on after step {step}; {reason}"))
            }
            Status::Waits(on) => ("depends", format!("on what {} gives", on.join(", "))),
        };
        table.add_row([&stage.name, stage.kind, plan, &why]);
    }
    table.to_string()
}

fn stages(planned: &[Planned], estimates: &Estimates) -> Value {
    let fetched = fetched(planned);
    let stage = |stage: &Planned| {
        let (status, key, reason, from) = match &stage.status {
            Status::Hit(artifact) => ("hit", Some(artifact.key.clone()), None, None),
            Status::Remote(artifact) => ("remote", Some(artifact.key.clone()), None, None),
            Status::Miss { key, reason, from } => ("miss", Some(key.clone()), Some(reason.clone()), *from),
            Status::Waits(on) => ("waits", None, Some(format!("depends on what {} gives", on.join(", "))), None),
        };
        json!({
            "kind": stage.kind,
            "needs": stage.needs,
            "status": status,
            "key": key,
            "reason": reason,
            "continues_from": from,
            "fetch_bytes": stage.status.artifact().filter(|_| fetched.contains(stage.name.as_str())).map(Artifact::bytes),
            "estimate": estimates.json(&stage.name),
        })
    };
    planned.iter().map(|planned| (planned.name.clone(), stage(planned))).collect::<serde_json::Map<_, _>>().into()
}
