//! The recipe that `pipe init` writes for labelled rows. What was best on rows that weren't learned from, by
//! docs/performance.md: it depends on how much text there is, and on how much of it can be learned in a few minutes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::console::count;
use crate::support::{Unit, units};

/// Tokens that pretraining reads at most, and finetuning: together some ten minutes on two cores without AVX-512.
const PRETRAINED: f64 = 6.5e6;
const FINETUNED: f64 = 3.5e6;
/// With fewer tokens than this there is little text.
const LITTLE: f64 = 3.0e5;
/// The model's longest sequence.
const LONGEST: usize = 256;
/// The share of the rows that are read whole, if the model can.
const WHOLE: f64 = 0.95;
/// Tokens of a row that aren't its text's: special ones, and the word of its label.
const FRAME: f64 = 6.0;

/// What is known of the rows.
pub(super) struct Starter<'a> {
    /// The columns with text, as a template names them.
    pub columns: Vec<&'a str>,
    /// The label's.
    pub label: &'a str,
    /// The labels, and how many rows have each.
    pub labels: &'a BTreeMap<&'a str, usize>,
    /// Rows to learn from.
    pub rows: usize,
    /// How many tokens rows have, by estimate.
    pub lengths: Vec<f64>,
}

/// How to learn texts of one size.
struct Settings {
    tokenizer: &'static str,
    /// The share of the words to guess, where it isn't the usual one.
    masked: &'static str,
    pretrain: String,
    finetune: String,
}

impl Starter<'_> {
    /// The text.
    pub(super) fn recipe(&self) -> String {
        let quote = |text: &str| Value::from(text).to_string();
        let words: Vec<_> = self
            .labels
            .iter()
            .map(|(label, rows)| format!("            {0}: {0}    # {1}", quote(label), count(*rows, "row")))
            .collect();
        let Settings { tokenizer, masked, pretrain, finetune } = self.settings();
        let quoted: Vec<String> = self.columns.iter().map(|column| quote(column)).collect();
        let values: Vec<String> = self.columns.iter().map(|column| format!("{{{{ {column} }}}}")).collect();
        format!(
            r#"# yaml-language-server: $schema=recipe.schema.json
#
# Sorts {named} by `{plain_label}`. Run it with: pipe run recipe.yaml
# Everything is cached: change a setting, and only what depends on it runs again. `pipe plan recipe.yaml` tells what.

seed: 1

stages:
  # A tokenizer made for your texts, and the texts encoded with it. More unlabelled text makes a better model: add files
  # to `corpus` and `train_on` (.txt, .tsv, .csv, .jsonl, .json, .parquet, .arrow; globs such as more/*.txt work, too).
  tokens:
    tokenize:
      tokenizer:
        {tokenizer}
      corpus:
        - {{ path: data/train.jsonl, text: [{quoted}] }}
      # Labels, too, so that the tokenizer knows the words of the classifier.
      train_on:
        - {{ path: data/train.jsonl, text: [{quoted}, {label}] }}

  # A small model that learns the language of your texts by guessing masked words. More passes or a larger model may help
  # if you have the time.
  language:
    pretrain:
      tokens: tokens
      model:
        glm: {{ hidden: 128, layers: 2, heads: 2, max_length: {LONGEST} }}
      objectives:
        - masked_lm: {{{masked}}}
      train: {{ {pretrain} }}

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
          template: "[Classification]：{values}"
          # Each label of the data, and the word that stands for it. Words that say what a label means help the model.
          words:
{words}
      # Beside the network, a linear classifier of the texts' n-grams: the two know different things. What each counts for is
      # chosen on the dev rows. Without this line the network answers alone.
      wide: {{}}
      train: {{ {finetune} }}

  # How good is it, on rows that it has never seen, beside three simple baselines?
  test:
    eval:
      model: classifier
      data: {{ path: data/test.jsonl }}
"#,
            named = self.columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(" and "),
            plain_label = self.label,
            quoted = quoted.join(", "),
            label = quote(self.label),
            values = values.join("{{ sep }}"),
            words = words.join("\n"),
        )
    }

    fn settings(&self) -> Settings {
        let length = self.longest();
        let mean = |cut: f64| {
            let sum: f64 = self.lengths.iter().map(|tokens| tokens.min(cut)).sum();
            sum / self.lengths.len().max(1) as f64
        };
        let rows = self.rows.max(1) as f64;
        let (text, read) = (rows * mean(f64::INFINITY), rows * (mean(length as f64) + FRAME));
        let is_little = text < LITTLE;
        let passes = |budget: f64, tokens: f64, most: f64| {
            let passes = (budget / tokens).min(most);
            if passes < 2.0 { (passes * 10.0).round().max(1.0) / 10.0 } else { passes.round() }
        };
        let pretrain = passes(PRETRAINED, text, if is_little { 20.0 } else { 28.0 });
        let finetune = passes(FINETUNED, read, if is_little { 6.0 } else { 4.0 });
        let (batch, lr, dropout) = if is_little { (1024, "2.0e-3", "dropout: 0.3, ") } else { (4096, "1.5e-3", "") };
        // Where rows are many, larger batches cost less time.
        let (examples, finetune_lr) = if self.rows > MANY { (64, "7.0e-4") } else { (32, "5.0e-4") };
        // An average that looks back over an eighth of the steps.
        let steps = finetune * rows / f64::from(examples);
        let decay = ((1.0 - 1.0 / (steps / 8.0).clamp(10.0, 200.0)) * 1000.0).round() / 1000.0;
        Settings {
            // With little text, longer pieces would be too rare to learn.
            tokenizer: if is_little { "wordpiece: { vocab_size: 4000 }" } else { "unigram: { vocab_size: 8000 }" },
            masked: if is_little { " probability: 0.3 " } else { "" },
            pretrain: format!(
                "epochs: {pretrain}, batch: {{ tokens: {batch} }}, max_length: {}, lr: {lr}, warmup_ratio: 0.06",
                length.min(128)
            ),
            finetune: format!(
                "epochs: {finetune}, batch: {{ examples: {examples} }}, max_length: {length}, lr: {finetune_lr}, \
                 warmup_ratio: 0.1, {dropout}keep_best: accuracy, average: {{ decay: {decay} }}"
            ),
        }
    }

    /// The length of sequences in which most rows are whole.
    fn longest(&self) -> usize {
        let mut lengths = self.lengths.clone();
        lengths.sort_by(f64::total_cmp);
        let at = ((lengths.len() as f64 * WHOLE) as usize).min(lengths.len().saturating_sub(1));
        // By estimate, so there's some room.
        let wanted = 1.3 * (lengths.get(at).copied().unwrap_or_default() + FRAME);
        [64, 96, 128, 192].into_iter().find(|&length| wanted <= length as f64).unwrap_or(LONGEST)
    }
}

/// From so many rows on there are many.
const MANY: usize = 20_000;

/// How many words and characters of scripts without words a text has.
pub(super) fn size(text: &str) -> usize {
    let mut size = 0;
    units(text.chars(), |unit| size += usize::from(unit != Unit::Space));
    size
}

/// How many tokens texts have, by estimate: tokenizers of a few thousand entries have two tokens for three characters of Chinese,
/// and four for three words of English.
pub(super) fn tokens<'t>(texts: impl IntoIterator<Item = &'t str>) -> f64 {
    let mut tokens = 0.0;
    for text in texts {
        units(text.chars(), |unit| {
            tokens += match unit {
                Unit::Character(_) => 0.7,
                Unit::Word(_) => 1.3,
                Unit::Space => 0.0,
            }
        });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: usize, tokens: f64) -> Settings {
        let labels = BTreeMap::from([("a", rows / 2), ("b", rows - rows / 2)]);
        Starter { columns: vec!["text"], label: "label", labels: &labels, rows, lengths: vec![tokens; rows] }.settings()
    }

    #[test]
    fn what_is_learned_stays_within_bounds() {
        let little = settings(2_000, 20.0);
        assert!(little.tokenizer.starts_with("wordpiece") && little.finetune.contains("dropout: 0.3"));
        assert!(little.pretrain.starts_with("epochs: 20, ") && little.finetune.starts_with("epochs: 6, "));
        // Of 375 steps the last 47, and of 2,500 the last 200.
        assert!(little.finetune.ends_with("average: { decay: 0.979 }"), "{}", little.finetune);
        let titles = settings(40_000, 14.0);
        assert!(titles.tokenizer.starts_with("unigram"), "{}", titles.tokenizer);
        assert!(titles.pretrain.starts_with("epochs: 12, ") && titles.finetune.starts_with("epochs: 4, "));
        assert!(titles.finetune.ends_with("average: { decay: 0.995 }"), "{}", titles.finetune);
        assert!(titles.finetune.contains("max_length: 64") && titles.pretrain.contains("max_length: 64"));
        // 360,000 posts of 60 tokens: a third of them in pretraining, a tenth in finetuning.
        let posts = settings(360_000, 60.0);
        assert!(posts.pretrain.starts_with("epochs: 0.3, "), "{}", posts.pretrain);
        assert!(posts.finetune.starts_with("epochs: 0.1, "), "{}", posts.finetune);
        let long = settings(10_000, 500.0);
        assert!(long.finetune.contains("max_length: 256") && long.pretrain.contains("max_length: 128"));
    }

    #[test]
    fn texts_are_counted_in_any_script() {
        assert_eq!((size("面条 好吃"), size("two words"), size("ab-12"), size("4711")), (4, 2, 3, 1));
        assert!((tokens(["面条好吃", "two words"]) - 5.4).abs() < 1e-9);
    }
}
