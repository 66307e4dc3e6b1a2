//! What `pipe generate` and `pipe chat` share: the model, the settings, and the text as it appears.

use std::{
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    args::{GenerationOptions, ModelSource, Recipe},
    console, exit, interrupt,
    load::{self, RemoteChoice},
};
use crate::{
    hub::{self, Reference, Wanted},
    learning::generation::{GenerationSettings, Sampling},
    network::{
        checkpoint,
        device::{DeviceChoice, OpenDevice},
    },
    spec::Product,
    stages::{ModelRoom, Show, TextGenerator, WeightChoice},
};

/// Loads the model that the command line names, for texts of so many tokens.
///
/// # Errors
/// If the recipe is wrong, the stage wasn't run, or the model can't write; a model that there's no room for.
pub(super) fn generator(
    model: &ModelSource,
    tokens: usize,
    store: &Path,
    remote: Option<RemoteChoice<'_>>,
) -> Result<TextGenerator> {
    let ModelSource { recipe, stage, checkpoint, hub, revision, changes, device, weights, kv_cache, activations } =
        model;
    let load = |directory: &Path, device: OpenDevice| {
        let room = ModelRoom::of(directory, tokens, *kv_cache, &device)?;
        let held = room.choose(*weights)?;
        room.check_activations(*activations, held)?;
        if *weights == WeightChoice::Auto {
            room.told(held).iter().for_each(|note| console::eprint_line(&format!("note: {note}")));
        }
        TextGenerator::load(directory, held, &device)?.with_kv_cache(*kv_cache).with_activations(*activations)
    };
    let by_name = |name: &String| -> Result<PathBuf> {
        let reference = Reference::new(hub::Kind::Model, name, revision.as_deref())?;
        Ok(hub::fetch(&reference, Wanted::Model)?.directory)
    };
    let place = match hub {
        Some(name) => Some(by_name(name)?),
        None => checkpoint.clone(),
    };
    if let Some(place) = &place {
        let choice: DeviceChoice = device.as_deref().unwrap_or("auto").parse()?;
        choice.check_support()?;
        checkpoint::fetch_base(place)?;
        return load(place, choice.open()?).with_context(|| format!("{}", place.display()));
    }
    let (recipe, stage) = recipe.clone().zip(stage.as_ref()).context("neither a stage nor a checkpoint was named")?;
    let recipe = Recipe { recipe, changes: changes.clone() };
    let (read, artifact) = load::stored(&recipe, stage, load::Needs::Product(&[Product::Model]), store, remote)?;
    load(&artifact.path, load::device(device.as_deref(), &read)?.open()?)
}

/// The settings: the command line's, or else the model's, or else `max_tokens` new ones as the command has it. What the model
/// asks for and doesn't get is told.
///
/// # Errors
/// Numbers that mean nothing, or don't go together.
pub(super) fn settings(
    writing: &GenerationOptions,
    max_tokens: (Option<usize>, usize),
    sequences: Option<usize>,
    generator: &TextGenerator,
) -> Result<GenerationSettings> {
    let given = generator.defaults();
    generator.note().into_iter().for_each(|note| console::eprint_line(&format!("note: {note}")));
    for ignored in &given.ignored {
        console::eprint_line(&format!(
            "note: the model's settings for generation have `{ignored}`, which isn't followed"
        ));
    }
    let (wanted, usual) = max_tokens;
    let GenerationOptions { seed, ref stop, .. } = *writing;
    let mut settings = given.settings(seed, usual);
    let GenerationSettings { sampling, rules, beams, .. } = &mut settings;
    take(writing.num_beams, &mut beams.num_beams);
    take(writing.length_penalty, &mut beams.length_penalty);
    take(writing.early_stopping, &mut beams.early_stopping);
    take(sequences, &mut beams.num_return_sequences);
    let draws = writing.top_k.is_some() || writing.top_p.is_some() || writing.min_p.is_some();
    if given.sampling.is_none() && beams.num_beams > 1 && !draws {
        // As in transformers, beams take the likeliest unless something is to be drawn.
        *sampling = Sampling::GREEDY;
    }
    take(writing.temperature, &mut sampling.temperature);
    take(writing.top_k, &mut sampling.top_k);
    take(writing.top_p, &mut sampling.top_p);
    take(writing.min_p, &mut sampling.min_p);
    take(writing.typical_p, &mut sampling.typical_p);
    sampling.check()?;
    beams.check(sampling.draws())?;
    take(writing.repetition_penalty, &mut rules.repetition_penalty);
    take(writing.no_repeat_ngram_size, &mut rules.no_repeat_ngram_size);
    if let Some(min_tokens) = writing.min_tokens {
        (settings.min_tokens, settings.rules.min_length) = (min_tokens, 0);
    }
    settings.rules.check(generator.vocabulary())?;
    if let Some(max_tokens) = wanted {
        (settings.max_tokens, settings.max_length) = (max_tokens, None);
    }
    if !stop.is_empty() {
        settings.stop.clone_from(stop);
    }
    Ok(settings)
}

fn take<T>(given: Option<T>, setting: &mut T) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// Lets `write` write, showing its text on stdout unless that is to be `quiet`, and returns how long it took.
///
/// # Errors
/// If writing fails, or stdout is gone.
pub(super) fn show<T>(quiet: bool, write: impl FnOnce(&mut Show<'_>) -> Result<T>) -> Result<(T, Duration)> {
    let mut stdout = std::io::stdout().lock();
    let mut failure = None;
    let began = Instant::now();
    let generated = interrupt::during(|| {
        write(&mut |text| {
            if !quiet && !text.is_empty() {
                failure = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).err();
            }
            if failure.is_some() || interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })?;
    let took = began.elapsed();
    if !quiet && failure.is_none() {
        failure = stdout.write_all(b"\n").and_then(|()| stdout.flush()).err();
    }
    match failure {
        Some(error) => {
            exit::work_begins();
            Err(error.into())
        }
        None => Ok((generated, took)),
    }
}

/// Prints the generation speed on stderr.
pub(super) fn print_speed(tokens: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    let speed = tokens as f64 / seconds.max(1e-9);
    let tokens = console::count(tokens, "token");
    console::eprint_line(&console::paint(
        &format!("{tokens} in {}: {speed:.1} tokens/s", console::duration(seconds)),
        "2",
    ));
}
