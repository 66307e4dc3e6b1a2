//! What can be found wrong with a recipe beyond its own text: labels in the data that have no word, checkpoints that
//! can't be read, and secrets that would be recorded. All before anything runs.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use anyhow::Result;

use super::{checkpoints, rows};
use crate::{
    engine::plan::Node,
    learning::objectives::Conversation,
    recipe::{Checked, Diagnostics},
    spec::{Classification, Source, Stage, Task},
};

/// Checks checkpoints, and the rows of finetuned models; the same rows for the same task once only, in however many
/// stages and cells they are.
#[derive(Default)]
pub struct DataCheck {
    done: HashSet<String>,
}

/// Rows that a stage reads.
struct Used<'a> {
    /// Dotted path of the source in the recipe.
    place: String,
    /// Field of the source's path in the stage's spec.
    field: String,
    source: &'a Source,
    task: &'a Task,
}

impl DataCheck {
    /// Checks the rows and the checkpoints that these stages read.
    ///
    /// # Errors
    /// All mistakes, as [`Diagnostics`]; unreadable data, which names file and row.
    pub fn check<'a>(&mut self, checked: &Checked, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let mut found = Vec::new();
        for node in nodes {
            found.extend(checkpoints::check(checked, node)?);
            let stage = super::of(node)?;
            for used in used(checked, node, &stage) {
                for file in node.files.get(&used.field).into_iter().flatten() {
                    self.file(checked, &used, file, &mut found)?;
                }
            }
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }

    fn file(&mut self, checked: &Checked, used: &Used<'_>, file: &PathBuf, found: &mut Vec<Diagnostics>) -> Result<()> {
        let Used { place, source, task, .. } = used;
        let files = std::slice::from_ref(file);
        match task {
            Task::Classification(task) => {
                if self.done.insert(format!("{file:?} {source:?} {} {:?}", task.label, task.words)) {
                    found.extend(without_words(checked, place, source, files, task)?);
                }
            }
            Task::Instruction(task) => {
                if self.done.insert(format!("{file:?} {source:?} {:?}", task.columns())) {
                    rows::read(source, files, &task.lists(), |_, row| {
                        Conversation::read(task, &|column: &str| row.get(column).map(str::to_owned)).map(drop)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The labels that no word stands for, each with the row where it's seen first and how often it's seen.
fn without_words(
    checked: &Checked,
    place: &str,
    source: &Source,
    files: &[PathBuf],
    task: &Classification,
) -> Result<Vec<Diagnostics>> {
    let unknown = rows::read(source, files, &[], |_, row| {
        let label = row.get(&task.label).filter(|label| !task.words.contains_key(*label));
        Ok(label.map(|label| (label.to_owned(), row.number)))
    })?;
    let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (label, row) in unknown.into_iter().flatten() {
        seen.entry(label).or_insert((row, 0)).1 += 1;
    }
    let report = |(label, (row, count)): (String, (usize, usize))| {
        let file = files.iter().map(|file| file.display().to_string()).collect::<String>();
        let message = format!("label `{label}` in the data has no word");
        let rows = if count == 1 { "the only such row".to_owned() } else { format!("the first of {count} rows") };
        let hint = format!("{file}: row {row} has it, {rows}; add it to the `words` of the finetune stage");
        checked.diagnose(place, message, hint)
    };
    Ok(seen.into_iter().map(report).collect())
}

/// The rows that a stage reads for a finetuned model.
fn used<'a>(checked: &'a Checked, node: &Node, stage: &'a Stage) -> Vec<Used<'a>> {
    let rows = |field: &str, source: &'a Source, task: &'a Task| {
        let field = format!("{field}.path");
        Used { place: format!("stages.{}.{}.{field}", node.name, node.kind), field, source, task }
    };
    match stage {
        Stage::Finetune(spec) => {
            let dev = spec.data.dev.as_ref().map(|dev| rows("data.dev", dev, &spec.task));
            [rows("data.train", &spec.data.train, &spec.task)].into_iter().chain(dev).collect()
        }
        Stage::Eval(spec) => match (checked.recipe.stages.get(&spec.model), &spec.data) {
            (Some(Stage::Finetune(finetune)), Some(data)) => vec![rows("data", data, &finetune.task)],
            _ => Vec::new(),
        },
        Stage::Tokenize(_) | Stage::Pretrain(_) | Stage::Import(_) | Stage::Export(_) => Vec::new(),
    }
}

/// Checks that nothing is to be recorded in the clear which must not be: a model carries its task, objectives and sizes
/// along, its curve shows how it was trained, a sweep's table shows its values, and a seed stands in the manifest.
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
                (_, Some("train"), _) => Some("how a model was trained shows in its curve and figures"),
                (_, Some("model"), Some(_)) => Some("a model's sizes stand in its config.json"),
                (_, Some("objectives"), _) => Some("objectives are stored with their model"),
                (_, Some("tokenizer"), part) if part != Some("file") => Some("a tokenizer shows its settings"),
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
