//! `pipe bench`.

use anyhow::{Result, bail};
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;

use super::{args::Bench, console, exit::Exit};
use crate::{
    learning::train::{Observer, Progress},
    network::device::{self, DeviceChoice, DeviceChoices},
    recipe::suggest,
    stages::{
        bench::{self, BenchResult, Benchmark, SHAPES, Shape},
        estimate::bytes,
    },
    support::explained,
};

/// `pipe bench`: times training steps on each device that can be used, and prints a table.
pub(super) fn bench(command: &Bench) -> Result<Exit> {
    let plan = Benchmark {
        shape: shape(command)?,
        precision: word(&command.precision, "precision")?,
        steps: command.steps,
        dropout: command.dropout,
        micro_batch: word(&command.micro_batch, "micro-batch")?,
    };
    let mut measured = Vec::new();
    let mut failed = false;
    for choices in candidates(command)? {
        console::eprint_line(&format!("{choices}: {}, {}", plan.shape.name, plan.precision.name()));
        match choices.open().and_then(|open| bench::run(&plan, &open, &mut StepPrinter)) {
            Ok(result) => measured.push(result),
            Err(error) => {
                failed = true;
                console::eprint_line(&format!("{choices}: {}", explained(&error)));
            }
        }
    }
    if command.json {
        console::print(&serde_json::to_string_pretty(&measured)?)?;
    } else {
        console::print(&table(&measured))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The device that was asked for, or the devices together, or each that can be used but for software drivers.
fn candidates(command: &Bench) -> Result<Vec<DeviceChoices>> {
    if let Some(devices) = &command.devices {
        return Ok(vec![devices.parse::<DeviceChoices>()?.found()?]);
    }
    if let Some(device) = &command.device {
        let choice: DeviceChoice = device.parse()?;
        choice.check_support()?;
        return Ok(vec![choice.into()]);
    }
    // Usable devices, except software drivers.
    let devices = device::devices()?.into_iter().filter(|info| info.usable && info.note.is_none());
    devices.map(|info| Ok(info.device.parse::<DeviceChoice>()?.into())).collect()
}

fn shape(command: &Bench) -> Result<Shape> {
    let Some(mut shape) = SHAPES.iter().copied().find(|shape| shape.name == command.shape) else {
        bail!("no shape `{}`; there are {}", command.shape, suggest::list(SHAPES.iter().map(|shape| shape.name)));
    };
    shape.batch = command.batch.unwrap_or(shape.batch as u32) as usize;
    shape.length = command.length.unwrap_or(shape.length as u32) as usize;
    Ok(shape)
}

/// A word, or a number of tokens, as recipes have it.
fn word<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let value = match text.parse::<usize>() {
        Ok(tokens) => serde_json::json!({ "tokens": tokens }),
        Err(_) => Value::from(text),
    };
    serde_json::from_value(value).map_err(|_| anyhow::anyhow!("invalid {what} `{text}`"))
}

fn table(measured: &[BenchResult]) -> String {
    let mut table = Table::new();
    let columns = ["device", "shape", "precision", "batch", "tokens/s", "TFLOP/s", "of the peak", "memory"];
    table.load_style(NOTHING).set_header(columns);
    for row in measured {
        table.add_row([
            row.device.clone(),
            format!("{} {}", row.shape, row.objective),
            row.precision.name().to_owned(),
            format!("{} × {}", row.batch, row.length),
            format!("{:.0}", row.tokens_per_second),
            format!("{:.3}", row.flops_per_second / 1e12),
            row.mfu.map(|mfu| format!("{:.1} %", 100.0 * mfu)).unwrap_or_default(),
            row.device_memory_bytes.or(row.peak_memory_bytes).map(bytes).unwrap_or_default(),
        ]);
    }
    table.to_string()
}

struct StepPrinter;

impl Observer for StepPrinter {
    fn progressed(&mut self, progress: &Progress) {
        let Progress { step, steps, loss, tokens_per_second, .. } = progress;
        console::eprint_line(&format!("step {step} of {steps}: loss {loss:.4}, {tokens_per_second:.0} tokens/s"));
    }

    fn noted(&mut self, text: &str) {
        console::eprint_line(text);
    }
}
