//! Training on rows: a classifier's, and what all models that learn from rows have in common.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{
    classifier::{Judge, classifier},
    layout, records,
    rows::{self, LabelledRow, RowPlace, Use},
    task::TrainedFor,
    train_loop::{self, Start},
};
use crate::{
    engine::executor::{Computed, Event, Job},
    learning::{
        metrics::{Classification as Measured, Scored},
        objectives::RowFeed,
        train::{self, Evaluation},
    },
    network::{
        batch::{Example, Feed},
        device::OpenDevices,
        model::{Candidates, Network},
    },
    spec::{Classification, Finetune, Head},
    stages::metrics::{CUT_ROWS, Metric, ROWS},
    support::text_hash,
};

/// Teaches a model to tell labels.
pub(in crate::stages) fn classify(
    job: &Job<'_>,
    spec: &Finetune,
    task: &Classification,
    mut start: Start,
    devices: &OpenDevices,
) -> Result<Computed> {
    let max_length = spec.train.max_length;
    let classifier = classifier(task, &start.network, max_length, &start.tokenizer)?;
    let labels = classifier.labels();
    let learned = rows::labelled(&spec.data.train, rows::TRAIN.files(job), &classifier, Use::Learn)?;
    let dev = match &spec.data.dev {
        Some(dev) => rows::labelled(dev, rows::DEV.files(job), &classifier, Use::Judge)?,
        None => Vec::new(),
    };
    match task.head {
        Head::Linear => start.network.add_classifier(labels.len(), task.pooling, job.seed)?,
        Head::Prompt => start.network.add_language_head(job.seed)?,
    }
    let cut = learned.iter().filter(|row| row.cut).count();
    // For the baselines.
    let pairs: Vec<_> = learned.iter().map(|row| (row.text.clone(), labels[row.label].clone())).collect();
    records::write_rows(&job.out.join(records::ROWS), &pairs)?;

    let judge = Judge::new(&classifier, max_length, &devices.first)?;
    let mut measure = |network: &Network| measure(&judge, network, &dev, labels.len());
    let lessons = Lessons {
        objective: "classification",
        trained_for: TrainedFor { classification: Some(task.clone()), ..start.trained_for(max_length) },
        seen: learned.iter().map(|row| text_hash(&row.text)).collect(),
        note: format!("{} rows to learn from{}, {} dev rows", learned.len(), cut_rows(cut), dev.len()),
        left_out: vec![(CUT_ROWS, cut)],
        examples: learned.into_iter().flat_map(|row| row.examples).collect(),
        candidates: judge.candidates.clone(),
        measure: if dev.is_empty() { None } else { Some(&mut measure) },
    };
    teach(job, spec, start, lessons, devices)
}

/// Measures a network on rows that it doesn't learn from.
type Measure<'a> = &'a mut dyn FnMut(&Network) -> Result<train::Metrics>;

/// What a stage has made of its rows.
pub(in crate::stages) struct Lessons<'a> {
    /// What curves call it.
    pub objective: &'static str,
    /// What the model will be good for.
    pub trained_for: TrainedFor,
    /// Hashes of the rows' texts, for finding leaked ones.
    pub seen: BTreeSet<u64>,
    /// An example a row.
    pub examples: Vec<Example>,
    /// The candidates of the label trie's nodes.
    pub candidates: Option<Candidates>,
    /// What to tell about the rows.
    pub note: String,
    /// How many rows are too long, by what became of them.
    pub left_out: Vec<(Metric, usize)>,
    /// Measures a network on the dev rows, if there are any.
    pub measure: Option<Measure<'a>>,
}

/// Trains on rows, and writes what all finetuned models have.
pub(in crate::stages) fn teach(
    job: &Job<'_>,
    spec: &Finetune,
    start: Start,
    lessons: Lessons<'_>,
    devices: &OpenDevices,
) -> Result<Computed> {
    let mut seen = lessons.seen;
    if let Some(from) = &start.from {
        seen.extend(records::read_seen(&from.model)?);
    }
    records::write_seen(&job.out.join(records::SEEN), &seen)?;
    lessons.trained_for.write(job.out)?;
    start.write_tokenizer(job)?;

    let count = lessons.examples.len();
    let layout = layout(&devices.first, spec.train.max_length, spec.train.packing);
    let feed = RowFeed::new(lessons.objective, lessons.examples, &spec.train, job.seed, layout)?;
    job.report(Event::Note(&format!("{} steps; {}", feed.steps(), lessons.note)));
    let evaluation = lessons.measure.map(|measure| Evaluation {
        every: spec.train.evaluate_every.unwrap_or(feed.epoch_steps()),
        measure,
        keep_best: spec.train.keep_best.clone(),
        early_stopping: spec.train.early_stopping.clone(),
    });
    let (network, candidates) = (start.network, lessons.candidates);
    let mut computed = train_loop::train(job, devices, network, &feed, &spec.train, candidates, evaluation)?;
    ROWS.put(&mut computed.metrics, count);
    for (metric, count) in lessons.left_out {
        metric.put(&mut computed.metrics, count);
    }
    Ok(computed)
}

/// How many rows are too long, where there are some.
pub(in crate::stages) fn cut_rows(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" ({count} cut, too long)") }
}

/// Accuracy, macro F1 and mean loss on the dev rows.
fn measure(judge: &Judge<'_>, network: &Network, dev: &[LabelledRow], classes: usize) -> Result<train::Metrics> {
    let examples: Vec<_> = dev.iter().map(|row| row.examples.as_slice()).collect();
    let probabilities = judge.probabilities(network, &examples, &|_, _| Ok(()))?;
    let scored = scored(dev, &probabilities);
    let mut metrics = BTreeMap::new();
    if let Some(measured) = Measured::measure(classes, scored.iter()) {
        metrics.insert("accuracy".into(), measured.accuracy);
        metrics.insert("macro_f1".into(), measured.macro_f1);
        metrics.insert("loss".into(), measured.log_loss);
    }
    Ok(metrics)
}

/// Rows with what a model makes of them.
pub(in crate::stages) fn scored<'a>(rows: &'a [LabelledRow], probabilities: &'a [Vec<f32>]) -> Vec<Scored<'a>> {
    let rows = rows.iter().zip(probabilities);
    let scored = |(row, probabilities): (&'a LabelledRow, &'a Vec<f32>)| {
        let RowPlace { file, row: number } = row.place;
        Scored { file, row: number, text: &row.text, gold: row.label, probabilities }
    };
    rows.map(scored).collect()
}
