//! The graph as a Mermaid flow chart.

use super::Plan;

/// A Mermaid flow chart: stages as boxes, coloured by hit or miss.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (id, planned) in plan.stages() {
        let (kind, state) = (&planned.node.kind, planned.status.word());
        text.push_str(&format!("    {id}[\"{id}<br/><small>{kind} · {state}</small>\"]:::{state}\n"));
    }
    for (id, planned) in plan.stages() {
        for need in planned.node.needs.values() {
            text.push_str(&format!("    {need} --> {id}\n"));
        }
    }
    text.push_str("    classDef hit fill:#d5f0d5,stroke:#3a7d3a,color:#123\n");
    text.push_str("    classDef remote fill:#d6e6f5,stroke:#2f6690,color:#123\n");
    text.push_str("    classDef miss fill:#fbe3c8,stroke:#b5651d,color:#123\n");
    text.push_str("    classDef waits fill:#eee,stroke:#888,color:#123\n");
    text
}
