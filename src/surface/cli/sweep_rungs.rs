//! What a sweep by rungs is going to do, in words and as JSON.

use serde_json::{Value, json};

use super::console::count;
use crate::session::sweep::{PlannedRung, Promotions, Rungs};

/// As lines.
pub(super) fn text(planned: &Rungs) -> String {
    let mut lines = vec![format!("successive halving of `{}` by dev {}:", planned.stage, planned.metric)];
    for (number, rung) in planned.rungs.iter().enumerate() {
        let name = match number + 1 == planned.rungs.len() {
            true => "the end".to_owned(),
            false => format!("rung {}, at 1/{} of the steps", number + 1, rung.part),
        };
        let steps = rung.steps.map_or_else(String::new, |steps| format!(", to step {}", span(steps)));
        let (settings, cells) = (count(rung.settings, "setting"), count(rung.cells, "cell"));
        lines.push(format!("  {name}: {settings}, {cells}{steps}"));
    }
    if let Some(total) = planned.total {
        lines.push(format!("  about {}", share(total)));
    }
    lines.join("\n")
}

/// As the part of `--json`.
pub(super) fn json(planned: &Rungs) -> Value {
    let rung = |rung: &PlannedRung| {
        let steps = rung.steps.map(|(least, most)| if least == most { json!(least) } else { json!([least, most]) });
        json!({ "part": rung.part, "settings": rung.settings, "cells": rung.cells, "steps": steps })
    };
    value(planned, planned.rungs.iter().map(rung).collect(), planned.total)
}

/// As the part of a result's `--json`: what became of each rung that was decided.
pub(super) fn outcome(planned: &Rungs, promotions: &Promotions) -> Value {
    let rung = |(rung, (compared, going_on)): (&PlannedRung, &(usize, usize))| json!({ "part": rung.part, "settings": compared, "going_on": going_on });
    let rungs = planned.rungs.iter().zip(&promotions.decided).map(rung).collect();
    value(planned, rungs, Some(promotions.steps))
}

fn value(planned: &Rungs, rungs: Vec<Value>, steps: Option<(usize, usize)>) -> Value {
    let (used, full) = steps.unzip();
    json!({ "stage": planned.stage, "metric": planned.metric, "rungs": rungs, "steps": used, "full_steps": full })
}

fn span((least, most): (usize, usize)) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Such as `336 of 1296 steps, 26 %`.
pub(super) fn share((used, full): (usize, usize)) -> String {
    format!("{used} of {full} steps, {:.0} %", 100.0 * used as f64 / full.max(1) as f64)
}
