//! What can be found wrong with a recipe beyond its own text: labels in the data that have no word, checkpoints that
//! can't be read, secrets that would be recorded, and devices that can't do what is asked of them. All before anything
//! runs.

mod checkpoints;
mod devices;
mod place;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use anyhow::Result;
use serde::de::DeserializeOwned;

use super::{Field, kind_of, parts::rows};
use crate::{
    data,
    engine::plan::Node,
    learning::objectives::{Conversation, prompt::Template},
    recipe::{Checked, Diagnostics},
    spec::{Classification, DocumentUnit, Source, Task},
};

pub use devices::DeviceCheck;
use place::pointer;

/// Documents of a file that are looked at.
const BEGINNING: usize = 1_000;
/// Bytes of a file that isn't read for a look, where it's a single document.
const LARGE: u64 = 1 << 26;

/// Checks checkpoints, the beginnings of corpora, and the rows of finetuned models; the same rows for the same task once only, in however many
/// stages and cells they are.
#[derive(Default)]
pub struct DataCheck {
    done: HashSet<String>,
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
            let (kind, settings) = (kind_of(node)?, &node.settings);
            kind.preflight(settings, &mut Preflight { checked, node, done: &mut self.done, found: &mut found })?;
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }
}

/// What a kind of stage looks at before one of its stages runs.
pub struct Preflight<'a> {
    checked: &'a Checked,
    node: &'a Node,
    done: &'a mut HashSet<String>,
    found: &'a mut Vec<Diagnostics>,
}

impl Preflight<'_> {
    /// The settings of another stage of the recipe, if it's of their kind.
    pub fn settings_of<T: DeserializeOwned>(&self, stage: &str) -> Option<T> {
        self.checked.recipe.stages.get(stage)?.settings_as().ok()
    }

    /// The files that a field names.
    pub fn files(&self, field: Field) -> &[PathBuf] {
        self.node.files.get(field.0).map(Vec::as_slice).unwrap_or_default()
    }

    /// Reports a mistake at a field.
    pub fn report(&mut self, field: &str, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.found.push(self.checked.diagnose(&pointer(self.node, field), message, hint));
    }

    /// Opens the files of a corpus, by the place of their source in the settings, such as `corpus.0.path`, and looks at what
    /// can be looked at without reading all of them: their beginnings, and how they're compressed.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn documents(&mut self, pointer: &str, source: &Source) -> Result<()> {
        for file in self.node.files.get(pointer).into_iter().flatten() {
            let is_read_whole = matches!(source.document, DocumentUnit::File);
            let is_large = std::fs::metadata(file).is_ok_and(|file| file.len() > LARGE);
            if self.done.insert(format!("{file:?} {source:?}")) && !(is_read_whole && is_large) {
                data::check_documents(source, file)?;
                data::documents(source, file)?.take(BEGINNING).try_for_each(|document| document.map(drop))?;
            }
        }
        Ok(())
    }

    /// Checks rows that are read for a task: labels need words, conversations have to be some. The same rows for the same
    /// task are looked at once, in however many stages and cells they are.
    ///
    /// # Errors
    /// Rows that can't be read.
    pub fn rows(&mut self, field: Field, source: &Source, task: &Task) -> Result<()> {
        for file in self.files(field).to_vec() {
            let files = std::slice::from_ref(&file);
            match task {
                Task::Classification(task) => {
                    let used = (&task.label, &task.words, &task.template);
                    if self.done.insert(format!("{file:?} {source:?} {used:?}")) {
                        for (message, hint) in without_words(source, files, task)? {
                            self.report(field.0, message, hint);
                        }
                    }
                }
                Task::Instruction(task) => {
                    if self.done.insert(format!("{file:?} {source:?} {:?}", task.columns())) {
                        rows::read(source, files, &task.used_columns(), &task.lists(), |_, row| {
                            Conversation::read(task, &|column: &str| row.get(column).map(str::to_owned)).map(drop)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The labels that no word stands for, each with the row where it's seen first and how often it's seen.
fn without_words(source: &Source, files: &[PathBuf], task: &Classification) -> Result<Vec<(String, String)>> {
    let template = Template::new(&task.template)?;
    let columns: Vec<&str> = template.columns().iter().chain([&task.label]).map(String::as_str).collect();
    let unknown = rows::read(source, files, &columns, &[], |_, row| {
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
        (message, hint)
    };
    Ok(seen.into_iter().map(report).collect())
}

/// Checks that nothing is to be recorded in the clear which must not be: the schema says of which fields that is so, and
/// why.
///
/// # Errors
/// All mistakes, as [`Diagnostics`].
pub fn check_secrets(checked: &Checked) -> Result<()> {
    let found = checked.secrets().keys().filter_map(|pointer| {
        let reason = checked.catalog().recorded(pointer)?;
        let message = format!("`{}` can't come out of env(): {reason}", checked.shown(pointer));
        Some(checked.diagnose(pointer, message, "give it with `--var`, or in the recipe".to_owned()))
    });
    Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
}
