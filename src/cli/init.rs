//! `pipe init`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::{Map, Value};

use super::{DONE, args::Init, progress};
use crate::{
    data,
    recipe::{schema, spec::Source},
    store::canonical_json,
};

/// More labels than this are no classes.
const MOST_LABELS: usize = 200;

/// `pipe init DIR --data FILE`: splits the file into train, dev and test rows, and writes a commented recipe for them.
pub(super) fn init(command: &Init) -> Result<u8> {
    let recipe = command.dir.join("recipe.yaml");
    ensure!(!recipe.exists(), "{} is there already", recipe.display());
    let table = Table::read(&command.data)?;
    let label = table.label_column(command.label.as_deref())?;
    let text = table.text_column(command.text.as_deref(), &label)?;
    let labels = table.labels(&label)?;

    let parts = table.split();
    fs::create_dir_all(command.dir.join("data"))?;
    for (name, rows) in ["train", "dev", "test"].into_iter().zip(&parts) {
        fs::write(command.dir.join(format!("data/{name}.jsonl")), rows.concat())?;
    }
    fs::write(&recipe, recipe_text(&variable(&text), &variable(&label), &labels))?;
    fs::write(command.dir.join("recipe.schema.json"), schema::text())?;

    let counts: Vec<_> = parts.iter().map(|rows| rows.len().to_string()).collect();
    progress::say(&format!(
        "{}: `{text}` to be sorted by `{label}` into {} labels; {} rows for training, dev and test",
        recipe.display(),
        labels.len(),
        counts.join(" / ")
    ));
    progress::say(&format!("now: pipe run {}", recipe.display()));
    Ok(DONE)
}

struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let source: Source = serde_json::from_value(serde_json::json!({ "path": path.to_string_lossy() }))?;
        let reader = data::rows(&source, path)?;
        let columns = reader.columns().to_vec();
        let mut rows = Vec::new();
        for row in reader {
            let row = row?;
            rows.push(columns.iter().map(|column| row.get(column).unwrap_or_default().to_owned()).collect());
        }
        ensure!(rows.len() >= 30, "{} has {} rows; 30 are the least to learn from", path.display(), rows.len());
        Ok(Self { columns, rows })
    }

    fn values(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row[column].as_str())
    }

    fn column(&self, name: &str) -> Result<String> {
        ensure!(
            self.columns.iter().any(|column| column == name),
            "there is no column `{name}`; the file has {}",
            self.columns.join(", ")
        );
        Ok(name.to_owned())
    }

    fn label_column(&self, wanted: Option<&str>) -> Result<String> {
        if let Some(name) = wanted {
            return self.column(name);
        }
        if self.columns.iter().any(|column| column == "label") {
            return Ok("label".into());
        }
        let distinct = |column: usize| self.values(column).collect::<BTreeSet<_>>().len();
        let candidates = (0..self.columns.len()).filter(|&column| distinct(column) > 1);
        let fewest = candidates.min_by_key(|&column| distinct(column));
        let fewest = fewest.context("no column has several values; name the labels' with --label")?;
        Ok(self.columns[fewest].clone())
    }

    fn text_column(&self, wanted: Option<&str>, label: &str) -> Result<String> {
        if let Some(name) = wanted {
            return self.column(name);
        }
        let length = |column: usize| self.values(column).map(str::len).sum::<usize>();
        let candidates = (0..self.columns.len()).filter(|&column| self.columns[column] != label);
        let longest = candidates.max_by_key(|&column| length(column));
        let longest = longest.context("there is no column beside the labels'; name the text's with --text")?;
        Ok(self.columns[longest].clone())
    }

    fn labels(&self, column: &str) -> Result<BTreeMap<String, usize>> {
        let mut labels = BTreeMap::new();
        for row in &self.rows {
            let at = self.columns.iter().position(|name| name == column).unwrap_or_default();
            *labels.entry(row[at].clone()).or_insert(0) += 1;
        }
        match labels.len() {
            0 | 1 => bail!("column `{column}` has only one value; name the labels' column with --label"),
            2..=MOST_LABELS => Ok(labels),
            more => bail!("column `{column}` has {more} values, too many for labels; name another with --label"),
        }
    }

    /// JSON lines for training, dev and test: 80, 10 and 10 in a hundred. A row's content decides where it goes, so
    /// equal rows stay together.
    fn split(&self) -> [Vec<String>; 3] {
        let mut parts: [Vec<String>; 3] = Default::default();
        for row in &self.rows {
            let fields = self
                .columns
                .iter()
                .map(|column| variable(column))
                .zip(row.iter().map(|field| Value::from(field.as_str())));
            let line = canonical_json(&Value::Object(fields.collect::<Map<_, _>>()));
            let part = match blake3::hash(line.as_bytes()).as_bytes()[0] % 10 {
                0 => 2,
                1 => 1,
                _ => 0,
            };
            parts[part].push(format!("{line}\n"));
        }
        parts
    }
}

/// A column's name as a template can say it: whatever isn't a letter, a digit or `_` becomes `_`.
fn variable(column: &str) -> String {
    let plain: String = column.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if plain.starts_with(|first: char| first.is_numeric()) { format!("_{plain}") } else { plain }
}

fn recipe_text(text: &str, label: &str, labels: &BTreeMap<String, usize>) -> String {
    let quote = |text: &str| Value::from(text).to_string();
    let words: Vec<_> = labels
        .iter()
        .map(|(label, rows)| format!("            {}: {}    # {rows} rows", quote(label), quote(label)))
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
  # to `corpus` (.txt, .tsv, .csv, .jsonl, .parquet; globs such as more/*.txt work, too).
  tokens:
    tokenize:
      tokenizer:
        unigram: {{ vocab_size: 8000 }}
      corpus:
        - {{ path: data/train.jsonl, text: [{quoted}] }}

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
