//! The graph as a Mermaid flow chart.

use super::{Planned, Status};

/// A Mermaid flow chart: stages as boxes, coloured by hit or miss.
pub fn mermaid(planned: &[Planned]) -> String {
    let mut text = String::from("flowchart LR\n");
    for stage in planned {
        let state = match stage.status {
            Status::Hit(_) => "hit",
            Status::Remote(_) => "remote",
            Status::Miss { .. } => "miss",
            Status::Waits(_) => "waits",
        };
        text.push_str(&format!(
            "    {0}[\"{0}<br/><small>{1} · {state}</small>\"]:::{state}\n",
            stage.name, stage.kind
        ));
    }
    for stage in planned {
        for need in &stage.needs {
            text.push_str(&format!("    {need} --> {}\n", stage.name));
        }
    }
    text.push_str("    classDef hit fill:#d5f0d5,stroke:#3a7d3a,color:#123\n");
    text.push_str("    classDef remote fill:#d6e6f5,stroke:#2f6690,color:#123\n");
    text.push_str("    classDef miss fill:#fbe3c8,stroke:#b5651d,color:#123\n");
    text.push_str("    classDef waits fill:#eee,stroke:#888,color:#123\n");
    text
}
