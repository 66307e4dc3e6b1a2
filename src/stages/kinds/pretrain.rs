//! `pretrain`: train a language model on encoded corpora.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    engine::executor::{Computed, Event, Inputs, Job},
    learning::objectives::{Mix, definition::HeadKind, parts},
    network::{
        batch::{Feed, Layout},
        model::Answers,
    },
    recipe::{Checks, Draft},
    spec::{Pretrain, Product},
    stages::{
        Base, DeviceUse, Devices, Facts, Field, NewHeads, Preflight, StageKind, Training, TrainingData, TrainingFeed,
        check,
        metrics::{self, EPOCH_STEPS},
        parts::{
            FROM, TOKENS, base_model,
            language::{self, TrainingDocuments},
            layout, records, revisions,
            task::TrainedFor,
            train_loop::{self, Start},
        },
    },
};

impl StageKind for Pretrain {
    const NAME: &'static str = "pretrain";
    const ABOUT: &'static str = "Train a language model on encoded corpora";
    const PRODUCTS: &'static [Product] = &[Product::Model, Product::Tokenizer];
    const FIELDS: &'static [Field] = &[TOKENS, FROM.stage, FROM.checkpoint, FROM.tokenizer];
    const IS_RANDOM: bool = true;
    const DEVICES: DeviceUse = DeviceUse::All;

    fn version(&self) -> Result<u32> {
        let model = revisions(self.model.as_ref(), self.adapter.as_ref(), &self.train, false)?;
        // Where parameters have no gradient in some steps, optimizers have a second version, which counts those of each.
        let counts = u32::from(parts::mixes_heads(&self.objectives)?);
        Ok(1 + model + parts::revisions(&self.objectives)? + counts)
    }

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        check::origin(checks, stage, self.from.is_some(), self.model.is_some());
        check::adapter(checks, stage, self.adapter.as_ref(), self.from.is_none());
        check::has_corpus(checks, stage, &self.tokens, TOKENS);
        check::model(checks, stage, self.model.as_ref());
        check::objectives(checks, stage, &self.objectives);
        check::learnable(checks, stage, &self.objectives);
        check::train(checks, stage, &self.train, None);
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        Some(metrics::of_training(&[EPOCH_STEPS], &[]))
    }

    fn facts(&self) -> Result<Facts> {
        let pair = parts::needs_head(&self.objectives, HeadKind::Pair)?;
        let predicted = self.objectives.iter().map(parts::predicted).collect::<Result<Vec<_>>>()?;
        let training = Training {
            train: self.train.clone(),
            settings: Training::SETTINGS,
            adapter: self.adapter.clone(),
            heads: NewHeads { pair, classifier: None },
            predicted: predicted.into_iter().fold(0.0, f64::max),
            data: TrainingData::Corpora(TOKENS),
        };
        let base_model = base_model(self.from.as_ref(), self.model.as_ref(), false);
        Ok(Facts { base_model, training: Some(training), vocabulary: None })
    }

    fn preflight(&self, preflight: &mut Preflight<'_>) -> Result<()> {
        preflight.pairs(&self.tokens, &self.objectives, self.train.max_length);
        Ok(())
    }

    fn feed(&self, inputs: &Inputs<'_>, base: &Base, layout: Layout) -> Result<Option<TrainingFeed>> {
        let documents = language::load(&TOKENS.needed(inputs)?.path)?;
        let mix = self.mix(&documents, inputs.seed, base, layout)?;
        Ok(Some(self.feed_of(mix, &documents, base)))
    }

    /// Writes the model in Hugging Face's layout, its tokenizer, what it was trained for, its curve and what it has seen.
    fn run(&self, job: &Job<'_>, devices: &Devices) -> Result<Computed> {
        let devices = devices.all()?;
        let Self { from, model, adapter, objectives, train, .. } = self;
        let mut start = Start::new(job, from.as_ref(), model.as_ref(), adapter.as_ref(), train, None, &devices.first)?;
        let documents = language::load(&TOKENS.needed(job)?.path)?;
        let (base, layout) = (start.base(), layout(&devices.first, train.max_length, train.packing));
        let mix = self.mix(&documents, job.seed, &base, layout)?;
        start.network.add_language_head(job.seed)?;
        if parts::needs_head(objectives, HeadKind::Pair)? {
            start.network.add_pair_head(job.seed);
        }
        let parts: Vec<_> = mix.examples().iter().map(|(name, count)| format!("{name} {count}")).collect();
        job.report(Event::Note(&format!("{} steps; examples a pass: {}", mix.steps(), parts.join(", "))));

        let mut seen = language::hashes(&documents);
        if let Some(from) = &start.from {
            seen.extend(records::read_seen(&from.model)?);
        }
        // In the order of their declaration: the digest depends on it.
        let own = objectives.iter().map(parts::complete).collect::<Result<Vec<_>>>()?;
        let learned = [start.objectives(), own].concat();
        TrainedFor { objectives: learned, ..start.trained_for(train.max_length) }.write(job.out)?;
        records::write_seen(&job.out.join(records::SEEN), &seen)?;
        start.write_tokenizer(job)?;
        let ends =
            parts::forms(objectives).into_iter().map(|form| form.end(&base.tokenizer.special)).collect::<Vec<_>>();
        start.write_settings(job, &ends)?;
        let feed = self.feed_of(mix, &documents, &base);
        let mut computed = train_loop::train(job, &devices, start.network, &feed, train, None, None)?;
        EPOCH_STEPS.put(&mut computed.metrics, feed.feed.epoch_steps());
        Ok(computed)
    }
}

impl Pretrain {
    fn mix(&self, documents: &Arc<language::Encoded>, seed: u64, base: &Base, layout: Layout) -> Result<Mix> {
        let corpus = language::corpus(documents, &base.tokenizer, base.form, |_| true);
        Mix::new(&self.objectives, &corpus, &self.train, seed, layout)
    }

    fn feed_of(&self, mix: Mix, documents: &Arc<language::Encoded>, base: &Base) -> TrainingFeed {
        TrainingFeed {
            feed: Box::new(mix),
            tokenizer: Arc::clone(&base.tokenizer),
            normalization: self.train.loss_normalization,
            answers: Answers::One,
            focal_gamma: 0.0,
            candidates: Vec::new(),
            classes: Vec::new(),
            is_causal: base.is_causal(),
            sources: Box::new(TrainingDocuments::new(documents, &base.tokenizer)),
        }
    }
}
