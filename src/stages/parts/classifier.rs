//! A finetuned classifier: from its artifact, and at work.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};

use super::{
    batches::{OnProgress, in_batches},
    holding::WeightsHeld,
    layout,
    task::TrainedFor,
    wide::Wide,
};
use crate::{
    data::text::Tokenizer,
    learning::{
        linear::likeliest,
        objectives::{Classifier, ColumnLookup},
    },
    network::{
        batch::{Example, Layout},
        device::OpenDevice,
        model::{Candidates, Network},
    },
    spec::{Classification, Head, Pooling},
    stages::Base,
};

/// A task's examples for a model, made with its tokenizer.
pub(in crate::stages) fn classifier(task: &Classification, base: &Base, max_length: usize) -> Result<Classifier> {
    let (encoder, names) = (Arc::clone(&base.tokenizer), Arc::clone(&base.tokenizer));
    let specials = base.tokenizer.special;
    let encode = Box::new(move |text: &str| encoder.encode(text));
    let classifier = Classifier::new(task, base.form, max_length, specials, encode)?;
    let classifier = classifier.with_entries(move |name| names.id(name)).with_segments(base.segments);
    // A head on the last token reads what its tokenizer put there when it was taught.
    let last = task.head == Head::Linear && task.pooling.unwrap_or(base.family.pooling()) == Pooling::Last;
    Ok(if base.elsewhere && last { classifier.with_around(base.tokenizer.around()?) } else { classifier })
}

/// How a network's states become probabilities of labels.
pub(in crate::stages) struct Judge<'a> {
    classifier: &'a Classifier,
    /// The candidates of the label trie's nodes; none for a linear head.
    pub candidates: Option<Candidates>,
    layout: Layout,
}

impl<'a> Judge<'a> {
    pub(in crate::stages) fn new(classifier: &'a Classifier, max_length: usize, device: &OpenDevice) -> Result<Self> {
        let nodes: Vec<Vec<u32>> = classifier.nodes().iter().map(|node| node.candidates.clone()).collect();
        let candidates = if nodes.is_empty() { None } else { Some(Candidates::new(&nodes)?) };
        Ok(Self { classifier, candidates, layout: layout(device, max_length, true) })
    }

    /// For each row, given as the examples that [`Classifier::inference`] made of it, the probability of each label.
    pub(in crate::stages) fn probabilities(
        &self,
        network: &Network,
        rows: &[&[Example]],
        on_progress: OnProgress<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut nodes = vec![vec![Vec::new(); self.classifier.nodes().len().max(1)]; rows.len()];
        let examples = rows
            .iter()
            .enumerate()
            .flat_map(|(row, examples)| examples.iter().map(move |example| (row, example)))
            .collect();
        in_batches(examples, self.layout, on_progress, |part, batch| {
            match &self.candidates {
                Some(candidates) => {
                    let places =
                        part.iter().flat_map(|(row, example)| example.choices.iter().map(|choice| (*row, choice.node)));
                    for ((row, node), values) in places.zip(network.choice_log_probabilities(batch, candidates)?) {
                        nodes[row][node as usize] = values;
                    }
                }
                None => {
                    for ((row, _), values) in part.iter().zip(network.class_log_probabilities(batch)?) {
                        nodes[*row][0] = values;
                    }
                }
            }
            Ok(())
        })?;
        let single = |row: Vec<f64>| row.into_iter().map(|probability| probability as f32).collect();
        Ok(nodes.iter().map(|nodes| single(self.classifier.score(nodes))).collect())
    }
}

/// A classifier loaded from the artifact of a finetune stage.
pub struct Trained {
    pub(in crate::stages) classifier: Classifier,
    pub(in crate::stages) network: Network,
    max_length: usize,
    device: OpenDevice,
    wide: Option<Wide>,
}

/// What a classifier says of a row.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The likeliest label.
    pub label: String,
    /// Every label with its probability, in the order of [`Trained::labels`].
    pub probabilities: Vec<f32>,
}

impl Trained {
    /// Loads a classifier, its weights held so.
    ///
    /// # Errors
    /// If the artifact isn't a classifier's, or is damaged.
    pub fn load(dir: &Path, held: WeightsHeld, device: &OpenDevice) -> Result<Self> {
        let TrainedFor { classification, max_length, from_checkpoint, .. } = TrainedFor::read(dir)?;
        let task = classification.with_context(|| no_classifier(dir))?;
        let tokenizer = Arc::new(Tokenizer::load(dir)?);
        let network = held.load(dir, &device.device)?;
        let numbers = network.labels().map(|labels| labels.by_number()).unwrap_or_default();
        let classifier = classifier(&task, &Base::of(&network, &tokenizer, from_checkpoint), max_length)?;
        let classifier = classifier.with_other_names(numbers);
        Ok(Self { classifier, network, max_length, device: device.clone(), wide: Wide::read(dir)? })
    }

    /// The labels.
    pub fn labels(&self) -> &[String] {
        self.classifier.labels()
    }

    /// The columns that the template uses.
    pub fn columns(&self) -> &[String] {
        self.classifier.columns()
    }

    pub(in crate::stages) fn judge(&self) -> Result<Judge<'_>> {
        Judge::new(&self.classifier, self.max_length, &self.device)
    }

    /// What its wide path makes of the network's probabilities for rows with these texts; none if it has no such path.
    pub(in crate::stages) fn with_wide(&self, texts: &[&str], deep: &[Vec<f32>]) -> Result<Option<Vec<Vec<f32>>>> {
        self.wide.as_ref().map(|wide| wide.probabilities(self.labels(), texts, deep)).transpose()
    }

    /// Classifies rows, each given as a look-up of its columns.
    ///
    /// # Errors
    /// If a row lacks a column.
    pub fn predict(&self, rows: &[&ColumnLookup<'_>]) -> Result<Vec<Prediction>> {
        let examples: Vec<Vec<Example>> =
            (0..).zip(rows).map(|(id, row)| self.classifier.inference(row, id)).collect::<Result<_>>()?;
        let examples: Vec<&[Example]> = examples.iter().map(Vec::as_slice).collect();
        let deep = self.judge()?.probabilities(&self.network, &examples, &|_, _| Ok(()))?;
        let texts: Vec<String> = rows.iter().map(|row| self.classifier.text(row)).collect::<Result<_>>()?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Ok(self
            .with_wide(&texts, &deep)?
            .unwrap_or(deep)
            .into_iter()
            .map(|probabilities| Prediction { label: self.labels()[likeliest(&probabilities)].clone(), probabilities })
            .collect())
    }
}

/// Why the model in a directory can't tell labels.
fn no_classifier(dir: &Path) -> String {
    let labels = if TrainedFor::is_in(dir) { None } else { Network::inspect(dir).ok().and_then(|found| found.labels) };
    match labels.and_then(|labels| labels.problem) {
        Some(problem) => format!("this model can't classify: {problem}"),
        None => "this model wasn't finetuned to classify".to_owned(),
    }
}
