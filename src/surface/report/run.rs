//! What the last run did, out of its log: what `pipe log` tells.

use serde_json::{Value, json};

use crate::{
    session::log::{RunFile, Summary},
    support::clock::{date, duration},
};

/// The run's stages with their times, the longest, the critical path, and what the cache saved.
pub(super) fn section(file: &RunFile, summary: &Summary) -> Value {
    let path = summary.critical_path();
    let timed = |stages: &[(&str, f64)]| -> Vec<Value> {
        stages.iter().map(|(name, seconds)| json!([name, duration(*seconds)])).collect()
    };
    let stages: Vec<Value> = summary
        .stages
        .iter()
        .map(|(name, stage)| {
            json!({
                "name": name,
                "kind": stage.kind,
                "state": stage.word(),
                "time": if stage.seconds > 0.0 { duration(stage.seconds) } else { String::new() },
                "saved": if stage.saved > 0.0 { duration(stage.saved) } else { String::new() },
                "told": stage.told,
                "is_critical": path.iter().any(|(critical, _)| critical == name),
            })
        })
        .collect();
    json!({
        "name": file.id,
        "begun": summary.begun,
        "at": date(summary.at),
        "ended": summary.ended,
        "time": duration(summary.seconds),
        "saved": duration(summary.saved()),
        "stages": stages,
        "longest": timed(&summary.longest()),
        "path": timed(&path),
        "path_time": duration(path.iter().map(|(_, seconds)| seconds).sum()),
    })
}
