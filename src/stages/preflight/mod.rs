//! What can be found wrong with a recipe beyond its own text: labels in the data that have no word, checkpoints that
//! can't be read, secrets that would be recorded, and devices that can't do what is asked of them. All before anything
//! runs.

mod checkpoints;
mod corpora;
mod data;
mod devices;
mod leaks;
mod place;
mod taken_over;
mod tokenizers;
mod trial;
mod words;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{BaseModel, Facts, Field, estimate::Lengths, parts::rows};
use crate::{
    data::{check_documents, documents, text::chat::check_order},
    engine::plan::Node,
    learning::objectives::{Conversation, OBJECTIVES, definition::ObjectiveRole, pairs::FRAME, prompt::Template},
    network::model::families,
    recipe::{Checked, Diagnostics, paths},
    spec::{
        ChatFormat, Classification, DocumentUnit, Finetune, Instruction, Objective, Part, Source, Task, Tokenize, Train,
    },
    support::Hinted,
};

pub use data::DataCheck;
pub use devices::{DeviceCheck, probe_training};
use place::pointer;
pub use taken_over::{TakenOver, TakenOverByStages};
use words::WordProblem;

/// Documents of a file that are looked at.
const BEGINNING: usize = 1_000;
/// Bytes of a file that isn't read for a look, where it's a single document.
const LARGE: u64 = 1 << 26;

/// What a kind of stage, by its name, says of settings.
type FactsOf<'a> = &'a dyn Fn(&str, &Value) -> Result<Facts>;

/// What a kind of stage looks at before one of its stages runs.
pub struct Preflight<'a> {
    checked: &'a Checked,
    node: &'a Node,
    facts: FactsOf<'a>,
    done: &'a mut HashSet<String>,
    found: &'a mut Vec<Diagnostics>,
    warnings: &'a mut Vec<Diagnostics>,
    counts_leaks: bool,
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

    /// Warns of something at a field.
    pub fn warn(&mut self, field: &str, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.warnings.push(self.checked.warn(&pointer(self.node, field), message, hint));
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
                check_documents(source, file)?;
                documents(source, file)?.take(BEGINNING).try_for_each(|document| document.map(drop))?;
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
        let format = chat_format(self.checked, self.node, task, self.facts);
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
                    if self.done.insert(format!("{file:?} {source:?} {:?} {format:?}", task.columns())) {
                        rows::read(source, files, &task.used_columns(), &task.lists(), |_, row| {
                            let lookup = |column: &str| row.get(column).map(str::to_owned);
                            check_order(&Conversation::read(task, &lookup)?.turns, format)
                        })?;
                    }
                }
                Task::MultiLabel(_) | Task::Regression(_) => {
                    let Some(task) = task.outputs() else { continue };
                    if self.done.insert(format!("{file:?} {source:?} {task:?}")) {
                        let (_, column) = task.column();
                        rows::read(source, files, &[column], &task.lists(), |_, row| {
                            let wanted = task.wanted(row.get(column).unwrap_or_default());
                            wanted.map(drop).map_err(|(message, hint)| Hinted::with(message, hint).into())
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks the words of a classifier's labels: there have to be training rows with each label, and the tokenizer has to
    /// tell the words apart.
    ///
    /// # Errors
    /// Rows that can't be read.
    pub fn words(&mut self, field: Field, source: &Source, task: &Classification) -> Result<()> {
        let files = self.files(field).to_vec();
        if !self.done.insert(format!("words {} {files:?} {source:?} {task:?}", self.node.name)) {
            return Ok(());
        }
        let labels =
            rows::read(source, &files, &[&task.label], &[], |_, row| Ok(row.get(&task.label).map(str::to_owned)))?;
        let labels: HashSet<String> = labels.into_iter().flatten().collect();
        for label in task.words.keys().filter(|label| !labels.contains(*label)) {
            let limited = if source.limit.is_some() { ", as far as `limit` lets them be read" } else { "" };
            let message = format!("no training row has the label `{label}`{limited}");
            let hint = "the model can't learn it: take it out of `words`, or add rows that have it".to_owned();
            self.warn(&format!("task.classification.words.{label}"), message, hint);
        }
        for WordProblem { label, is_warning, message, hint } in words::check(self.checked, &self.node.name, task)? {
            let place = format!("task.classification.words.{label}");
            if is_warning {
                self.warn(&place, message, hint.to_owned());
            } else {
                self.report(&place, message, hint.to_owned());
            }
        }
        Ok(())
    }

    /// Warns of rows to judge a classifier by which stand among its training rows, or nearly; only where that is asked for, since a
    /// run counts them anyway.
    ///
    /// # Errors
    /// Rows that can't be read.
    pub fn leaks(&mut self, field: Field, source: &Source, stage: &str, finetune: &Finetune) -> Result<()> {
        let Task::Classification(task) = &finetune.task else { return Ok(()) };
        let train = &finetune.data.train;
        let Ok(learned) = paths::resolve_path(&train.place(), &self.checked.dir) else { return Ok(()) };
        let judged = self.files(field).to_vec();
        let what = format!("leaks {learned:?} {train:?} {judged:?} {source:?} {}", task.template);
        if !self.counts_leaks || !self.done.insert(what) {
            return Ok(());
        }
        let leaked = leaks::count(&Template::new(&task.template)?, (train, &learned), (source, &judged))?;
        if let Some(message) = leaked.message(stage) {
            let hint = "an eval tells its metrics without them, too: `accuracy_without_leaks`, and \
                        `accuracy_without_near_leaks`"
                .to_owned();
            self.warn(field.0, message, hint);
        }
        Ok(())
    }

    /// Checks that the warm-up of a training on rows isn't longer than the training, where that depends on their number.
    ///
    /// # Errors
    /// Rows that can't be read.
    pub fn warm_up(&mut self, train: &Train) -> Result<()> {
        let (Some(warm_up), Some(epochs)) = (train.warmup_steps, train.epochs) else { return Ok(()) };
        let facts = (self.facts)(&self.node.kind, &self.node.settings)?;
        let steps = Lengths::default().of(self.node, &facts)?;
        if let Some((steps, _)) = steps.filter(|(steps, _)| warm_up > *steps) {
            let message = format!(
                "the warm-up of {warm_up} steps is longer than the training: {epochs} epochs of these rows are {steps} steps"
            );
            let hint = "`warmup_ratio: 0.1` is a tenth of the steps, however many they are".to_owned();
            self.report("train.warmup_steps", message, hint);
        }
        Ok(())
    }

    /// Checks that there are pairs of sentences in the corpora of a stage, for objectives that need some.
    pub fn pairs(&mut self, tokens: &str, objectives: &[Objective], max_length: usize) {
        let is_pairs = |part: &Part| OBJECTIVES.named(&part.name).is_some_and(|one| one.role == ObjectiveRole::Pairs);
        let entries = objectives.iter().enumerate();
        let found = entries.flat_map(|(index, entry)| entry.parts.iter().map(move |part| (index, part)));
        let Some((index, part)) = found.into_iter().find(|(_, part)| is_pairs(part)) else { return };
        let Some(tokenize) = self.settings_of::<Tokenize>(tokens) else { return };
        // A sentence longer than half of it is divided.
        let room = max_length.saturating_sub(FRAME) / 2;
        if !self.done.insert(format!("pairs {} {tokens} {room}", self.node.name))
            || !corpora::has_single_sentences_only(&tokenize, &self.checked.dir, room)
        {
            return;
        }
        let place = format!("objectives.{index}.{}", part.pointer());
        let message =
            format!("`{}` needs documents of two sentences or more, and each of `{tokens}` is one sentence", part.name);
        let hint =
            "a line of a .txt file is a document with `document: line`; with `paragraph` lines up to an empty one are";
        self.report(&place, message, hint.to_owned());
    }
}

/// The chat format that a task's conversations are written in, as far as it's known without the tokenizer.
fn chat_format(checked: &Checked, node: &Node, task: &Task, facts_of: FactsOf<'_>) -> Option<ChatFormat> {
    let Task::Instruction(Instruction { format: None, .. }) = task else {
        return if let Task::Instruction(task) = task { task.format } else { None };
    };
    let mut facts = facts_of(&node.kind, &node.settings).ok()?;
    for _ in 0..checked.recipe.stages.len() {
        match facts.base_model? {
            BaseModel::New { model, .. } => {
                // A tokenizer may have tokens for roles, and a trained one has none.
                let family = families::of_spec(&model).ok()?.chat?;
                return (!family.has_role_tokens() && family != ChatFormat::Chatglm2).then_some(family);
            }
            BaseModel::Stage { name, .. } => {
                let stage = checked.recipe.stages.get(&name)?;
                facts = facts_of(&stage.kind, &stage.settings).ok()?;
            }
            BaseModel::Checkpoint { .. } => return None,
        }
    }
    None
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
