//! Train a language model on encoded corpora.

use anyhow::Result;

use super::{
    input, language, layout,
    metrics::EPOCH_STEPS,
    origin::Origin,
    records,
    task::{Purpose, abilities},
    training::{self, Start},
};
use crate::{
    engine::executor::{Computed, Event, Job},
    learning::objectives::Mix,
    network::{batch::Feed, device::OpenDevices},
    spec::Pretrain,
};

/// Writes the model in Hugging Face's layout, its tokenizer, its purpose, its curve and what it has seen.
pub(super) fn pretrain(job: &Job<'_>, spec: &Pretrain, devices: &OpenDevices) -> Result<Computed> {
    let mut start = Start::new(job, spec.model.as_ref(), spec.adapter.as_ref(), &devices.first)?;
    let documents = language::load(&input(job, "tokens")?.path)?;
    let corpus = language::corpus(&documents, &start.tokenizer, abilities(&start.network)?.form, |_| true);
    let layout = layout(&devices.first, spec.train.max_length, spec.train.packing);
    let mix = Mix::new(&spec.objectives, &corpus, &spec.train, job.seed, layout)?;
    start.network.add_language_head(job.seed)?;
    if spec.objectives.iter().any(|objective| objective.next_sentence.is_some() || objective.sentence_order.is_some()) {
        start.network.add_pair_head(job.seed);
    }
    let parts: Vec<_> = mix.examples().iter().map(|(name, count)| format!("{name} {count}")).collect();
    job.tell(Event::Note(&format!("{} steps; examples a pass: {}", mix.steps(), parts.join(", "))));

    let mut seen = language::hashes(&documents);
    if let Some(from) = Origin::of(job, "from") {
        seen.extend(records::read_seen(&from.model)?);
    }
    let objectives = [start.objectives(), spec.objectives.clone()].concat();
    Purpose { objectives, ..start.purpose(spec.train.max_length) }.write(job.out)?;
    records::write_seen(&job.out.join(records::SEEN), &seen)?;
    start.write_tokenizer(job)?;
    let mut computed = training::train(job, devices, start.network, &mix, &spec.train, None, None)?;
    EPOCH_STEPS.put(&mut computed.metrics, mix.epoch_steps());
    Ok(computed)
}
