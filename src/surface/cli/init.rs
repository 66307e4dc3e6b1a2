//! `pipe init`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::Value;

use super::{
    args::Init,
    console, example,
    exit::{self, Exit},
    starter::{self, Starter},
};
use crate::{data, engine::store::canonical_json, recipe::schema, spec::Source, stages::catalog};

/// More labels than this are no classes.
const MOST_LABELS: usize = 200;
/// Fewer different rows than this can't be split into three parts that mean something.
const FEWEST_ROWS: usize = 30;
/// A column that is at least this much of the longest one in length, and in which this share of the values is different, is text,
/// too.
const ALSO_TEXT: f64 = 0.5;
/// Words that have a meaning of their own in a template.
const RESERVED: [&str; 13] =
    ["and", "else", "false", "False", "if", "in", "is", "none", "None", "not", "or", "true", "True"];

/// `pipe init DIR --example NAME`, or `pipe init DIR --data FILE`: splits the file into train, dev and test rows, and writes a commented recipe for them.
pub(super) fn init(command: &Init) -> Result<Exit> {
    let Some(data) = &command.data else {
        example::write(command.example.as_deref().unwrap_or_default(), &command.dir)?;
        return Ok(Exit::Done);
    };
    let table = Table::read(data, &command.encoding)?;
    let label = table.label_column(command.label.as_deref())?;
    let texts = table.text_columns(&command.text, label)?;
    let labels = table.labels(label)?;
    let parts = table.split();
    let tokens = |row: &Vec<String>| starter::tokens(texts.iter().map(|&column| row[column].as_str()));
    let starter = Starter {
        columns: texts.iter().map(|&column| table.names[column].as_str()).collect(),
        label: &table.names[label],
        labels: &labels,
        rows: parts[0].len(),
        lengths: table.rows.iter().map(tokens).collect(),
    };

    let files = [
        ("recipe.yaml", starter.recipe()),
        ("recipe.schema.json", schema::text(catalog())),
        ("data/train.jsonl", parts[0].concat()),
        ("data/dev.jsonl", parts[1].concat()),
        ("data/test.jsonl", parts[2].concat()),
    ];
    let files = files.map(|(name, content)| (command.dir.join(name), content));
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        bail!("{} already exists; nothing was written", there.display());
    }
    exit::work_begins();
    fs::create_dir_all(command.dir.join("data"))?;
    for (path, content) in &files {
        fs::write(path, content)?;
    }

    let recipe = files[0].0.display();
    let rows: Vec<_> = parts.iter().map(|rows| rows.len().to_string()).collect();
    let text = texts.iter().map(|&column| format!("`{}`", table.columns[column])).collect::<Vec<_>>().join(" and ");
    let (label, labels, rows) = (&table.columns[label], labels.len(), rows.join(" / "));
    console::eprint_line(&format!(
        "{recipe}: {text} to be sorted by `{label}` into {labels} labels; {rows} rows for training, dev and test"
    ));
    console::eprint_line(&format!("now: pipe run {recipe}"));
    Ok(Exit::Done)
}

struct Table {
    columns: Vec<String>,
    /// The columns' names as a template can use them.
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path, encoding: &str) -> Result<Self> {
        let source = serde_json::json!({ "path": path.to_string_lossy(), "encoding": encoding });
        let source: Source = serde_json::from_value(source)?;
        let reader = data::rows(&source, path)?;
        let columns = reader.columns().to_vec();
        let rows = reader.map(|row| Ok(row?.fields)).collect::<Result<Vec<_>>>()?;
        let different = rows.iter().collect::<BTreeSet<_>>().len();
        ensure!(
            different >= FEWEST_ROWS,
            "{} has {different} different rows; {FEWEST_ROWS} are the least to learn from",
            path.display()
        );
        let mut names = Vec::new();
        for column in &columns {
            names.push(variable(column, &names));
        }
        Ok(Self { columns, names, rows })
    }

    fn values(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row[column].as_str())
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.columns
            .iter()
            .position(|column| column == name)
            .with_context(|| format!("there is no column `{name}`; the file has {}", self.columns.join(", ")))
    }

    fn label_column(&self, wanted: Option<&str>) -> Result<usize> {
        if let Some(name) = wanted {
            return self.column(name);
        }
        if let Ok(label) = self.column("label") {
            return Ok(label);
        }
        let distinct = |column: usize| self.values(column).collect::<BTreeSet<_>>().len();
        let candidates = (0..self.columns.len()).filter(|&column| distinct(column) > 1);
        let fewest = candidates.min_by_key(|&column| distinct(column));
        fewest.context("no column has several values; name the label column with --label")
    }

    /// The columns with text in their order: those wanted, or the longest and whatever else looks like text of that kind, such as
    /// the other half of a pair, or a title.
    fn text_columns(&self, wanted: &[String], label: usize) -> Result<Vec<usize>> {
        if !wanted.is_empty() {
            return wanted.iter().map(|name| self.column(name)).collect();
        }
        let length = |column: usize| self.values(column).map(str::len).sum::<usize>();
        let candidates = (0..self.columns.len()).filter(|&column| column != label);
        let longest = candidates.clone().max_by_key(|&column| length(column));
        let longest =
            longest.context("there is no column besides the label column; name the text column with --text")?;
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let is_text = |column: usize| {
            let different = self.values(column).collect::<BTreeSet<_>>().len();
            // Numbers and codes are one word.
            let worded = self.values(column).filter(|value| starter::size(value) > 1).count();
            share(length(column), length(longest)) >= ALSO_TEXT
                && share(different, self.rows.len()) >= ALSO_TEXT
                && share(worded, self.rows.len()) >= ALSO_TEXT
        };
        Ok(candidates.filter(|&column| column == longest || is_text(column)).collect())
    }

    /// The labels, and how many rows have each.
    fn labels(&self, column: usize) -> Result<BTreeMap<&str, usize>> {
        let mut labels = BTreeMap::new();
        for label in self.values(column) {
            *labels.entry(label).or_insert(0) += 1;
        }
        let name = &self.columns[column];
        if let Some(rows) = labels.get("") {
            bail!("column `{name}` is empty in {rows} of {} rows; every row needs a label", self.rows.len());
        }
        match labels.len() {
            0 | 1 => bail!("column `{name}` has only one value; name the label column with --label"),
            2..=MOST_LABELS => Ok(labels),
            more => bail!("column `{name}` has {more} values, too many for labels; name another with --label"),
        }
    }

    /// JSON lines for training, dev and test: 80, 10 and 10 in a hundred. A row's content decides where it goes, so
    /// equal rows stay together.
    fn split(&self) -> [Vec<String>; 3] {
        let line = |row: &Vec<String>| -> String {
            let fields = self.names.iter().cloned().zip(row.iter().map(|field| Value::from(field.as_str())));
            canonical_json(&Value::Object(fields.collect()))
        };
        let hash = |line: &String| *blake3::hash(line.as_bytes()).as_bytes();
        let lines: Vec<String> = self.rows.iter().map(line).collect();
        let ranks: BTreeSet<_> = lines.iter().map(hash).collect();
        let ranks: BTreeMap<_, _> = ranks.iter().zip(0..).collect();
        let tenth = ranks.len().div_ceil(10);
        let mut parts: [Vec<String>; 3] = Default::default();
        for line in lines {
            let part = match ranks[&hash(&line)] / tenth {
                0 => 2,
                1 => 1,
                _ => 0,
            };
            parts[part].push(format!("{line}\n"));
        }
        parts
    }
}

/// A column's name as a template can use it, unlike those that are taken: whatever isn't a letter, a digit or `_`
/// becomes `_`.
fn variable(column: &str, taken: &[String]) -> String {
    let mut name: String =
        column.chars().map(|c| if c.is_alphabetic() || c.is_ascii_digit() || c == '_' { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    while taken.contains(&name) || RESERVED.contains(&name.as_str()) {
        name.push('_');
    }
    name
}
