//! Models that follow instructions: what they learn from, and how well they answer held-out rows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{
    batches::{OnProgress, in_batches},
    holding::WeightsHeld,
    layout, records,
    rows::{self, TrainingRows},
    task::TrainedFor,
    teach::{Lessons, teach},
    train_loop::Start,
};
use crate::{
    data::text::{
        Tokenizer,
        chat::{Chat, Role},
    },
    engine::executor::{Computed, Event, Inputs, Job},
    learning::{
        metrics::{LanguageReport, LanguageTally},
        objectives::{
            ColumnLookup, Conversation, InstructionEncoder, PromptKind, RowFeed, instruction::InstructionExample,
        },
        train,
    },
    network::{
        batch::{Example, Layout, MadeOf},
        device::{OpenDevice, OpenDevices},
        model::{Answers, Network},
    },
    spec::{Finetune, Instruction, Source, Turns},
    stages::{
        Base, Cut, Told, TrainingFeed,
        metrics::{CUT_ROWS, Metric, ROWS_READ, SHORTENED_ROWS, SKIPPED_ROWS},
    },
    support::text_hash,
};

/// Conversations as examples, of each what it's about.
#[derive(Default)]
struct Instructed {
    /// Rows that were read.
    read: usize,
    /// Of each row what it's found again by.
    texts: Vec<String>,
    /// Examples, each with the index of its row.
    examples: Vec<(usize, Example)>,
    shortened: usize,
    cut: usize,
    skipped: usize,
}

impl Instructed {
    fn read(source: &Source, files: &[PathBuf], task: &Instruction, encoder: &InstructionEncoder<'_>) -> Result<Self> {
        let made = rows::read(source, files, &task.used_columns(), &task.lists(), |id, row| {
            let conversation = Conversation::read(task, &|column: &str| row.get(column).map(str::to_owned))?;
            Ok((conversation.text(), encoder.examples(&conversation, id)?))
        })?;
        let mut all = Self { read: made.len(), ..Self::default() };
        for (text, lessons) in made {
            // Of a row with several, some answers may be too long.
            all.skipped += usize::from(lessons.iter().any(Option::is_none));
            let lessons: Vec<_> = lessons.into_iter().flatten().collect();
            if lessons.is_empty() {
                continue;
            }
            all.shortened += usize::from(lessons.iter().any(|lesson| lesson.shortened));
            all.cut += usize::from(lessons.iter().any(|lesson| lesson.cut));
            all.examples.extend(lessons.into_iter().map(|lesson| (all.texts.len(), lesson.example)));
            all.texts.push(text);
        }
        Ok(all)
    }

    /// How many rows there are, and what had to be left out.
    fn note(&self, what: &str) -> String {
        let left_out = [
            (self.shortened, "with shortened prompts"),
            (self.cut, "with cut responses"),
            (self.skipped, "with answers left out, too long"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}"));
        let left_out = left_out.collect::<Vec<_>>().join(", ");
        let rows = format!("{} {what}", self.texts.len());
        if left_out.is_empty() { rows } else { format!("{rows} ({left_out})") }
    }

    /// The same counts, to be recorded.
    fn left_out(&self) -> Vec<(Metric, usize)> {
        vec![(SHORTENED_ROWS, self.shortened), (CUT_ROWS, self.cut), (SKIPPED_ROWS, self.skipped)]
    }

    /// Of each row how well its answers are predicted.
    fn measure(&self, network: &Network, layout: Layout, on_progress: OnProgress<'_>) -> Result<Vec<LanguageTally>> {
        let mut tallies = vec![LanguageTally { documents: 1, ..LanguageTally::default() }; self.texts.len()];
        let examples = self.examples.iter().map(|(row, example)| (*row, example)).collect();
        in_batches(examples, layout, on_progress, |part, batch| {
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
fn encoder<'a>(task: &mut Instruction, base: &'a Base, max_length: usize) -> Result<InstructionEncoder<'a>> {
    let Base { family, form, tokenizer, .. } = base;
    let chat = match task.format {
        Some(format) => Chat::new(format, tokenizer)?,
        None => {
            let format = family.chat.with_context(|| format!("a {} model doesn't write answers", family.name))?;
            Chat::by_default(format, tokenizer)
        }
    };
    task.format = Some(chat.format());
    tokenizer.special.require("instruction", form.needs(PromptKind::Text))?;
    let specials = tokenizer.special;
    let (turns, too_long) = (task.turns, task.too_long);
    Ok(InstructionEncoder { chat, form: *form, max_length, turns, too_long, specials })
}

/// What a model that follows instructions is trained on.
pub(in crate::stages) struct InstructionFeed {
    /// The task, with the chat format that's used.
    pub task: Instruction,
    /// The rows; their examples are the feed's.
    learned: Instructed,
    pub feed: TrainingFeed,
}

impl InstructionFeed {
    /// Reads the training rows of a stage.
    pub(in crate::stages) fn new(
        inputs: &Inputs<'_>,
        spec: &Finetune,
        task: &Instruction,
        base: &Base,
        layout: Layout,
    ) -> Result<Self> {
        let (source, files) = (&spec.data.train, rows::TRAIN.files(inputs));
        let (mut task, max_length) = (task.clone(), spec.train.max_length);
        let encoder = encoder(&mut task, base, max_length)?;
        let mut learned = Instructed::read(source, files, &task, &encoder)?;
        let examples = std::mem::take(&mut learned.examples).into_iter().map(|(_, example)| example).collect();
        let (told, base_model) = (task.clone(), base.clone());
        let tell = move |row: &ColumnLookup<'_>, part| tell(&told, &base_model, max_length, row, part);
        let feed = TrainingFeed {
            feed: Box::new(RowFeed::new("instruction", examples, &spec.train, inputs.seed, layout)?),
            tokenizer: Arc::clone(&base.tokenizer),
            normalization: spec.train.loss_normalization,
            answers: Answers::One,
            focal_gamma: 0.0,
            candidates: Vec::new(),
            classes: Vec::new(),
            is_causal: base.is_causal(),
            sources: Box::new(TrainingRows::new(source, files, [&task.used_columns(), &task.lists()], Box::new(tell))),
        };
        Ok(Self { task, learned, feed })
    }
}

/// What there is to say of a part of a row with a conversation.
fn tell(task: &Instruction, base: &Base, max_length: usize, row: &ColumnLookup<'_>, part: u64) -> Result<Told> {
    let encoder = encoder(&mut task.clone(), base, max_length)?;
    let conversation = Conversation::read(task, row)?;
    let parts = encoder.parts(&conversation, 0).into_iter();
    let said = parts.filter(|(id, _)| MadeOf::row(*id) == MadeOf::Row { row: 0, part }).map(|(_, said)| said).next();
    let said = said.context("the row has no such part any more")?;
    let role = |role: Role| format!("{role:?}").to_lowercase();
    let turns = said.turns.iter().map(|turn| format!("{}: {}", role(turn.role), turn.content));
    let response = format!("{}: {}", role(Role::Assistant), said.response);
    let text = turns.chain([response]).collect::<Vec<_>>().join("\n");
    let mut cut = Vec::new();
    if let Some(InstructionExample { prompt, response, .. }) = encoder.encode(&said, 0)? {
        let part = |name: &str, [kept, of]: [usize; 2], place: &str| {
            let (part, unit, place) = (name.into(), "tokens".into(), place.into());
            (kept < of).then_some(Cut { part, kept, of, unit, place, rest: None })
        };
        cut.extend(part("prompt", prompt, "the oldest rounds, then the end of the last question"));
        cut.extend(part("response", response, "the end"));
    }
    Ok(Told { text: Some(text), cut, ..Told::default() })
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
    let (base, packing) = (start.base(), spec.train.packing);
    let fed = layout(&devices.first, max_length, packing);
    let InstructionFeed { task, learned, feed } = InstructionFeed::new(job, spec, task, &base, fed)?;
    let encoder = encoder(&mut task.clone(), &base, max_length)?;
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
    let read = (learned.read, dev.read);
    let end = encoder.chat.end().filter(|_| encoder.turns == Turns::All);
    let end = end.unwrap_or(encoder.form.end(&encoder.specials));
    let lessons = Lessons {
        trained_for,
        ends: vec![end],
        seen: learned.texts.iter().map(|text| text_hash(text)).collect(),
        rows: learned.texts.len(),
        left_out: learned.left_out(),
        feed,
        candidates: None,
        note,
        read,
        measure: if dev.examples.is_empty() { None } else { Some(&mut measure) },
    };
    teach(job, spec, start, lessons, devices)
}

/// Loss on the answers, perplexity and token accuracy on rows that are held out, and how many were read and were too long.
pub(in crate::stages) fn eval(
    job: &Job<'_>,
    model: &Path,
    (data, files): (&Source, &[PathBuf]),
    trained_for: &TrainedFor,
    held: WeightsHeld,
    device: &OpenDevice,
) -> Result<(LanguageReport, Vec<(Metric, usize)>)> {
    let tokenizer = Arc::new(Tokenizer::load(model)?);
    let network = held.load(model, &device.device)?;
    let base = Base::of(&network, &tokenizer, trained_for.from_checkpoint);
    let mut task = trained_for.instruction.clone().context("this model wasn't finetuned on instructions")?;
    let encoder = encoder(&mut task, &base, trained_for.max_length)?;
    let rows = Instructed::read(data, files, &task, &encoder)?;
    job.has_read()?;
    job.report(Event::Note(&rows.note("rows")));

    let seen = records::read_seen(model)?;
    let tallies = rows.measure(&network, layout(device, trained_for.max_length, true), &|done, all| {
        job.progressed(done, all, "rows")
    })?;
    let mut report = LanguageReport::default();
    for (text, tally) in rows.texts.iter().zip(&tallies) {
        report.add(tally, seen.contains(&text_hash(text)));
    }
    let mut counts = rows.left_out();
    counts.push((ROWS_READ, rows.read));
    Ok((report, counts))
}
