//! What can be found wrong with a recipe by reading its data: labels that have no word, before anything runs.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    data,
    plan::{Graph, Node, Planned, Status},
    recipe::{
        Checked, Diagnostics,
        spec::{Classification, Source, Stage, Task},
    },
};

/// Checks the data of the stages that a run would have to compute.
///
/// # Errors
/// All mistakes, as [`Diagnostics`]; unreadable data, which names file and row.
pub fn preflight(checked: &Checked, graph: &Graph, planned: &[Planned]) -> Result<()> {
    let missing = planned.iter().filter(|stage| !matches!(stage.status, Status::Hit(_)));
    let nodes: Vec<&Node> = missing.filter_map(|stage| graph.get(&stage.name)).collect();
    check_data(checked, &nodes)
}

/// Checks the rows that these stages read.
///
/// # Errors
/// As [`preflight`].
pub fn check_data(checked: &Checked, nodes: &[&Node]) -> Result<()> {
    let mut found = Vec::new();
    for node in nodes {
        match &node.stage {
            Stage::Finetune(spec) => {
                let Task::Classification(task) = &spec.task;
                check_source(checked, &node.name, "finetune", "data.train", &spec.data.train, node, task, &mut found)?;
                if let Some(dev) = &spec.data.dev {
                    check_source(checked, &node.name, "finetune", "data.dev", dev, node, task, &mut found)?;
                }
            }
            Stage::Eval(spec) => {
                let task = match checked.recipe.stages.get(&spec.model) {
                    Some(Stage::Finetune(finetune)) => {
                        let Task::Classification(task) = &finetune.task;
                        task
                    }
                    _ => continue,
                };
                if let Some(data) = &spec.data {
                    check_source(checked, &node.name, "eval", "data", data, node, task, &mut found)?;
                }
            }
            Stage::Tokenize(_) | Stage::Pretrain(_) => {}
        }
    }
    Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
}

#[expect(clippy::too_many_arguments, reason = "where a source stands takes three names")]
fn check_source(
    checked: &Checked,
    stage: &str,
    kind: &str,
    field: &str,
    source: &Source,
    node: &Node,
    task: &Classification,
    found: &mut Vec<Diagnostics>,
) -> Result<()> {
    let pointer = format!("{field}.path");
    // For each label without a word: the place where it's seen first, and how often it's seen.
    let mut unknown: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for file in node.files.get(&pointer).into_iter().flatten() {
        for row in data::rows(source, file)? {
            let row = row?;
            let Some(label) = row.get(&task.label) else { continue };
            if !task.words.contains_key(label) {
                let place = || (format!("{}: row {}", file.display(), row.number), 0);
                unknown.entry(label.to_owned()).or_insert_with(place).1 += 1;
            }
        }
    }
    for (label, (place, rows)) in unknown {
        let message = format!("label `{label}` in the data has no word");
        let hint = format!("{place} has it first, of {rows} rows; add it to the `words` of the finetune stage");
        found.push(checked.diagnose(&format!("stages.{stage}.{kind}.{pointer}"), message, hint));
    }
    Ok(())
}
