//! Training for such a task.

use std::sync::Arc;

use anyhow::Result;

use super::{
    measured::{Measured, judged},
    reader::{Reader, Wanted, said},
};
use crate::{
    engine::executor::{Computed, Event, Inputs, Job},
    learning::{
        metrics::threshold,
        objectives::{ColumnLookup, RowFeed},
        train,
    },
    network::{
        batch::Layout,
        device::OpenDevices,
        model::{Answers, Network},
    },
    spec::{Finetune, Outputs},
    stages::{
        Base, TrainingFeed,
        metrics::{CUT_ROWS, THRESHOLD},
        parts::{
            layout,
            rows::{self, TrainingRows, Use},
            task::TrainedFor,
            teach::{Lessons, cut_rows, teach},
            train_loop::Start,
        },
    },
    support::text_hash,
};

/// What such a model is trained on.
pub(in crate::stages) struct OutputFeed {
    reader: Arc<Reader>,
    rows: Vec<Wanted>,
    pub feed: TrainingFeed,
}

impl OutputFeed {
    /// Reads the training rows of a stage.
    pub(in crate::stages) fn new(
        inputs: &Inputs<'_>,
        spec: &Finetune,
        task: &Outputs,
        base: &Base,
        layout: Layout,
    ) -> Result<Self> {
        let reader = Arc::new(Reader::new(task, base, spec.train.max_length)?);
        let (source, files) = (&spec.data.train, rows::TRAIN.files(inputs));
        let mut rows = reader.read(source, files, Use::Learn)?;
        let examples = rows.iter_mut().map(|row| std::mem::take(&mut row.example)).collect();
        let teller = Arc::clone(&reader);
        let tell = move |row: &ColumnLookup<'_>, _| teller.tell(row);
        let columns = reader.encoder.used_columns();
        let feed = TrainingFeed {
            feed: Box::new(RowFeed::new(task.name(), examples, &spec.train, inputs.seed, layout)?),
            tokenizer: Arc::clone(&base.tokenizer),
            normalization: spec.train.loss_normalization,
            answers: answers(task),
            focal_gamma: 0.0,
            candidates: Vec::new(),
            classes: Vec::new(),
            is_causal: base.is_causal(),
            sources: Box::new(TrainingRows::new(source, files, [&columns, &task.lists()], Box::new(tell))),
        };
        Ok(Self { reader, rows, feed })
    }
}

/// What a linear head says for such a task.
pub(in crate::stages) fn answers(task: &Outputs) -> Answers {
    match task {
        Outputs::MultiLabel(_) => Answers::Any,
        Outputs::Regression(_) => Answers::Numbers,
    }
}

/// Teaches a model to tell several labels, or a number.
pub(in crate::stages) fn finetune(
    job: &Job<'_>,
    spec: &Finetune,
    task: &Outputs,
    mut start: Start,
    devices: &OpenDevices,
) -> Result<Computed> {
    let max_length = spec.train.max_length;
    let fed = layout(&devices.first, max_length, spec.train.packing);
    let OutputFeed { reader, rows: learned, feed } = OutputFeed::new(job, spec, task, &start.base(), fed)?;
    let dev = match &spec.data.dev {
        Some(dev) => reader.read(dev, rows::DEV.files(job), Use::Judge)?,
        None => Vec::new(),
    };
    let pooling = task.as_classification().pooling.unwrap_or(start.network.family().pooling());
    start.network.add_classifier(task.names().len(), pooling, job.seed)?;
    let task = task.clone().reading(pooling);
    let layout = layout(&devices.first, max_length, true);
    let mut measure = |network: &Network| -> Result<train::Metrics> {
        let said = said(network, &task, &dev, layout, &|_, _| Ok(()))?;
        Ok(Measured::of(&task, None, &dev, &said).map(|measured| measured.on_dev_rows()).unwrap_or_default())
    };
    let cut = learned.iter().filter(|row| row.cut).count();
    let trained_for = TrainedFor { outputs: Some(task.clone()), ..start.trained_for(max_length) };
    let lessons = Lessons {
        trained_for: trained_for.clone(),
        ends: Vec::new(),
        seen: learned.iter().map(|row| text_hash(&row.text)).collect(),
        note: format!("{} rows to learn from{}, {} dev rows", learned.len(), cut_rows(cut), dev.len()),
        rows: learned.len(),
        left_out: vec![(CUT_ROWS, cut)],
        feed,
        read: (learned.len(), dev.len()),
        candidates: None,
        measure: if dev.is_empty() { None } else { Some(&mut measure) },
    };
    let mut computed = teach(job, spec, start, lessons, devices)?;
    if !dev.is_empty() && matches!(task, Outputs::MultiLabel(_)) {
        let network = Network::load(job.out, &devices.first.device)?;
        let said = said(&network, &task, &dev, layout, &|_, _| Ok(()))?;
        let threshold = threshold(judged(&dev, &said));
        THRESHOLD.put(&mut computed.metrics, threshold);
        job.report(Event::Note(&format!("labels are given from a probability of {threshold:.3} on")));
        TrainedFor { threshold: Some(threshold), ..trained_for }.write(job.out)?;
    }
    Ok(computed)
}
