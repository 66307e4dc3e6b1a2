//! `eval`: measure a model on held-out data.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::Value;

use super::linear;
use crate::{
    data::text::Tokenizer,
    engine::{
        executor::{Computed, Event, Job},
        store::{Artifact, Metrics},
    },
    learning::{
        metrics::{
            Classification as Measured, EvalReport, LanguageReport, LanguageTally, Leaks, PairTally, near_duplicates,
            predictions,
        },
        objectives::{HeldOut, TooSmall, definition::HeldOutMetric, parts::measured},
    },
    network::{batch::Feed, device::OpenDevice, model::Network},
    recipe::{Checks, Draft, Supplement},
    spec::{Eval, Finetune, Import, Product, Source, Task},
    stages::{
        DeviceUse, Devices, Field, Preflight, StageKind, StageOf, check, framed,
        metrics::{CUT_ROWS, Metric, ROWS_READ, SHORTENED_ROWS, SKIPPED_ROWS},
        parts::{
            TOKENS,
            baseline::Baseline,
            classifier::Trained,
            compact_revisions, ensemble,
            holding::{ModelRoom, WeightsHeld},
            instruction, language, layout,
            outputs::{self, TrainedOutputs},
            records,
            rows::{self, Use},
            task::TrainedFor,
            teach::{cut_rows, scored},
        },
    },
};

/// The field with the stage whose model is measured.
const MODEL: Field = Field("model");
/// The field with the files of rows.
const DATA: Field = Field("data.path");

/// The field with the stage to show beside the model.
const BASELINE: Field = Field("baseline");

/// The field with the further members of an ensemble.
const ENSEMBLE: Field = Field("ensemble.*");

/// The accuracy of the network alone, where it has a wide path,
const WITHOUT_WIDE: &str = "accuracy_without_wide";
/// and that of the model alone, where others are asked, too.
const WITHOUT_ENSEMBLE: &str = "accuracy_without_ensemble";

/// The report's file.
const REPORT: &str = "report.json";
/// The file with every row and the label that was said of it,
const PREDICTIONS: &str = "predictions.parquet";
/// and the one with the outputs that were each by itself.
const OUTPUTS: &str = "outputs.parquet";
/// Tokens that a language model reads at a time.
const BATCH_TOKENS: usize = 4096;

impl StageKind for Eval {
    const NAME: &'static str = "eval";
    const ABOUT: &'static str = "Measure a model on held-out data";
    const PRODUCTS: &'static [Product] = &[Product::Report];
    const FIELDS: &'static [Field] = &[MODEL, ENSEMBLE, TOKENS, DATA, BASELINE];
    const DEVICES: DeviceUse = DeviceUse::One;

    fn version(&self) -> Result<u32> {
        // 2 adds token accuracy. 3 counts rows where lines were counted, and tells files apart; of language models it has
        // overlapping windows and bits per character, and a stride of 0 asks for the windows of 2.
        let version = if self.tokens.is_some() && self.stride == Some(0) { 2 } else { 3 };
        // The fourth has a linear classifier beside the model.
        Ok(version + u32::from(self.baseline.is_some()) + compact_revisions(self.weights))
    }

    fn supplements(&self, _name: &str, stage: StageOf<'_>) -> Result<Vec<Supplement>> {
        let is_wanted = self.baseline.is_none() && self.data.is_some();
        let beside = if is_wanted { linear::beside(BASELINE, &self.model, stage(&self.model))? } else { None };
        Ok(beside.into_iter().collect())
    }

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        let Some(model) = checks.stage(&self.model).filter(|model| model.kind.products().contains(&Product::Model))
        else {
            return;
        };
        // Of a stage whose types are wrong nothing more can be said.
        let Some(settings) = model.settings() else { return };
        let finetuned = model.settings_as::<Finetune>();
        let kind = model.kind.name();
        let (data, tokens) = (("data", self.data.is_some()), ("tokens", self.tokens.is_some()));
        let imported = model.settings_as::<Import>().is_some();
        // A checkpoint may be a classifier.
        let learns_rows = model.kind.dev_metrics(settings).is_some() || imported && self.data.is_some();
        let (wanted, other) = if learns_rows { (data, tokens) } else { (tokens, data) };
        if !wanted.1 {
            let what = if learns_rows {
                "rows like those it learned from"
            } else {
                "the held-out corpora of a tokenize stage"
            };
            let message = format!("the model of a {kind} stage is measured on {what}");
            checks.report(checks.key(&stage.pointer("")), message, format!("name them under `{}`", wanted.0));
        }
        if other.1 {
            let message = format!("`{}` is not used to measure the model of a {kind} stage", other.0);
            checks.report(checks.key(&stage.pointer(other.0)), message, "take it out".to_owned());
        }
        if self.stride.is_some() && learns_rows {
            let message = format!("`stride` is not used to measure the model of a {kind} stage");
            checks.report(checks.key(&stage.pointer("stride")), message, "take it out".to_owned());
        }
        if self.baseline.is_some() && !learns_rows {
            let message = format!("`baseline` is not used to measure the model of a {kind} stage");
            checks.report(checks.key(&stage.pointer("baseline")), message, "take it out".to_owned());
        }
        self.check_ensemble(stage, checks, finetuned.as_ref());
        if let Some(name) = &self.tokens {
            check::has_corpus(checks, stage, name, TOKENS);
        }
        if let (Some(source), Some(finetuned)) = (&self.data, finetuned) {
            check::evaluated_rows(checks, stage, source, &self.model, &finetuned);
        }
    }

    fn metrics(&self, checks: &Checks<'_>) -> Option<Vec<String>> {
        let model = checks.stage(&self.model)?;
        let language = || LanguageReport::default().metrics().into_iter().map(|(name, _)| name);
        let told = |metrics: &[Metric]| metrics.iter().map(|metric| metric.name.to_owned()).collect::<Vec<_>>();
        let finetuned = model.settings_as::<Finetune>();
        let is_wide = finetuned.as_ref().is_some_and(|finetuned| finetuned.wide.is_some());
        match (finetuned.map(|finetuned| finetuned.task), &self.data) {
            (Some(Task::Classification(_)), Some(_)) => {
                let own = EvalReport::METRICS.into_iter().chain(EvalReport::LINEAR_METRICS);
                let own = own.chain(EvalReport::NEAR_METRICS).map(str::to_owned);
                let wide = is_wide.then(|| WITHOUT_WIDE.to_owned());
                let alone = (!self.ensemble.is_empty()).then(|| WITHOUT_ENSEMBLE.to_owned());
                Some(own.chain(wide).chain(alone).chain(told(&[CUT_ROWS, ROWS_READ])).collect())
            }
            (Some(task @ (Task::MultiLabel(_) | Task::Regression(_))), Some(_)) => {
                Some(task.outputs().map(|task| outputs::recorded(&task)).unwrap_or_default())
            }
            (Some(Task::Instruction(_)), Some(_)) => {
                Some(language().chain(told(&[SHORTENED_ROWS, CUT_ROWS, SKIPPED_ROWS, ROWS_READ])).collect())
            }
            (None, None) => Some(language().collect()),
            _ => None,
        }
    }

    fn preflight(&self, preflight: &mut Preflight<'_>) -> Result<()> {
        match (preflight.settings_of::<Finetune>(&self.model), &self.data) {
            (Some(finetuned), Some(data)) => {
                preflight.rows(DATA, data, &finetuned.task)?;
                preflight.leaks(DATA, data, &self.model, &finetuned)
            }
            _ => Ok(()),
        }
    }

    /// Writes `report.json`, and for a classifier `predictions.parquet`; for other linear heads `outputs.parquet`.
    fn run(&self, job: &Job<'_>, devices: &Devices) -> Result<Computed> {
        let device = devices.first()?;
        let model = MODEL.needed(job)?;
        let held = ModelRoom::of_stage(&model.path, self.weights, &device)?;
        let metrics = match (&self.data, TOKENS.artifact(job)) {
            (Some(data), _) => match TrainedFor::read(&model.path)? {
                trained_for if trained_for.instruction.is_some() => {
                    let rows = (data, DATA.files(job));
                    let (report, counts) = instruction::eval(job, &model.path, rows, &trained_for, held, &device)?;
                    fs::write(job.out.join(REPORT), serde_json::to_vec_pretty(&report)?)?;
                    let mut metrics = report.metrics();
                    counts.into_iter().for_each(|(metric, count)| metric.put(&mut metrics, count));
                    metrics
                }
                trained_for if trained_for.outputs.is_some() => several(job, data, model, held, &device)?,
                _ => classifier(job, self, data, model, held, &device)?,
            },
            (None, Some(tokens)) => language_model(job, model, tokens, self.stride, held, &device)?,
            (None, None) => bail!("neither `data` nor `tokens` says what to measure on"),
        };
        Ok(metrics.into())
    }
}

impl Eval {
    /// Only classifiers of the same labels can answer together.
    fn check_ensemble(&self, stage: &Draft, checks: &mut Checks<'_>, model: Option<&Finetune>) {
        let labels = |finetune: &Finetune| match &finetune.task {
            Task::Classification(task) => Some(task.labels()),
            Task::Instruction(_) | Task::MultiLabel(_) | Task::Regression(_) => None,
        };
        for (index, name) in self.ensemble.iter().enumerate() {
            let at = ENSEMBLE.at(index);
            let Some(other) = checks.stage(name).filter(|other| other.settings().is_some()) else { continue };
            // What a checkpoint tells isn't known yet.
            let imported = other.settings_as::<Import>().is_some();
            let message = match (model.map(labels), other.settings_as::<Finetune>().as_ref().map(labels)) {
                (Some(Some(own)), Some(Some(others))) if own != others => {
                    format!("`{name}` tells other labels than `{}`", self.model)
                }
                (Some(None), _) | (_, Some(None)) => "only classifiers can answer together".to_owned(),
                (_, None) if !imported => "only classifiers can answer together".to_owned(),
                _ => continue,
            };
            checks.report(checks.value(&stage.pointer(&at)), message, "take it out".to_owned());
        }
    }
}

fn classifier(
    job: &Job<'_>,
    spec: &Eval,
    data: &Source,
    model: &Artifact,
    held: WeightsHeld,
    device: &OpenDevice,
) -> Result<Metrics> {
    let trained = Trained::load(&model.path, held, device)?;
    let rows = rows::labelled(data, DATA.files(job), &trained.classifier, Use::Judge)?;
    let further = (ENSEMBLE, spec.ensemble.as_slice());
    let files = (data, DATA.files(job));
    let others = ensemble::members(job, further, trained.labels(), files, (held, device), &|_, _| Ok(()))?;
    job.has_read()?;
    let cut = rows.iter().filter(|row| row.cut).count();
    job.report(Event::Note(&format!("{} rows{}", rows.len(), cut_rows(cut))));
    let examples: Vec<_> = rows.iter().map(|row| row.examples.as_slice()).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let deep =
        trained.judge()?.probabilities(&trained.network, &examples, &|done, all| job.progressed(done, all, "rows"))?;
    let wide = trained.with_wide(&texts, &deep)?;
    let own = wide.as_ref().unwrap_or(&deep);
    let together = (!others.is_empty()).then(|| {
        let mut all = vec![own.clone()];
        all.extend(others);
        ensemble::mean(&all)
    });
    let scored_rows = scored(&rows, together.as_ref().unwrap_or(own));

    let mut seen: HashSet<u64> = records::read_seen(&model.path)?.into_iter().collect();
    for index in 0..spec.ensemble.len() {
        let member = job.artifacts.get(&ENSEMBLE.at(index)).context("the member was read before")?;
        seen.extend(records::read_seen(&member.path)?);
    }
    let leaks = Leaks::find(rows.iter().map(|row| (row.text.as_str(), row.label)), &seen);
    // Of a checkpoint it isn't known what it learned.
    let rows_learned = model.file(records::ROWS);
    let learned = if rows_learned.exists() { records::read_rows(&rows_learned)? } else { Vec::new() };
    let label = |label: &str| trained.labels().iter().position(|known| known == label);
    let learned: Vec<(&str, usize)> =
        learned.iter().filter_map(|(text, name)| Some((text.as_str(), label(name)?))).collect();

    let baseline = BASELINE.artifact(job).map(|artifact| Baseline::read(&artifact.path)).transpose()?;
    // An eval without a baseline is what it was before there were any.
    let leaks = if baseline.is_some() {
        let learned: Vec<&str> = learned.iter().map(|(text, _)| *text).collect();
        leaks.with_near(&near_duplicates(&texts, &learned))
    } else {
        leaks
    };
    let linear = baseline.map(|baseline| baseline.predict(trained.labels(), &texts)).transpose()?;

    let report = EvalReport::new(trained.labels(), &scored_rows, &learned, &leaks, linear.as_deref())?;
    fs::write(job.out.join(REPORT), serde_json::to_vec_pretty(&report)?)?;
    predictions::write(&job.out.join(PREDICTIONS), trained.labels(), &scored_rows, &leaks.leaked)?;
    let mut metrics = report.metrics();
    ROWS_READ.put(&mut metrics, rows.len());
    CUT_ROWS.put(&mut metrics, cut);
    let mut alone = |name: &str, said: &[Vec<f32>]| -> Result<()> {
        let alone = Measured::measure(trained.labels().len(), scored(&rows, said).iter());
        metrics.insert(name.to_owned(), serde_json::to_value(alone.map(|alone| alone.accuracy))?);
        Ok(())
    };
    if wide.is_some() {
        alone(WITHOUT_WIDE, &deep)?;
    }
    if together.is_some() {
        alone(WITHOUT_ENSEMBLE, own)?;
    }
    Ok(metrics)
}

/// Of a model whose outputs are each by itself.
fn several(job: &Job<'_>, data: &Source, model: &Artifact, held: WeightsHeld, device: &OpenDevice) -> Result<Metrics> {
    let trained = TrainedOutputs::load(&model.path, held, device)?;
    let seen = records::read_seen(&model.path)?;
    let evaluated = trained.eval(job, (data, DATA.files(job)), &seen)?;
    evaluated.write(&job.out.join(REPORT), &job.out.join(OUTPUTS))?;
    Ok(evaluated.metrics())
}

fn language_model(
    job: &Job<'_>,
    model: &Artifact,
    tokens: &Artifact,
    stride: Option<usize>,
    held: WeightsHeld,
    device: &OpenDevice,
) -> Result<Metrics> {
    let trained_for = TrainedFor::read(&model.path)?;
    let tokenizer = Arc::new(Tokenizer::load(&model.path)?);
    let network = held.load(&model.path, &device.device)?;
    ensure!(
        tokenizer.is_same(&Tokenizer::load(&tokens.path)?),
        "the corpus is encoded with another tokenizer than the model's: give its tokenize stage \
         `tokenizer: {{ stage: … }}` with the model's stage"
    );
    let form = framed(network.family(), &tokenizer, trained_for.from_checkpoint);
    let documents = language::load(&tokens.path)?;
    let seen = records::read_seen(&model.path)?;
    let measured = measured(&trained_for.objectives)?;
    ensure!(!measured.is_empty(), "this model wasn't trained for any objective that predicts tokens or judges pairs");

    let max_length = trained_for.max_length;
    let stride = Some(stride.unwrap_or(max_length / 2)).filter(|&stride| stride > 0);
    let counted = tokens.metrics.get("characters").and_then(Value::as_u64);
    let mut report = LanguageReport::default();
    for leaked in [false, true] {
        let corpus = language::corpus(&documents, &tokenizer, form, |hash| seen.contains(&hash) == leaked);
        let mut tally = LanguageTally { documents: corpus.text.documents() as u64, ..LanguageTally::default() };
        if tally.documents > 0 {
            for (measure, objective) in &measured {
                let layout = layout(device, max_length, true);
                if *measure == HeldOutMetric::PairAccuracy {
                    let judged = match HeldOut::new(objective, &corpus, max_length, BATCH_TOKENS, layout) {
                        Ok(feed) => judge(job, &network, &feed)?,
                        Err(error) if error.is::<TooSmall>() => {
                            job.report(Event::Note(&format!("no pairs are judged: {error}")));
                            PairTally::default()
                        }
                        Err(error) => return Err(error),
                    };
                    report.add_pairs(&objective.parts[0].name, &judged, leaked);
                    continue;
                }
                let feed = match stride {
                    Some(stride) => HeldOut::sliding(objective, &corpus, max_length, stride, BATCH_TOKENS, layout)?,
                    None => HeldOut::new(objective, &corpus, max_length, BATCH_TOKENS, layout)?,
                };
                score(job, &network, &feed, *measure, &mut tally)?;
                if feed.overlaps() {
                    let chosen = |hash| seen.contains(&hash) == leaked;
                    tally.characters = language::characters(&documents, &tokenizer, counted, chosen)?;
                }
            }
        }
        report.add(&tally, leaked);
    }
    fs::write(job.out.join(REPORT), serde_json::to_vec_pretty(&report)?)?;
    Ok(report.metrics())
}

/// Adds up what the model makes of held-out examples.
fn score(
    job: &Job<'_>,
    network: &Network,
    feed: &HeldOut,
    measure: HeldOutMetric,
    tally: &mut LanguageTally,
) -> Result<()> {
    for step in 0..feed.steps() {
        for batch in feed.step(step)?.batches {
            for score in network.target_scores(&batch)? {
                match measure {
                    HeldOutMetric::Perplexity => tally.predicted(score.log_probability, score.correct),
                    HeldOutMetric::MaskedAccuracy | HeldOutMetric::PairAccuracy => tally.guessed(score.correct),
                }
            }
        }
        let note = match measure {
            HeldOutMetric::Perplexity => "generated",
            HeldOutMetric::MaskedAccuracy | HeldOutMetric::PairAccuracy => "masked",
        };
        job.progressed(step + 1, feed.steps(), note)?;
    }
    Ok(())
}

/// Adds up what the model makes of held-out pairs.
fn judge(job: &Job<'_>, network: &Network, feed: &HeldOut) -> Result<PairTally> {
    let mut tally = PairTally::default();
    for step in 0..feed.steps() {
        for batch in feed.step(step)?.batches {
            for (label, probabilities) in batch.pairs.iter().zip(network.pair_log_probabilities(&batch)?) {
                let probabilities = probabilities.try_into().ok().context("a pair has two labels")?;
                tally.judged(*label, probabilities);
            }
        }
        job.progressed(step + 1, feed.steps(), "pairs")?;
    }
    Ok(tally)
}
