//! Classification by prompt: rows as cloze questions, answered out of a closed set; or as plain text for a linear head.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{
    Specials,
    control::{self, Piece},
    form::{AnswerForm, PromptKind, feed},
    labels::{LabelPath, Labels, TrieNode},
    prompt::{ColumnLookup, ColumnValues, Encoded, Fitted, MARKER, Rendered, Template},
};
use crate::{
    data::text::Special,
    network::batch::Example,
    spec::{Classification, Head},
    support::{Hinted, math},
};

/// Turns text into token ids, without special tokens around it.
pub type Encode = Box<dyn Fn(&str) -> Result<Vec<u32>> + Send + Sync>;

/// Encodes rows as training examples of a classifier.
pub struct Classifier {
    label_column: String,
    labels: Vec<String>,
    template: Template,
    head: AnswerHead,
    form: AnswerForm,
    max_length: usize,
    specials: Specials,
    encode: Encode,
    entry: Entry,
    segments: usize,
    /// What stands before and behind a text for a linear head, where it isn't what the form has.
    around: Option<[Vec<u32>; 2]>,
    /// Other names of labels in data, with their indices.
    other_names: BTreeMap<String, usize>,
}

/// A prompt as people read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilledPrompt {
    /// The filled-in template, with the marker where a label word is the answer.
    pub text: String,
    /// The values that were shortened to fit.
    pub cut: Vec<CutValue>,
}

/// A value that was shortened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CutValue {
    /// The column that it comes from.
    pub column: String,
    /// Characters that are left of it, from its beginning on.
    pub kept: usize,
    /// What was left out.
    pub rest: String,
}
/// The id of an entry of the vocabulary, by its name.
type Entry = Box<dyn Fn(&str) -> Option<u32> + Send + Sync>;

/// Which head gives the answer.
enum AnswerHead {
    Prompt(Labels),
    Linear,
}

impl Classifier {
    /// Compiles the template and the label words of a task, for models that answer in this form. Examples will be no
    /// longer than `max_length`.
    ///
    /// # Errors
    ///
    /// Where the tokenizer lacks a special token that the form needs, the template is wrong, or the words can't be told
    /// apart.
    pub fn new(
        task: &Classification,
        form: AnswerForm,
        max_length: usize,
        specials: Specials,
        encode: Encode,
    ) -> Result<Self> {
        let kind = if task.head == Head::Prompt { PromptKind::Word } else { PromptKind::Plain };
        specials.require("classification", form.needs(kind))?;
        let template = Template::new(&task.template)?;
        let named: Vec<_> = template.controls().iter().filter_map(|name| control::named(name)).collect();
        specials.require("the template", &named)?;
        // In the order of their names, so that the order in which a recipe lists them changes nothing.
        let words: BTreeMap<&String, &String> = task.words.iter().collect();
        let head = match task.head {
            Head::Linear => AnswerHead::Linear,
            Head::Prompt => {
                ensure!(template.has_marker(), "the template lacks the marker {MARKER}, where the answer goes");
                let encoded = words.iter().map(|(label, word)| Ok((label.as_str(), encode(word)?)));
                let words = encoded.collect::<Result<_>>()?;
                AnswerHead::Prompt(Labels::new(words, form.end(&specials))?)
            }
        };
        let labels = words.into_keys().cloned().collect();
        let label_column = task.label.clone();
        let entry: Entry = Box::new(|_| None);
        Ok(Self {
            label_column,
            labels,
            template,
            head,
            form,
            max_length,
            specials,
            encode,
            entry,
            segments: 1,
            around: None,
            other_names: BTreeMap::new(),
        })
    }

    /// For a linear head that was taught elsewhere: with these tokens before and behind a text.
    #[must_use]
    pub fn with_around(self, around: [Vec<u32>; 2]) -> Self {
        Self { around: Some(around), ..self }
    }

    /// Lets data have other names for labels, such as their numbers, each with the label's index.
    #[must_use]
    pub fn with_other_names(self, other_names: BTreeMap<String, usize>) -> Self {
        Self { other_names, ..self }
    }

    /// Lets the template name entries of the vocabulary.
    #[must_use]
    pub fn with_entries(self, entry: impl Fn(&str) -> Option<u32> + Send + Sync + 'static) -> Self {
        Self { entry: Box::new(entry), ..self }
    }

    /// For a model that tells so many segments apart: what stands behind the template's first `{{ sep }}` is the second.
    #[must_use]
    pub fn with_segments(self, segments: usize) -> Self {
        Self { segments, ..self }
    }

    /// The labels as they stand in the data; classes and scores are in this order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The columns that the template uses.
    pub fn columns(&self) -> &[String] {
        self.template.columns()
    }

    /// All columns that it uses: the template's, and that of the label.
    pub fn used_columns(&self) -> Vec<&str> {
        self.columns().iter().map(String::as_str).chain([self.label_column.as_str()]).collect()
    }

    /// The nodes that `Choice::node` counts; none for a linear head.
    pub fn nodes(&self) -> &[TrieNode] {
        match &self.head {
            AnswerHead::Prompt(labels) => labels.nodes(),
            AnswerHead::Linear => &[],
        }
    }

    /// A row's label.
    ///
    /// # Errors
    ///
    /// Where the row lacks the column, or the label has no word.
    pub fn label(&self, row: &ColumnLookup<'_>) -> Result<usize> {
        let column = &self.label_column;
        let label = row(column).with_context(|| format!("the data has no column `{column}` for the label"))?;
        self.labels
            .iter()
            .position(|known| *known == label)
            .or_else(|| self.other_names.get(&label).copied())
            .with_context(|| format!("label `{label}` has no word; there are words for {}", self.labels.join(", ")))
    }

    /// A row to learn from, with its label by index.
    ///
    /// For a prompt: the sequence of the family's [form](AnswerForm), with the label's word up to its last choice where
    /// tokens are fed, and a choice at each node of its path. For a linear head: the text.
    ///
    /// # Errors
    ///
    /// Where the template can't be filled in, or its own words don't fit.
    pub fn example(&self, row: &ColumnLookup<'_>, label: usize, id: u64) -> Result<Example> {
        Ok(self.answered_with(&self.prompt(row)?, label, id))
    }

    /// As [`Self::example`], of a row's prompt.
    pub fn answered_with(&self, prompt: &Encoded, label: usize, id: u64) -> Example {
        match &self.head {
            AnswerHead::Prompt(labels) => self.answered(id, prompt, labels, &labels.path(label)),
            AnswerHead::Linear => Example { class: Some(label as u32), ..self.plain(id, prompt) },
        }
    }

    /// What the example of a row with this label is to learn where each label has a probability, as
    /// [`Example::wanted`]. With a prompt these are the shares of the candidates at the nodes of the label's own path; of labels
    /// beyond a node that isn't on it nothing is learned.
    pub fn wanted(&self, label: usize, probabilities: &[f32]) -> Vec<f32> {
        match &self.head {
            AnswerHead::Prompt(labels) => labels.shares(label, probabilities),
            AnswerHead::Linear => probabilities.to_vec(),
        }
    }

    /// The sequences that tell a row's label: with a prompt, as many as it takes to visit each node once (one, where all
    /// of an answer's tokens are read at once); with a linear head one. Their choices' `gold` says nothing. All have the id given.
    ///
    /// # Errors
    ///
    /// As [`Self::example`].
    pub fn inference(&self, row: &ColumnLookup<'_>, id: u64) -> Result<Vec<Example>> {
        Ok(self.asked(&self.prompt(row)?, id))
    }

    /// As [`Self::inference`], of a row's prompt.
    pub fn asked(&self, prompt: &Encoded, id: u64) -> Vec<Example> {
        match &self.head {
            AnswerHead::Prompt(labels) => {
                let paths = if self.form.feeds() { labels.cover() } else { vec![labels.glance()] };
                paths.iter().map(|path| self.answered(id, prompt, labels, path)).collect()
            }
            AnswerHead::Linear => vec![self.plain(id, prompt)],
        }
    }

    /// Each label's probability, from the log-softmax of each node's candidates, by node. A linear head has one node:
    /// its classes.
    pub fn score(&self, log_probabilities: &[Vec<f64>]) -> Vec<f64> {
        match &self.head {
            AnswerHead::Prompt(labels) => labels.score(log_probabilities),
            AnswerHead::Linear => log_probabilities.iter().flatten().map(|&value| math::exp(value)).collect(),
        }
    }

    /// What the template takes from a row, joined by a tab: by this a row is found again elsewhere.
    ///
    /// # Errors
    ///
    /// Where the row lacks a column.
    pub fn text(&self, row: &ColumnLookup<'_>) -> Result<String> {
        Ok(self.template.values(row)?.text())
    }

    /// A row's prompt as its example has it, before it's encoded, and what was left out of it.
    ///
    /// # Errors
    ///
    /// As [`Self::example`].
    pub fn filled(&self, row: &ColumnLookup<'_>) -> Result<FilledPrompt> {
        let values = self.template.values(row)?;
        let most = self.fit(&values)?.most;
        let Rendered { before, after } = self.template.render(&values, most)?;
        let marker = if matches!(self.head, AnswerHead::Linear) { "" } else { MARKER };
        let text = after.map_or(before.clone(), |after| format!("{before}{marker}{after}"));
        let text = if self.template.has_controls() { control::readable(&text) } else { text };
        let cut =
            values.beyond(most).map(|(column, rest)| CutValue { column: column.into(), kept: most, rest: rest.into() });
        Ok(FilledPrompt { text, cut: cut.collect() })
    }

    /// A row's prompt, shortened where it's too long.
    ///
    /// # Errors
    ///
    /// Where the row lacks a column, the template can't be filled in, or its own words don't fit.
    pub fn prompt(&self, row: &ColumnLookup<'_>) -> Result<Encoded> {
        Ok(self.fit(&self.template.values(row)?)?.encoded)
    }

    fn fit(&self, values: &ColumnValues) -> Result<Fitted> {
        let frame = match &self.head {
            AnswerHead::Prompt(labels) => {
                let fed = if self.form.feeds() { labels.depth() } else { 0 };
                self.form.word(0, &[], &[], labels.longest(), &self.specials).example.tokens.len() + fed
            }
            AnswerHead::Linear => self.plain(0, &Encoded::default()).tokens.len(),
        };
        let room = self.max_length.saturating_sub(frame);
        self.template.fit(values, room, &|rendered| self.encode(rendered))
    }

    fn encode(&self, rendered: &Rendered) -> Result<Encoded> {
        let Rendered { before, after } = rendered;
        match (&self.head, after) {
            (AnswerHead::Prompt(_), None) => {
                anyhow::bail!("the filled-in template lacks the marker {MARKER}, where the answer goes")
            }
            (AnswerHead::Prompt(_), Some(after)) if self.form.answers_last() => {
                ensure!(
                    after.trim().is_empty(),
                    Hinted::with(
                        format!(
                            "the filled-in template goes on after {MARKER} with `{}`, which a model that reads from \
                             left to right hasn't seen when it answers",
                            control::readable(after.trim())
                        ),
                        "put the marker at the end",
                    )
                );
                self.tokens(before, "")
            }
            (AnswerHead::Prompt(_), Some(after)) => self.tokens(before, after),
            (AnswerHead::Linear, after) => {
                let text = format!("{before}{}", after.as_deref().unwrap_or_default());
                let encoded = self.tokens(&text, "")?;
                let empty = self.around.as_ref().is_some_and(|around| around.concat().is_empty());
                ensure!(!empty || !encoded.before.is_empty() || text.is_empty(), "the text has no tokens");
                Ok(encoded)
            }
        }
    }

    /// The tokens of two texts; special tokens of the template's own become ids, and what surrounds them is encoded each by
    /// itself.
    fn tokens(&self, before: &str, after: &str) -> Result<Encoded> {
        let mut encoded = Encoded::default();
        if !self.template.has_controls() {
            encoded.before = (self.encode)(before)?;
            if !after.is_empty() {
                encoded.after = (self.encode)(after)?;
            }
            return Ok(encoded);
        }
        let mut length = 0;
        for (text, tokens) in [(before, &mut encoded.before), (after, &mut encoded.after)] {
            for piece in control::pieces(text) {
                let start = tokens.len();
                match piece {
                    Piece::Text(text) => tokens.extend((self.encode)(text)?),
                    other => tokens.push(control::id(other, &self.specials, &self.entry)?),
                }
                length += tokens.len() - start;
                if piece == Piece::Special(Special::Sep) {
                    encoded.first_segment.get_or_insert(length);
                }
            }
        }
        Ok(encoded)
    }

    /// A prompt with its answer along a path.
    fn answered(&self, id: u64, prompt: &Encoded, labels: &Labels, path: &LabelPath) -> Example {
        let Encoded { before, after, first_segment, .. } = prompt;
        let asked = self.form.word(id, before, after, labels.longest(), &self.specials);
        let mut example = asked.example;
        if let Some(first) = *first_segment {
            let blanks = if first > before.len() { labels.longest() } else { 0 };
            self.divide(&mut example, first + blanks);
        }
        if self.form.feeds() {
            feed(&mut example, &path.tokens);
        }
        example.choices.clone_from(&path.choices);
        for choice in &mut example.choices {
            choice.at += asked.at;
        }
        example
    }

    fn plain(&self, id: u64, text: &Encoded) -> Example {
        let mut example = match &self.around {
            Some([before, behind]) => {
                let tokens = [before.as_slice(), &text.before, behind].concat();
                let length = tokens.len();
                Example::sequence(id, tokens, length)
            }
            None => self.form.plain(id, &text.before, &self.specials),
        };
        if let Some(first) = text.first_segment {
            self.divide(&mut example, first);
        }
        example
    }

    /// Makes a second segment of what stands behind so many tokens of a `[CLS] text [SEP]`, where the model tells segments
    /// apart.
    fn divide(&self, example: &mut Example, first: usize) {
        if self.segments > 1 && self.form == AnswerForm::Cloze {
            example.segments = (0..example.tokens.len()).map(|at| u32::from(at > first)).collect();
        }
    }
}
