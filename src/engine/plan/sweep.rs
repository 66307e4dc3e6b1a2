//! The distinct stages of a sweep's cells, what they share counted once.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::Graph;

/// The tasks of all cells. A task's needs are ids of tasks.
#[derive(Clone, Debug, Default)]
pub struct SweepPlan {
    /// The distinct stages.
    pub tasks: Graph,
    ids: BTreeMap<String, String>,
}

impl SweepPlan {
    /// Adds the stages of cell `number`; those that an earlier cell has too are shared. Gives for each stage the id of the
    /// task that computes it.
    pub fn add(&mut self, number: usize, graph: &Graph) -> IndexMap<String, String> {
        let mut tasks: IndexMap<String, String> = IndexMap::new();
        for node in graph.nodes() {
            let rename = |name: &str| tasks.get(name).cloned().unwrap_or_default();
            let signature = node.signature(&rename);
            let id = match self.ids.get(&signature) {
                Some(id) => id.clone(),
                None => {
                    let id = self.fresh_id(&node.name, number);
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
        tasks
    }

    fn fresh_id(&self, name: &str, number: usize) -> String {
        if self.tasks.get(name).is_some() { format!("{name} (cell {number})") } else { name.to_owned() }
    }
}
