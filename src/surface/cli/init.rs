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
    console::{self, count},
    example,
    exit::{self, Exit},
};
use crate::{data, engine::store::canonical_json, recipe::schema, spec::Source, stages::catalog};

/// More labels than this are no classes.
const MOST_LABELS: usize = 200;
/// Fewer different rows than this can't be split into three parts that mean something.
const FEWEST_ROWS: usize = 30;
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
    let text = table.text_column(command.text.as_deref(), label)?;
    let labels = table.labels(label)?;
    let parts = table.split();

    let files = [
        ("recipe.yaml", recipe_text(&table.names[text], &table.names[label], &labels)),
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
    let (text, label) = (&table.columns[text], &table.columns[label]);
    let (labels, rows) = (labels.len(), rows.join(" / "));
    console::eprint_line(&format!(
        "{recipe}: `{text}` to be sorted by `{label}` into {labels} labels; {rows} rows for training, dev and test"
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

    fn text_column(&self, wanted: Option<&str>, label: usize) -> Result<usize> {
        if let Some(name) = wanted {
            return self.column(name);
        }
        let length = |column: usize| self.values(column).map(str::len).sum::<usize>();
        let candidates = (0..self.columns.len()).filter(|&column| column != label);
        let longest = candidates.max_by_key(|&column| length(column));
        longest.context("there is no column besides the label column; name the text column with --text")
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

fn recipe_text(text: &str, label: &str, labels: &BTreeMap<&str, usize>) -> String {
    let quote = |text: &str| Value::from(text).to_string();
    let words: Vec<_> = labels
        .iter()
        .map(|(label, rows)| format!("            {0}: {0}    # {1}", quote(label), count(*rows, "row")))
        .collect();
    let words = words.join("\n");
    format!(
        r#"# yaml-language-server: $schema=recipe.schema.json
#
# Sorts `{text}` by `{label}`. Run it with: pipe run recipe.yaml
# Everything is cached: change a setting, and only what depends on it runs again. `pipe plan recipe.yaml` tells what.

seed: 1

stages:
  # A tokenizer made for your texts, and the texts encoded with it. More unlabelled text makes a better model: add files
  # to `corpus` and `train_on` (.txt, .tsv, .csv, .jsonl, .json, .parquet, .arrow; globs such as more/*.txt work, too).
  tokens:
    tokenize:
      tokenizer:
        unigram: {{ vocab_size: 8000 }}
      corpus:
        - {{ path: data/train.jsonl, text: [{quoted}] }}
      # Labels, too, so that the tokenizer knows the words of the classifier.
      train_on:
        - {{ path: data/train.jsonl, text: [{quoted}, {label}] }}

  # A small model that learns the language of your texts by guessing masked words. Make it larger if you have the time.
  language:
    pretrain:
      tokens: tokens
      model:
        glm: {{ hidden: 128, layers: 2, heads: 2, max_length: 256 }}
      objectives:
        - masked_lm: {{}}
      train: {{ epochs: 10, batch: {{ tokens: 4096 }}, lr: 1.0e-3, warmup_ratio: 0.06 }}

  # The classifier. [Classification] is where the model answers with one of the words below.
  classifier:
    finetune:
      from: language
      data:
        train: {{ path: data/train.jsonl }}
        dev: {{ path: data/dev.jsonl }}
      task:
        classification:
          label: {label}
          template: "[Classification]：{{{{ {text} }}}}"
          # Each label of the data, and the word that stands for it. Words that say what a label means help the model.
          words:
{words}
      train: {{ epochs: 4, batch: {{ examples: 32 }}, lr: 5.0e-4, warmup_ratio: 0.1, keep_best: accuracy }}

  # How good is it, on rows that it has never seen, beside two simple baselines?
  test:
    eval:
      model: classifier
      data: {{ path: data/test.jsonl }}
"#,
        quoted = quote(text),
        label = quote(label),
    )
}
