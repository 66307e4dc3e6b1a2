//! What `pipe generate` and `pipe chat` share: the model, the settings, and the text as it appears.

use std::{
    io::Write,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    args::{GenerationOptions, ModelSource, Recipe},
    console, exit, interrupt, load,
};
use crate::{
    learning::generation::{GenerationSettings, Sampling},
    network::device::DeviceChoice,
    spec::Product,
    stages::{Generated, Show, TextGenerator},
};

/// Loads the model that the command line names.
///
/// # Errors
/// If the recipe is wrong, the stage wasn't run, or the model can't write.
pub(super) fn generator(model: &ModelSource, store: &Path, remote: Option<&str>) -> Result<TextGenerator> {
    let ModelSource { recipe, stage, checkpoint, changes, device } = model;
    if let Some(checkpoint) = checkpoint {
        let choice: DeviceChoice = device.as_deref().unwrap_or("auto").parse()?;
        choice.check_support()?;
        return TextGenerator::load(checkpoint, &choice.open()?).with_context(|| format!("{}", checkpoint.display()));
    }
    let (recipe, stage) = recipe.clone().zip(stage.as_ref()).context("neither a stage nor a checkpoint was named")?;
    let recipe = Recipe { recipe, changes: changes.clone() };
    let (read, artifact) = load::stored(&recipe, stage, load::Needs::Product(&[Product::Model]), store, remote)?;
    TextGenerator::load(&artifact.path, &load::device(device.as_deref(), &read)?.open()?)
}

/// The settings: the command line's, or else the model's.
///
/// # Errors
/// Numbers that mean nothing.
pub(super) fn settings(
    writing: &GenerationOptions,
    max_tokens: usize,
    generator: &TextGenerator,
) -> Result<GenerationSettings> {
    let given = generator.sampling();
    let sampling = Sampling {
        repetition_penalty: writing.repetition_penalty.unwrap_or(given.repetition_penalty),
        temperature: writing.temperature.unwrap_or(given.temperature),
        top_k: writing.top_k.unwrap_or(given.top_k),
        top_p: writing.top_p.unwrap_or(given.top_p),
    };
    sampling.check()?;
    let GenerationOptions { min_tokens, seed, ref stop, .. } = *writing;
    Ok(GenerationSettings { sampling, seed, max_tokens, min_tokens, stop: stop.clone() })
}

/// Lets `write` write, showing its text on stdout unless that is to be `quiet`, and returns how long it took.
///
/// # Errors
/// If writing fails, or stdout is gone.
pub(super) fn show(
    quiet: bool,
    write: impl FnOnce(&mut Show<'_>) -> Result<Generated>,
) -> Result<(Generated, Duration)> {
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
