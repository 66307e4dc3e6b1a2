//! Training on rows: a classifier's, and what all models that learn from rows have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Result;

use super::{
    classifier::{Judge, Trained, classifier},
    holding::WeightsHeld,
    layout, records,
    rows::{self, LabelledRow, RowPlace, TrainingRows, Use},
    task::TrainedFor,
    teacher,
    train_loop::{self, Start},
    wide::Wide,
};
use crate::{
    engine::{
        executor::{Computed, Event, Inputs, Job},
        store::Metrics,
    },
    learning::{
        metrics::{Classification as Measured, Scored},
        objectives::{
            Classifier, ColumnLookup, RowFeed,
            classification::{CutValue, FilledPrompt},
        },
        train::{self, Evaluation},
    },
    network::{
        batch::Layout,
        device::{OpenDevice, OpenDevices},
        model::{Answers, Candidates, Network},
    },
    spec::{ClassWeights, Classification, Finetune, Head, Pooling, Task},
    stages::{
        Base, Cut, Field, Told, TrainingFeed,
        metrics::{CUT_ROWS, DEV_ROWS_READ, Metric, ROWS, ROWS_READ, WIDE_DEV_ACCURACY},
    },
    support::text_hash,
};

/// What a classifier is trained on.
pub(in crate::stages) struct LabelledFeed {
    pub classifier: Arc<Classifier>,
    /// The rows; their examples are the feed's.
    pub rows: Vec<LabelledRow>,
    pub feed: TrainingFeed,
}

impl LabelledFeed {
    /// Reads the training rows of a stage; its teachers answer on this device.
    pub(in crate::stages) fn new(
        inputs: &Inputs<'_>,
        spec: &Finetune,
        task: &Classification,
        base: &Base,
        layout: Layout,
        device: &OpenDevice,
    ) -> Result<Self> {
        let classifier = Arc::new(classifier(task, base, spec.train.max_length)?);
        let (source, files) = (&spec.data.train, rows::TRAIN.files(inputs));
        let mut rows = rows::labelled(source, files, &classifier, Use::Learn)?;
        if let Some(weights) = &task.class_weights {
            weigh(&mut rows, weights, classifier.labels());
        }
        if let Some(teacher) = &spec.teacher {
            teacher::soften(&mut rows, teacher, &classifier, inputs, (source, files), device)?;
        }
        let examples = rows.iter_mut().flat_map(|row| std::mem::take(&mut row.examples)).collect();
        let teller = Arc::clone(&classifier);
        let tell = move |row: &ColumnLookup<'_>, _| tell(&teller, row);
        let feed = TrainingFeed {
            feed: Box::new(RowFeed::new("classification", examples, &spec.train, inputs.seed, layout)?),
            tokenizer: Arc::clone(&base.tokenizer),
            normalization: spec.train.loss_normalization,
            answers: Answers::One,
            focal_gamma: task.focal_gamma.unwrap_or(0.0),
            candidates: classifier.nodes().iter().map(|node| node.candidates.clone()).collect(),
            classes: classifier.labels().to_vec(),
            is_causal: base.is_causal(),
            sources: Box::new(TrainingRows::new(source, files, [&classifier.used_columns(), &[]], Box::new(tell))),
        };
        Ok(Self { classifier, rows, feed })
    }
}

/// Gives the examples of rows the weights of their labels.
fn weigh(rows: &mut [LabelledRow], weights: &ClassWeights, labels: &[String]) {
    let mut counts = vec![0; labels.len()];
    rows.iter().for_each(|row| counts[row.label] += 1);
    let weights = weights.of(labels, &counts);
    for row in rows {
        row.examples.iter_mut().for_each(|example| example.weight = Some(weights[row.label]));
    }
}

/// What there is to say of a labelled row.
fn tell(classifier: &Classifier, row: &ColumnLookup<'_>) -> Result<Told> {
    let label = classifier.labels()[classifier.label(row)?].clone();
    Ok(Told { label: Some(label), ..told(classifier, row)? })
}

/// What there is to say of a row's text.
pub(in crate::stages) fn told(classifier: &Classifier, row: &ColumnLookup<'_>) -> Result<Told> {
    let FilledPrompt { text, cut } = classifier.filled(row)?;
    let cut = cut.into_iter().map(|CutValue { column, kept, rest }| Cut {
        part: column,
        kept,
        of: kept + rest.chars().count(),
        unit: "characters".into(),
        place: "the end".into(),
        rest: Some(rest),
    });
    Ok(Told { text: Some(text), cut: cut.collect(), ..Told::default() })
}

/// Teaches a model to tell labels.
pub(in crate::stages) fn classify(
    job: &Job<'_>,
    spec: &Finetune,
    task: &Classification,
    mut start: Start,
    devices: &OpenDevices,
) -> Result<Computed> {
    let max_length = spec.train.max_length;
    let layout = layout(&devices.first, max_length, spec.train.packing);
    let LabelledFeed { classifier, rows: learned, feed } =
        LabelledFeed::new(job, spec, task, &start.base(), layout, &devices.first)?;
    let labels = classifier.labels();
    let dev = match &spec.data.dev {
        Some(dev) => rows::labelled(dev, rows::DEV.files(job), &classifier, Use::Judge)?,
        None => Vec::new(),
    };
    if let Some(note) = (task.head == Head::Linear).then(|| note_of_head(&start, labels)).flatten() {
        job.report(Event::Note(&note));
    }
    // What an artifact says of a prompt is what it was when `mean` was the default.
    let pooling = task.pooling.unwrap_or(match task.head {
        Head::Linear => start.network.family().pooling(),
        Head::Prompt => Pooling::Mean,
    });
    match task.head {
        Head::Linear => start.network.add_classifier(labels.len(), pooling, job.seed)?,
        Head::Prompt => start.network.add_language_head(job.seed)?,
    }
    if let Some(from) = start.from.as_ref().filter(|from| !TrainedFor::is_in(&from.model))
        && let Some(known) = Network::inspect(&from.model)?.labels
    {
        let kept = start.network.labels().is_some();
        let what = if kept { "goes on from" } else { "makes a new head in place of" };
        job.report(Event::Note(&format!("{what} the checkpoint's, which tells {}", known.names.join(", "))));
    }
    let task = Classification { pooling: Some(pooling), ..task.clone() };
    let cut = learned.iter().filter(|row| row.cut).count();
    // For the baselines.
    let pairs: Vec<_> = learned.iter().map(|row| (row.text.clone(), labels[row.label].clone())).collect();
    records::write_rows(&job.out.join(records::ROWS), &pairs)?;

    let judge = Judge::new(&classifier, max_length, &devices.first)?;
    let mut measure = |network: &Network| measure(&judge, network, &dev, labels.len());
    let lessons = Lessons {
        trained_for: TrainedFor { classification: Some(task.clone()), ..start.trained_for(max_length) },
        ends: Vec::new(),
        seen: learned.iter().map(|row| text_hash(&row.text)).collect(),
        note: format!("{} rows to learn from{}, {} dev rows", learned.len(), cut_rows(cut), dev.len()),
        rows: learned.len(),
        left_out: vec![(CUT_ROWS, cut)],
        feed,
        read: (learned.len(), dev.len()),
        candidates: judge.candidates.clone(),
        measure: if dev.is_empty() { None } else { Some(&mut measure) },
    };
    let mut computed = teach(job, spec, start, lessons, devices)?;
    if spec.wide.is_some() {
        widen(job, &dev, devices, &mut computed.metrics)?;
    }
    Ok(computed)
}

/// Puts a wide path beside the network that was trained, and measures both together.
fn widen(job: &Job<'_>, dev: &[LabelledRow], devices: &OpenDevices, metrics: &mut Metrics) -> Result<()> {
    let mut wide = Wide::of(&WIDE.needed(job)?.path)?;
    let trained = Trained::load(job.out, WeightsHeld::default(), &devices.first)?;
    let examples: Vec<_> = dev.iter().map(|row| row.examples.as_slice()).collect();
    let deep = trained.judge()?.probabilities(&trained.network, &examples, &|_, _| Ok(()))?;
    let texts: Vec<&str> = dev.iter().map(|row| row.text.as_str()).collect();
    let gold: Vec<usize> = dev.iter().map(|row| row.label).collect();
    let together = wide.fit(trained.labels(), &texts, &deep, &gold)?;
    if let Some(measured) = Measured::measure(trained.labels().len(), scored(dev, &together).iter()) {
        WIDE_DEV_ACCURACY.put(metrics, measured.accuracy);
    }
    job.report(Event::Note(&format!(
        "the network counts for {:.2}, the wide path for {:.2}",
        wide.mix.deep, wide.mix.wide
    )));
    wide.write(job.out)
}

/// The field with the linear stage of a wide path.
pub(in crate::stages) const WIDE: Field = Field("wide.baseline");

/// What is to be said of a linear head that is there already: that it was made for other labels.
fn note_of_head(start: &Start, labels: &[String]) -> Option<String> {
    if !start.network.has_classifier() {
        return None;
    }
    // Of heads from elsewhere it's known whether they fit.
    let before = start.before.as_ref()?;
    let known = before.classification.as_ref().map(|before| before.words.keys().cloned().collect::<Vec<_>>());
    if known.as_deref() == Some(labels) {
        return None;
    }
    let list = |labels: &[String]| {
        let more = labels.len().saturating_sub(SHOWN_LABELS);
        let shown = labels[..labels.len() - more].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let known = known.map_or_else(|| "other labels".to_owned(), |labels| list(&labels));
    let same = labels.len();
    Some(format!(
        "goes on with the linear head that the model has, for {known}; here its {same} classes are {}: begin with a model \
         that has none for a new one",
        list(labels)
    ))
}

/// How many labels are named.
const SHOWN_LABELS: usize = 4;

/// Measures a network on rows that it doesn't learn from.
type Measure<'a> = &'a mut dyn FnMut(&Network) -> Result<train::Metrics>;

/// What a stage has made of its rows.
pub(in crate::stages) struct Lessons<'a> {
    /// What the model will be good for.
    pub trained_for: TrainedFor,
    /// Tokens that end what it learns to write.
    pub ends: Vec<u32>,
    /// Hashes of the rows' texts, for finding leaked ones.
    pub seen: BTreeSet<u64>,
    /// How many rows there are.
    pub rows: usize,
    /// What the training is given of them.
    pub feed: TrainingFeed,
    /// The candidates of the label trie's nodes.
    pub candidates: Option<Candidates>,
    /// What to tell about the rows.
    pub note: String,
    /// How many were read, and how many dev rows.
    pub read: (usize, usize),
    /// How many rows are too long, by what became of them.
    pub left_out: Vec<(Metric, usize)>,
    /// Measures a network on the dev rows, if there are any.
    pub measure: Option<Measure<'a>>,
}

/// Whether a model that is taught so can still write, so that what its checkpoint says of that is kept.
pub(in crate::stages) fn keeps_settings(task: &Task) -> bool {
    match task {
        Task::Classification(task) => task.head != Head::Linear,
        Task::Instruction(_) => true,
        Task::MultiLabel(_) | Task::Regression(_) => false,
    }
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
    if keeps_settings(&spec.task) {
        start.write_settings(job, &lessons.ends)?;
    }

    let feed = lessons.feed;
    job.report(Event::Note(&format!("{} steps; {}", feed.feed.steps(), lessons.note)));
    let evaluation = lessons.measure.map(|measure| Evaluation {
        every: spec.train.evaluate_every.unwrap_or(feed.feed.epoch_steps()),
        measure,
        keep_best: spec.train.keep_best.clone(),
        early_stopping: spec.train.early_stopping.clone(),
    });
    let (network, candidates) = (start.network, lessons.candidates);
    let mut computed = train_loop::train(job, devices, network, &feed, &spec.train, candidates, evaluation)?;
    ROWS.put(&mut computed.metrics, lessons.rows);
    ROWS_READ.put(&mut computed.metrics, lessons.read.0);
    if spec.data.dev.is_some() {
        DEV_ROWS_READ.put(&mut computed.metrics, lessons.read.1);
    }
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
