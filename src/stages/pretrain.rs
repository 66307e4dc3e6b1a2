//! Train a language model on encoded corpora.

use anyhow::Result;
use serde_json::json;

use super::{
    input, language, layout,
    origin::Origin,
    records,
    task::{Purpose, abilities},
    training::{self, Start},
};
use crate::{
    engine::executor::{Computed, Event, Job},
    learning::objectives::{
        Mix,
        definition::Head,
        parts::{complete, needs_head},
    },
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
    if needs_head(&spec.objectives, Head::Pair)? {
        start.network.add_pair_head(job.seed);
    }
    let parts: Vec<_> = mix.examples().iter().map(|(name, count)| format!("{name} {count}")).collect();
    job.tell(Event::Note(&format!("{} steps; examples a pass: {}", mix.steps(), parts.join(", "))));

    let mut seen = language::hashes(&documents);
    if let Some(from) = Origin::of(job, "from") {
        seen.extend(records::read_seen(&from.model)?);
    }
    // In the order of their declaration: the digest depends on it.
    let own = spec.objectives.iter().map(complete).collect::<Result<Vec<_>>>()?;
    let objectives = [start.objectives(), own].concat();
    Purpose { objectives, ..start.purpose(spec.train.max_length) }.write(job.out)?;
    records::write_seen(&job.out.join(records::SEEN), &seen)?;
    start.write_tokenizer(job)?;
    let mut computed = training::train(job, devices, start.network, &mix, &spec.train, None, None)?;
    computed.metrics.insert("epoch_steps".into(), json!(mix.epoch_steps()));
    Ok(computed)
}
