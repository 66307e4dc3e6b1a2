//! `finetune`: adapt a model to rows, labelled ones or instructions.

use anyhow::{Result, bail};

use crate::{
    engine::executor::{Computed, Inputs, Job},
    learning::objectives::prompt,
    network::batch::Layout,
    recipe::{Checks, Draft, Supplement},
    spec::{DevMetric, DeviceChoice, Finetune, Head, Linear, Origin, Pooling, Product, Task, TooLong, Wide},
    stages::{
        Base, DevRows, DeviceUse, Devices, Facts, Field, NewHeads, Preflight, StageKind, StageOf, Training,
        TrainingData, TrainingFeed, check, metrics,
        parts::{
            FROM, TOKENS, base_model,
            instruction::{self, InstructionFeed},
            outputs::{self, OutputFeed},
            revisions,
            rows::{DEV, TRAIN},
            teach::{LabelledFeed, WIDE, classify},
            teacher,
            train_loop::Start,
        },
    },
};

impl StageKind for Finetune {
    const NAME: &'static str = "finetune";
    const ABOUT: &'static str = "Adapt a model to labelled rows";
    const PRODUCTS: &'static [Product] = &[Product::Model, Product::Tokenizer];
    const FIELDS: &'static [Field] =
        &[TOKENS, FROM.stage, FROM.checkpoint, FROM.tokenizer, TRAIN, DEV, WIDE, teacher::MODELS, teacher::BASELINES];
    const IS_RANDOM: bool = true;
    const DEVICES: DeviceUse = DeviceUse::All;

    fn version(&self) -> Result<u32> {
        // The second takes the lower perplexity for the better one.
        let watches_perplexity = self.train.watches(&DevMetric::PERPLEXITY);
        let training = revisions(self.model.as_ref(), self.adapter.as_ref(), &self.train, watches_perplexity)?;
        let task = match &self.task {
            // The second puts special tokens where the template names them.
            Task::Classification(task) => prompt::has_controls(&task.template),
            // The second applies `too_long` to all of a row.
            Task::Instruction(task) => task.too_long != TooLong::Refuse,
            Task::MultiLabel(_) | Task::Regression(_) => false,
        };
        // The second linear head is that of transformers' classes; `mean` is what it was.
        let head = match &self.task {
            Task::Classification(task) => task.head == Head::Linear && task.pooling != Some(Pooling::Mean),
            Task::Instruction(_) | Task::MultiLabel(_) | Task::Regression(_) => false,
        };
        // The second takes a wide path whole, and chooses what it counts for by accuracy first.
        let wide = self.wide.is_some();
        Ok(1 + training + u32::from(task) + u32::from(head) + u32::from(wide))
    }

    fn supplements(&self, name: &str, _stage: StageOf<'_>) -> Result<Vec<Supplement>> {
        match (&self.wide, &self.task) {
            (Some(Wide { baseline: None }), Task::Classification(task)) => {
                Ok(vec![Linear::of(WIDE, name, self, task)?])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        check::origin(checks, stage, self.from.is_some(), self.model.is_some());
        check::adapter(checks, stage, self.adapter.as_ref(), self.from.is_none());
        match (&self.from, &self.tokens) {
            (Some(from), Some(_)) => checks.report(
                checks.key(&stage.pointer(TOKENS.0)),
                "`tokens` goes with `model`; `from` brings its own tokenizer",
                match from {
                    Origin::Checkpoint(_) => "name another one under `from.tokenizer`".to_owned(),
                    Origin::Stage(_) => "take `tokens` out".to_owned(),
                },
            ),
            (None, None) if self.model.is_some() => checks.report(
                checks.key(&stage.pointer("model")),
                "a new model needs a tokenizer",
                "name a tokenize stage under `tokens`".to_owned(),
            ),
            _ => {}
        }
        check::model(checks, stage, self.model.as_ref());
        check::train(checks, stage, &self.train, Some((self.task.dev_metrics(), self.data.dev.is_some())));
        check::rows(checks, stage, self);
        match &self.task {
            Task::Classification(task) => {
                check::readable(checks, stage, task);
                if self
                    .teacher
                    .as_ref()
                    .is_some_and(|teacher| teacher.models.is_empty() && teacher.baselines.is_empty())
                {
                    let hint = "name stages under `models` or `baselines`, or take it out".to_owned();
                    checks.report(checks.key(&stage.pointer("teacher")), "there are no teachers", hint);
                }
            }
            Task::Instruction(task) => check::instructable(checks, stage, task),
            Task::MultiLabel(_) | Task::Regression(_) => {}
        }
        let classifies = matches!(self.task, Task::Classification(_));
        for (field, is_given) in [("wide", self.wide.is_some()), ("teacher", self.teacher.is_some())] {
            if is_given && !classifies {
                let message = format!("`{field}` is for classifiers");
                checks.report(checks.key(&stage.pointer(field)), message, "take it out".to_owned());
            }
        }
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        let dev = if self.data.dev.is_some() { self.task.dev_metrics() } else { &[] };
        let mut told = vec![metrics::ROWS, metrics::ROWS_READ, metrics::CUT_ROWS];
        if matches!(self.task, Task::Instruction(_)) {
            told.extend([metrics::SHORTENED_ROWS, metrics::SKIPPED_ROWS]);
        }
        if self.data.dev.is_some() {
            told.push(metrics::DEV_ROWS_READ);
            told.extend(self.wide.as_ref().map(|_| metrics::WIDE_DEV_ACCURACY));
            told.extend(matches!(self.task, Task::MultiLabel(_)).then_some(metrics::THRESHOLD));
        }
        Some(metrics::of_training(&told, dev))
    }

    fn facts(&self) -> Result<Facts> {
        let classifier = match &self.task {
            Task::Classification(task) if task.head == Head::Linear => Some((task.words.len(), task.pooling)),
            Task::Classification(_) | Task::Instruction(_) => None,
            Task::MultiLabel(task) => Some((task.names.len(), task.pooling)),
            Task::Regression(task) => Some((1, task.pooling)),
        };
        let training = Training {
            train: self.train.clone(),
            settings: Training::SETTINGS,
            adapter: self.adapter.clone(),
            heads: NewHeads { pair: false, classifier },
            // Responses may be most of what is read.
            predicted: if matches!(self.task, Task::Instruction(_)) { 1.0 } else { 0.0 },
            data: TrainingData::Rows {
                source: self.data.train.clone(),
                field: TRAIN,
                task: self.task.clone(),
                dev: DevRows { source: self.data.dev.clone(), field: DEV, section: "data.dev" },
            },
        };
        let base_model = base_model(self.from.as_ref(), self.model.as_ref(), true);
        Ok(Facts { base_model, training: Some(training), vocabulary: None })
    }

    fn preflight(&self, preflight: &mut Preflight<'_>) -> Result<()> {
        preflight.rows(TRAIN, &self.data.train, &self.task)?;
        preflight.warm_up(&self.train)?;
        if let Task::Classification(task) = &self.task {
            preflight.words(TRAIN, &self.data.train, task)?;
        }
        match &self.data.dev {
            Some(dev) => preflight.rows(DEV, dev, &self.task),
            None => Ok(()),
        }
    }

    fn feed(&self, inputs: &Inputs<'_>, base: &Base, layout: Layout) -> Result<Option<TrainingFeed>> {
        Ok(Some(match &self.task {
            Task::Classification(task) => {
                let device = DeviceChoice::Cpu.open()?;
                LabelledFeed::new(inputs, self, task, base, layout, &device)?.feed
            }
            Task::Instruction(task) => InstructionFeed::new(inputs, self, task, base, layout)?.feed,
            Task::MultiLabel(_) | Task::Regression(_) => {
                let Some(task) = self.task.outputs() else { return Ok(None) };
                OutputFeed::new(inputs, self, &task, base, layout)?.feed
            }
        }))
    }

    /// Writes the model in Hugging Face's layout, its tokenizer, what it was trained for, its curve and what it has seen; a classifier's
    /// rows too.
    fn run(&self, job: &Job<'_>, devices: &Devices) -> Result<Computed> {
        let devices = devices.all()?;
        let Self { from, model, adapter, train, .. } = self;
        let labels = match &self.task {
            Task::Classification(task) => task.reads_own_head().then(|| task.labels()),
            Task::Instruction(_) | Task::MultiLabel(_) | Task::Regression(_) => None,
        };
        let (from, labels) = (from.as_ref(), labels.as_deref());
        let start = Start::new(job, from, model.as_ref(), adapter.as_ref(), train, labels, &devices.first)?;
        match (&self.task, self.task.outputs()) {
            (_, Some(task)) => outputs::finetune(job, self, &task, start, &devices),
            (Task::Instruction(task), _) => instruction::finetune(job, self, task, start, &devices),
            (Task::Classification(task), _) => classify(job, self, task, start, &devices),
            (Task::MultiLabel(_) | Task::Regression(_), None) => bail!("a task without outputs"),
        }
    }
}
