//! `pipe devices`.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;

use super::{args::Devices, console, exit::Exit};
use crate::{
    network::device,
    stages::{estimate::bytes, probe_training},
};

/// `pipe devices`: what a recipe can run on here, and why not on the rest.
pub(super) fn devices(command: &Devices) -> Result<Exit> {
    if let Some(choice) = &command.probe {
        device::end_with_parent();
        let info = match (&command.family, &command.precision) {
            (Some(family), Some(precision)) => {
                probe_training(choice.parse()?, family, serde_json::from_value(Value::from(precision.as_str()))?)?
            }
            _ => device::probe(choice.parse()?, command.spirv),
        };
        console::print(&serde_json::to_string(&info)?)?;
        return Ok(Exit::Done);
    }
    let devices = device::devices()?;
    if command.json {
        let list: Vec<Value> = devices.iter().map(device::json).collect();
        console::print(&serde_json::to_string_pretty(&list)?)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["device", "usable", "memory", "precision", ""]);
    for info in &devices {
        let driver = info.driver.as_ref().map(|driver| format!("driver {driver}"));
        let features = Some(info.features.join(", ")).filter(|features| !features.is_empty());
        let about = [info.hardware.clone(), driver, features, info.note.clone()];
        let about: Vec<String> = about.into_iter().flatten().collect();
        table.add_row([
            info.device.clone(),
            if info.usable { "yes" } else { "no" }.to_owned(),
            info.memory_bytes.map(bytes).unwrap_or_default(),
            info.precision.join(" "),
            about.join("; "),
        ]);
    }
    console::print(&table.to_string())?;
    Ok(Exit::Done)
}
