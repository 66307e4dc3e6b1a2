//! `pipe devices`.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{DONE, args::Devices, progress};
use crate::device::devices as list;

/// `pipe devices`: what a recipe can run on here, and why not on the rest.
pub(super) fn devices(command: &Devices) -> Result<u8> {
    let devices = list();
    if command.json {
        let list: Vec<Value> = devices
            .iter()
            .map(|device| json!({ "device": device.name, "usable": device.usable, "hardware": device.hardware, "note": device.note }))
            .collect();
        progress::put(&serde_json::to_string_pretty(&list)?)?;
        return Ok(DONE);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["device", "usable", ""]);
    for device in &devices {
        let about: Vec<&str> = [&device.hardware, &device.note].into_iter().flatten().map(String::as_str).collect();
        table.add_row([device.name.as_str(), if device.usable { "yes" } else { "no" }, &about.join("; ")]);
    }
    progress::put(&table.to_string())?;
    Ok(DONE)
}
