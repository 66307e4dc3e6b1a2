//! Adapt a model to labelled rows.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{
    classifier::{Judge, classifier},
    layout,
    origin::Origin,
    records,
    rows::{self, LabelledRow, Use},
    task::Purpose,
    training::{self, Start},
};
use crate::{
    batch::Feed,
    device::OpenDevice,
    executor::{Event, Job},
    metrics::{Classification as Measured, Scored, text_hash},
    model::Network,
    objectives::ClassificationFeed,
    recipe::spec::{Finetune, Head, Task},
    store::Metrics,
    train::{self, Evaluation},
};

/// Writes the model in Hugging Face's layout, its tokenizer, its purpose, its curve, its rows and what it has seen.
pub(super) fn finetune(job: &Job<'_>, spec: &Finetune, device: &OpenDevice) -> Result<Metrics> {
    let Task::Classification(task) = &spec.task;
    let mut start = Start::new(job, spec.model.as_ref(), device)?;
    let classifier = classifier(task, &start.network, spec.train.max_length, &start.tokenizer)?;
    let files = |field: &str| job.files.get(field).map(Vec::as_slice).unwrap_or_default();
    let learned = rows::read(&spec.data.train, files("data.train.path"), &classifier, Use::Learn)?;
    let dev = match &spec.data.dev {
        Some(dev) => rows::read(dev, files("data.dev.path"), &classifier, Use::Judge)?,
        None => Vec::new(),
    };
    if task.head == Head::Linear {
        start.network.add_classifier(classifier.labels().len(), task.pooling, job.seed)?;
    }
    record(job, &learned, classifier.labels())?;
    let purpose = Purpose {
        objectives: start.objectives(),
        classification: Some(task.clone()),
        max_length: spec.train.max_length,
    };
    purpose.write(job.out)?;
    start.write_tokenizer(job)?;

    let count = learned.len();
    let examples = learned.into_iter().flat_map(|row| row.examples).collect();
    let layout = layout(device, spec.train.max_length, spec.train.packing);
    let feed = ClassificationFeed::new(examples, &spec.train, job.seed, layout)?;
    job.tell(Event::Note(&format!("{} steps; {count} rows to learn from, {} dev rows", feed.steps(), dev.len())));

    let judge = Judge::new(&classifier, spec.train.max_length, device)?;
    let mut measure = |network: &Network| measure(&judge, network, &dev, classifier.labels().len());
    let evaluation = (!dev.is_empty()).then(|| Evaluation {
        every: spec.train.evaluate_every.unwrap_or(feed.epoch_steps()),
        measure: &mut measure,
        keep_best: spec.train.keep_best.clone(),
        early_stopping: spec.train.early_stopping.clone(),
    });
    let candidates = judge.candidates.clone();
    let mut metrics = training::train(job, start.network, &feed, &spec.train, candidates, evaluation)?;
    metrics.insert("rows".into(), json!(count));
    Ok(metrics)
}

/// Writes what the model learns from, for the baselines and for finding leaked rows.
fn record(job: &Job<'_>, rows: &[LabelledRow], labels: &[String]) -> Result<()> {
    let mut seen = match Origin::of(job, "from") {
        Some(from) => records::read_seen(&from.model)?,
        None => Default::default(),
    };
    seen.extend(rows.iter().map(|row| text_hash(&row.text)));
    records::write_seen(&job.out.join(records::SEEN), &seen)?;
    let pairs: Vec<_> = rows.iter().map(|row| (row.text.clone(), labels[row.label].clone())).collect();
    records::write_rows(&job.out.join(records::ROWS), &pairs)
}

/// Accuracy, macro F1 and mean loss on the dev rows.
fn measure(judge: &Judge<'_>, network: &Network, dev: &[LabelledRow], classes: usize) -> Result<train::Metrics> {
    let examples: Vec<_> = dev.iter().map(|row| row.examples.as_slice()).collect();
    let probabilities = judge.probabilities(network, &examples)?;
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
pub(super) fn scored<'a>(rows: &'a [LabelledRow], probabilities: &'a [Vec<f32>]) -> Vec<Scored<'a>> {
    let rows = rows.iter().zip(probabilities);
    rows.map(|(row, probabilities)| Scored { row: row.number, text: &row.text, gold: row.label, probabilities })
        .collect()
}
