//! A sweep's cells, and the distinct stages that remain when what they share is counted once.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::Value;

use super::{Graph, Node};

/// One combination of the swept settings.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The settings, by dotted path.
    pub overrides: IndexMap<String, Value>,
    /// For each of the recipe's stages the id of the task that computes it.
    pub tasks: IndexMap<String, String>,
}

/// Cells and their tasks. A task's needs are ids of tasks.
#[derive(Clone, Debug, Default)]
pub struct SweepPlan {
    /// The cells in the grid's order.
    pub cells: Vec<Cell>,
    /// The distinct stages by id, each after those it needs.
    pub tasks: IndexMap<String, Node>,
    ids: BTreeMap<String, String>,
}

impl SweepPlan {
    /// Adds a cell; stages that an earlier cell has too are shared.
    pub fn add(&mut self, overrides: IndexMap<String, Value>, graph: &Graph) {
        let mut tasks: IndexMap<String, String> = IndexMap::new();
        for node in graph.nodes() {
            let rename = |name: &str| tasks.get(name).cloned().unwrap_or_default();
            let signature = node.signature(&rename);
            let id = match self.ids.get(&signature) {
                Some(id) => id.clone(),
                None => {
                    let id = self.fresh_id(&node.name);
                    let mut task = node.clone();
                    for need in task.needs.values_mut() {
                        *need = rename(need);
                    }
                    self.tasks.insert(id.clone(), task);
                    self.ids.insert(signature, id.clone());
                    id
                }
            };
            tasks.insert(node.name.clone(), id);
        }
        self.cells.push(Cell { overrides, tasks });
    }

    fn fresh_id(&self, name: &str) -> String {
        if !self.tasks.contains_key(name) {
            return name.to_owned();
        }
        format!("{name} (cell {})", self.cells.len() + 1)
    }
}
