//! Models that follow instructions: what they learn from, and how well they answer held-out rows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{
    batches::{OnProgress, in_batches},
    layout, records, rows,
    task::TrainedFor,
    teach::{Lessons, teach},
    train_loop::Start,
};
use crate::{
    data::text::{Tokenizer, chat::Chat},
    engine::executor::{Computed, Event, Job},
    learning::{
        metrics::{LanguageReport, LanguageTally},
        objectives::{Conversation, InstructionEncoder, PromptKind},
        train,
    },
    network::{
        batch::{Example, Layout},
        device::{OpenDevice, OpenDevices},
        model::Network,
    },
    spec::{Finetune, Instruction, Source},
    stages::metrics::{CUT_ROWS, Metric, SHORTENED_ROWS, SKIPPED_ROWS},
    support::text_hash,
};

/// Conversations as examples, of each what it's about.
#[derive(Default)]
struct Instructed {
    texts: Vec<String>,
    examples: Vec<Example>,
    shortened: usize,
    cut: usize,
    skipped: usize,
}

impl Instructed {
    fn read(source: &Source, files: &[PathBuf], task: &Instruction, encoder: &InstructionEncoder<'_>) -> Result<Self> {
        let made = rows::read(source, files, &task.lists(), |id, row| {
            let conversation = Conversation::read(task, &|column: &str| row.get(column).map(str::to_owned))?;
            Ok((conversation.text(), encoder.encode(&conversation, id)?))
        })?;
        let mut all = Self::default();
        for (text, lesson) in made {
            let Some(lesson) = lesson else {
                all.skipped += 1;
                continue;
            };
            all.shortened += usize::from(lesson.shortened);
            all.cut += usize::from(lesson.cut);
            all.texts.push(text);
            all.examples.push(lesson.example);
        }
        Ok(all)
    }

    /// How many rows there are, and what had to be left out.
    fn note(&self, what: &str) -> String {
        let left_out = [
            (self.shortened, "with shortened prompts"),
            (self.cut, "with cut responses"),
            (self.skipped, "others left out, too long"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}"));
        let left_out = left_out.collect::<Vec<_>>().join(", ");
        let rows = format!("{} {what}", self.examples.len());
        if left_out.is_empty() { rows } else { format!("{rows} ({left_out})") }
    }

    /// The same counts, to be recorded.
    fn left_out(&self) -> Vec<(Metric, usize)> {
        vec![(SHORTENED_ROWS, self.shortened), (CUT_ROWS, self.cut), (SKIPPED_ROWS, self.skipped)]
    }

    /// Of each row how well the response is predicted.
    fn measure(&self, network: &Network, layout: Layout, on_progress: OnProgress<'_>) -> Result<Vec<LanguageTally>> {
        let mut tallies = vec![LanguageTally { documents: 1, ..LanguageTally::default() }; self.examples.len()];
        in_batches(self.examples.iter().enumerate().collect(), layout, on_progress, |part, batch| {
            let mut scores = network.target_scores(batch)?.into_iter();
            for (row, example) in part {
                for score in scores.by_ref().take(example.targets.len()) {
                    tallies[*row].predicted(score.log_probability, score.correct);
                }
            }
            Ok(())
        })?;
        Ok(tallies)
    }
}

/// Makes examples for a model; the task is given the format that's used.
fn encoder<'a>(
    task: &mut Instruction,
    network: &Network,
    max_length: usize,
    tokenizer: &'a Tokenizer,
) -> Result<InstructionEncoder<'a>> {
    let family = network.family();
    let chat = match task.format {
        Some(format) => Chat::new(format, tokenizer)?,
        None => {
            let format = family.chat.with_context(|| format!("a {} model doesn't write answers", family.name))?;
            Chat::by_default(format, tokenizer)
        }
    };
    task.format = Some(chat.format());
    tokenizer.special.require("instruction", family.form.needs(PromptKind::Text))?;
    let specials = tokenizer.special;
    Ok(InstructionEncoder { chat, form: family.form, max_length, too_long: task.too_long, specials })
}

/// Teaches a model to answer.
pub(in crate::stages) fn finetune(
    job: &Job<'_>,
    spec: &Finetune,
    task: &Instruction,
    start: Start,
    devices: &OpenDevices,
) -> Result<Computed> {
    let max_length = spec.train.max_length;
    let mut task = task.clone();
    let tokenizer = Arc::clone(&start.tokenizer);
    let encoder = encoder(&mut task, &start.network, max_length, &tokenizer)?;
    let learned = Instructed::read(&spec.data.train, rows::TRAIN.files(job), &task, &encoder)?;
    let dev = match &spec.data.dev {
        Some(dev) => Instructed::read(dev, rows::DEV.files(job), &task, &encoder)?,
        None => Instructed::default(),
    };
    let layout = layout(&devices.first, max_length, true);
    let mut measure = |network: &Network| -> Result<train::Metrics> {
        let mut sum = LanguageTally::default();
        dev.measure(network, layout, &|_, _| Ok(()))?.iter().for_each(|tally| sum.add(tally));
        let metrics = [("loss", sum.loss()), ("perplexity", sum.perplexity()), ("accuracy", sum.accuracy())];
        let metrics = metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(metrics.collect::<BTreeMap<_, _>>())
    };
    let trained_for = TrainedFor { instruction: Some(task), ..start.trained_for(max_length) };
    let note = format!("{}, {}", learned.note("rows to learn from"), dev.note("dev rows"));
    let lessons = Lessons {
        objective: "instruction",
        trained_for,
        seen: learned.texts.iter().map(|text| text_hash(text)).collect(),
        left_out: learned.left_out(),
        examples: learned.examples,
        candidates: None,
        note,
        measure: if dev.examples.is_empty() { None } else { Some(&mut measure) },
    };
    teach(job, spec, start, lessons, devices)
}

/// Response loss, perplexity and token accuracy on rows that are held out, and how many were too long.
pub(in crate::stages) fn eval(
    job: &Job<'_>,
    model: &Path,
    (data, files): (&Source, &[PathBuf]),
    trained_for: &TrainedFor,
    device: &OpenDevice,
) -> Result<(LanguageReport, Vec<(Metric, usize)>)> {
    let network = Network::load(model, &device.device)?;
    let tokenizer = Tokenizer::load(model)?;
    let mut task = trained_for.instruction.clone().context("this model wasn't finetuned on instructions")?;
    let encoder = encoder(&mut task, &network, trained_for.max_length, &tokenizer)?;
    let rows = Instructed::read(data, files, &task, &encoder)?;
    job.report(Event::Note(&rows.note("rows")));

    let seen = records::read_seen(model)?;
    let tallies = rows.measure(&network, layout(device, trained_for.max_length, true), &|done, all| {
        job.progressed(done, all, "rows")
    })?;
    let mut report = LanguageReport::default();
    for (text, tally) in rows.texts.iter().zip(&tallies) {
        report.add(tally, seen.contains(&text_hash(text)));
    }
    Ok((report, rows.left_out()))
}
