//! What can be found wrong with a recipe beyond its own text: labels in the data that have no word, and secrets that
//! would be recorded. All before anything runs.

use std::collections::{BTreeMap, HashSet};

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
/// As [`DataCheck::check`].
pub fn preflight(checked: &Checked, graph: &Graph, planned: &[Planned]) -> Result<()> {
    let missing = planned.iter().filter(|stage| !matches!(stage.status, Status::Hit(_)));
    DataCheck::default().check(checked, missing.filter_map(|stage| graph.get(&stage.name)))
}

/// Checks labelled rows; the same rows for the same labels once only, in however many stages and cells they are.
#[derive(Default)]
pub struct DataCheck {
    done: HashSet<String>,
}

/// Labelled rows that a stage reads.
struct Labelled<'a> {
    /// Dotted path of the source in the recipe.
    place: String,
    /// Field of the source's path in the stage's spec.
    field: String,
    source: &'a Source,
    task: &'a Classification,
}

impl DataCheck {
    /// Checks the rows that these stages read.
    ///
    /// # Errors
    /// All mistakes, as [`Diagnostics`]; unreadable data, which names file and row.
    pub fn check<'a>(&mut self, checked: &Checked, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let mut found = Vec::new();
        for node in nodes {
            for rows in labelled(checked, node) {
                self.rows(checked, node, &rows, &mut found)?;
            }
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }

    fn rows(
        &mut self,
        checked: &Checked,
        node: &Node,
        rows: &Labelled<'_>,
        found: &mut Vec<Diagnostics>,
    ) -> Result<()> {
        let Labelled { place, field, source, task } = rows;
        // For each label without a word: the place where it's seen first, and how often it's seen.
        let mut unknown: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for file in node.files.get(field).into_iter().flatten() {
            if !self.done.insert(format!("{file:?} {source:?} {} {:?}", task.label, task.words)) {
                continue;
            }
            for row in data::rows(source, file)? {
                let row = row?;
                let Some(label) = row.get(&task.label) else { continue };
                if !task.words.contains_key(label) {
                    let place = || (format!("{}: row {}", file.display(), row.number), 0);
                    unknown.entry(label.to_owned()).or_insert_with(place).1 += 1;
                }
            }
        }
        for (label, (row, count)) in unknown {
            let message = format!("label `{label}` in the data has no word");
            let rows = if count == 1 { "the only such row".to_owned() } else { format!("the first of {count} rows") };
            let hint = format!("{row} has it, {rows}; add it to the `words` of the finetune stage");
            found.push(checked.diagnose(place, message, hint));
        }
        Ok(())
    }
}

fn labelled<'a>(checked: &'a Checked, node: &'a Node) -> Vec<Labelled<'a>> {
    let rows = |field: &str, source: &'a Source, task: &'a Classification| {
        let field = format!("{field}.path");
        Labelled { place: format!("stages.{}.{}.{field}", node.name, node.stage.kind()), field, source, task }
    };
    match &node.stage {
        Stage::Finetune(spec) => {
            let Task::Classification(task) = &spec.task;
            let dev = spec.data.dev.as_ref().map(|dev| rows("data.dev", dev, task));
            [rows("data.train", &spec.data.train, task)].into_iter().chain(dev).collect()
        }
        Stage::Eval(spec) => match (checked.recipe.stages.get(&spec.model), &spec.data) {
            (Some(Stage::Finetune(finetune)), Some(data)) => {
                let Task::Classification(task) = &finetune.task;
                vec![rows("data", data, task)]
            }
            _ => Vec::new(),
        },
        Stage::Tokenize(_) | Stage::Pretrain(_) | Stage::Import(_) | Stage::Export(_) => Vec::new(),
    }
}

/// Checks that nothing is to be recorded in the clear which must not be: a model carries its task along, a sweep's table
/// shows its values, and a seed stands in the manifest.
///
/// # Errors
/// All mistakes, as [`Diagnostics`].
pub fn check_secrets(checked: &Checked) -> Result<()> {
    let recorded = |pointer: &str| {
        let mut parts = pointer.split('.');
        match parts.next() {
            Some("stages") => match (parts.nth(1), parts.next(), parts.next()) {
                (Some("finetune"), Some("task"), _) => Some("a task is stored with its model"),
                (_, Some("train"), Some("seed")) => Some("seeds are recorded with results"),
                _ => None,
            },
            Some("seed") => Some("seeds are recorded with results"),
            Some("sweep") => Some("a sweep's settings stand in its table"),
            _ => None,
        }
    };
    let found = checked.secrets().keys().filter_map(|pointer| {
        let message = format!("`{}` can't come out of env(): {}", checked.shown(pointer), recorded(pointer)?);
        Some(checked.diagnose(pointer, message, "give it with `--var`, or in the recipe".to_owned()))
    });
    Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
}
