//! `linear`: train a linear classifier on n-grams, to compare others with.

use anyhow::{Context, Result};

use crate::{
    engine::{
        executor::{Computed, Event, Job},
        store::Metrics,
    },
    learning::{
        linear::{LinearClassifier, Row},
        objectives::prompt::Template,
    },
    recipe::{Checks, Draft, Supplement},
    spec::{Classification, Finetune, FinetuneData, Linear, Product, Source, Stage, Task},
    stages::{
        Devices, Field, StageKind, check,
        metrics::{DEV_ROWS_READ, FEATURES, ROWS, ROWS_READ},
        parts::{
            baseline::Baseline,
            rows::{self, DEV, TRAIN},
        },
    },
    support::Hinted,
};

/// The metric on dev rows,
const DEV_ACCURACY: &str = "dev_accuracy";
/// and the one on training rows that were held back, where there are none.
const HELD_BACK_ACCURACY: &str = "held_back_accuracy";

impl StageKind for Linear {
    const NAME: &'static str = "linear";
    const ABOUT: &'static str = "Train a linear classifier on n-grams, to compare others with";
    const PRODUCTS: &'static [Product] = &[Product::Baseline];
    const FIELDS: &'static [Field] = &[TRAIN, DEV];

    fn version(&self) -> Result<u32> {
        // The second minimizes losses more closely, the third only that of the settings that it chooses, the fourth stores
        // weights in 8 bits.
        Ok(4)
    }

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        let sources = [("data.train", Some(&self.data.train)), ("data.dev", self.data.dev.as_ref())];
        for (pointer, source) in sources.into_iter().filter_map(|(pointer, source)| Some((pointer, source?))) {
            check::has_columns(checks, &stage.pointer(pointer), source, &self.used());
        }
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        let accuracy = if self.data.dev.is_some() { DEV_ACCURACY } else { HELD_BACK_ACCURACY };
        let mut all = vec![accuracy.to_owned()];
        all.extend([ROWS, ROWS_READ, FEATURES].map(|metric| metric.name.to_owned()));
        all.extend(self.data.dev.as_ref().map(|_| DEV_ROWS_READ.name.to_owned()));
        Some(all)
    }

    /// Writes `linear.json` and `linear.safetensors`.
    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let FinetuneData { train, dev } = &self.data;
        let learned = self.read(train, job, TRAIN)?;
        let dev = dev.as_ref().map(|dev| self.read(dev, job, DEV)).transpose()?;
        job.has_read()?;
        let judged = dev.as_deref().unwrap_or_default();
        let (classifier, chosen) = LinearClassifier::train(self.labels.len(), &as_rows(&learned), &as_rows(judged));
        let mut metrics = Metrics::new();
        let best = chosen.trials.iter().find(|trial| trial.settings == chosen.settings);
        if let Some(best) = best {
            let name = if dev.is_some() { DEV_ACCURACY } else { HELD_BACK_ACCURACY };
            metrics.insert(name.to_owned(), best.accuracy.into());
        }
        ROWS.put(&mut metrics, chosen.learned);
        ROWS_READ.put(&mut metrics, learned.len());
        FEATURES.put(&mut metrics, classifier.vocabulary.len());
        if dev.is_some() {
            DEV_ROWS_READ.put(&mut metrics, judged.len());
        }
        let note = format!("{} rows, the best of {} classifiers", learned.len(), chosen.trials.len().max(1));
        job.report(Event::Note(&note));
        Baseline::new(&self.labels, self.columns.len(), classifier, chosen).write(job.out)?;
        Ok(metrics.into())
    }
}

/// A labelled row.
struct Labelled {
    columns: Vec<String>,
    label: usize,
}

fn as_rows(rows: &[Labelled]) -> Vec<Row<'_>> {
    rows.iter().map(|row| Row { columns: row.columns.iter().map(String::as_str).collect(), label: row.label }).collect()
}

impl Linear {
    /// The stage for the rows that a classifier learns, and where in the recipe its settings come from.
    pub(super) fn of(field: Field, name: &str, finetune: &Finetune, task: &Classification) -> Result<Supplement> {
        let columns = Template::new(&task.template)?.columns().to_vec();
        let (data, label) = (finetune.data.clone(), task.label.clone());
        let linear = Self { data, label, columns, labels: task.labels(), expect: None };
        let pointer = |field: &str| format!("stages.{name}.{}.{field}", Finetune::NAME);
        let origins = vec![("data", pointer("data")), ("label", pointer("task.classification.label"))];
        Ok(Supplement {
            field: field.0,
            name: format!("{name}.{}", Self::NAME),
            stage: Stage { kind: Self::NAME.to_owned(), settings: serde_json::to_value(linear)? },
            origins,
        })
    }

    fn used(&self) -> Vec<String> {
        self.columns.iter().chain([&self.label]).cloned().collect()
    }

    fn read(&self, source: &Source, job: &Job<'_>, field: Field) -> Result<Vec<Labelled>> {
        let used = self.used();
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        rows::read(source, field.files(job), &used, &[], |_, row| {
            let value = |column: &String| row.get(column).with_context(|| format!("there is no column `{column}`"));
            let label = value(&self.label)?;
            let known = self.labels.iter().position(|known| known == label).ok_or_else(|| {
                Hinted::with(format!("the label `{label}` isn't one of `labels`"), "add it there, or take the row out")
            })?;
            let columns = self.columns.iter().map(|column| Ok(value(column)?.to_owned())).collect::<Result<_>>()?;
            Ok(Labelled { columns, label: known })
        })
    }
}

/// What stands beside the model of a stage: a linear classifier of its rows, if it's a classifier that knows them.
pub(super) fn beside(field: Field, name: &str, stage: Option<&Stage>) -> Result<Option<Supplement>> {
    let Some(finetune) = stage.and_then(|stage| stage.settings_as::<Finetune>().ok()) else { return Ok(None) };
    match &finetune.task {
        Task::Classification(task) => Linear::of(field, name, &finetune, task).map(Some),
        Task::Instruction(_) | Task::MultiLabel(_) | Task::Regression(_) => Ok(None),
    }
}
