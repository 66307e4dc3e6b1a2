//! What training will take, as `pipe plan` shows it.

use std::fmt::Display;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use crate::{
    engine::plan::{Graph, Plan},
    network::device::DeviceChoices,
    stages::{
        estimate::{Estimate, Form, Machine, bytes},
        estimator,
    },
    support::explained,
};

/// The estimates of a plan's training stages.
pub(super) struct Estimates {
    machine: Machine,
    stages: Vec<(String, Result<Estimate, String>)>,
}

impl Estimates {
    pub(super) fn new(graph: &Graph, plan: &Plan, choices: &DeviceChoices) -> Self {
        let machine = Machine::new(choices);
        let estimator = estimator(graph, plan, &machine);
        let stages = graph.nodes().filter_map(|node| match estimator.stage(node) {
            Ok(estimate) => Some((node.name.clone(), Ok(estimate?))),
            Err(error) => Some((node.name.clone(), Err(explained(&error)))),
        });
        Self { stages: stages.collect(), machine }
    }

    /// A table, a line for each way to train where there are several; empty where nothing is trained.
    pub(super) fn table(&self) -> Option<String> {
        if self.stages.is_empty() {
            return None;
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["training", "what", "parameters", "memory", "FLOPs a token", ""]);
        let mut parts = Vec::new();
        for (name, estimate) in &self.stages {
            match estimate {
                Ok(estimate) => self.rows(&mut table, name, estimate, &mut parts),
                Err(error) => parts.push(format!("{name}: {error}")),
            }
        }
        for column in 2..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let memory = match self.machine.memory {
            Some(memory) => format!("{} has {} of memory", self.machine.name, bytes(memory)),
            None => format!("the memory of {} is unknown", self.machine.name),
        };
        Some(format!("{table}\n{}\n{memory}", parts.join("\n")))
    }

    fn rows(&self, table: &mut Table, name: &str, estimate: &Estimate, parts: &mut Vec<String>) {
        let about = if estimate.about { "about " } else { "" };
        let mut row = |name: &str, form: &Form| {
            let memory = form.memory.total();
            let fits = match self.machine.memory {
                Some(available) if memory > available => "too large",
                _ => "",
            };
            let parameters = format!("{about}{}", grouped(form.trained));
            let flops = format!("{:.2e}", form.flops_per_token as f64);
            table.add_row([name, &form.name, &parameters, &bytes(memory), &flops, fits]);
        };
        row(name, &estimate.planned);
        // Who trains a new model trains all of it.
        if estimate.existing {
            estimate.others.iter().for_each(|other| row("", other));
        }
        let memory = estimate.planned.memory.parts();
        let memory: Vec<_> = memory.into_iter().map(|(part, size)| format!("{part} {}", bytes(size))).collect();
        parts.push(format!("{name}: {about}{} parameters; {}", grouped(estimate.parameters), memory.join(", ")));
    }

    /// The estimate of a stage; `null` where nothing is trained.
    pub(super) fn json(&self, stage: &str) -> Value {
        let form = |form: &Form| {
            let memory = form.memory.total();
            let parts: serde_json::Map<_, _> =
                form.memory.parts().into_iter().map(|(part, size)| (part.to_owned(), size.into())).collect();
            json!({
                "trains": form.name,
                "trained_parameters": form.trained,
                "memory_bytes": memory,
                "memory": parts,
                "flops_per_token": form.flops_per_token,
                "fits": self.machine.memory.map(|available| memory <= available),
            })
        };
        match self.stages.iter().find(|(name, _)| name == stage) {
            None => Value::Null,
            Some((_, Err(error))) => json!({ "error": error }),
            Some((_, Ok(estimate))) => {
                let mut value = form(&estimate.planned);
                value["parameters"] = json!(estimate.parameters);
                value["approximate"] = json!(estimate.about);
                value["device_memory_bytes"] = json!(self.machine.memory);
                value["devices"] = json!(self.machine.devices);
                value["others"] = estimate.others.iter().map(form).collect();
                value
            }
        }
    }
}

/// Digits in groups of three.
fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = (first..digits.len()).step_by(3).map(|start| &digits[start..start + 3]);
    let groups: Vec<&str> = std::iter::once(&digits[..first]).filter(|first| !first.is_empty()).chain(groups).collect();
    groups.join(",")
}
