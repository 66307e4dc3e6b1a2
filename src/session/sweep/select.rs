//! Selects cells of a sweep.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

use super::Cell;
use crate::recipe::Condition;

/// The cells that are wanted.
#[derive(Debug)]
pub struct Selection {
    most: usize,
    conditions: Vec<Condition>,
}

impl Default for Selection {
    /// All of them.
    fn default() -> Self {
        Self { most: usize::MAX, conditions: Vec::new() }
    }
}

impl Selection {
    /// At most so many cells, those for which all conditions on their settings hold.
    ///
    /// # Errors
    /// If a condition can't be understood.
    pub fn new(most: Option<usize>, conditions: &[String]) -> Result<Self> {
        let condition = |text: &String| Condition::new(text).map_err(|reason| anyhow!("--filter {text}: {reason}"));
        let conditions = conditions.iter().map(condition).collect::<Result<_>>()?;
        Ok(Self { most: most.unwrap_or(usize::MAX), conditions })
    }

    /// Of these cells those that are wanted, when there are some already: as many as there may be, but all seeds of a
    /// setting or none, and one setting at least.
    pub(super) fn of(&self, cells: Vec<Cell>, before: usize) -> Result<Vec<Cell>> {
        let mut groups: BTreeMap<usize, Vec<Cell>> = BTreeMap::new();
        for cell in cells {
            if self.wants(&cell)? {
                groups.entry(cell.group).or_default().push(cell);
            }
        }
        let mut kept = Vec::new();
        for group in groups.into_values() {
            let count = before + kept.len();
            if count + group.len() > self.most && count > 0 {
                break;
            }
            kept.extend(group);
        }
        if kept.is_empty() && before == 0 {
            bail!("no cells match the filters");
        }
        Ok(kept)
    }

    /// Whether all conditions hold.
    fn wants(&self, cell: &Cell) -> Result<bool> {
        let mut wanted = true;
        for condition in &self.conditions {
            let unknown = condition.paths().into_iter().find(|path| !cell.settings.contains_key(path));
            if let Some(path) = unknown.filter(|_| cell.number == 1) {
                let paths: Vec<_> = cell.settings.keys().map(String::as_str).collect();
                bail!("--filter {}: no setting `{path}`; there is {}", condition.text(), paths.join(", "));
            }
            let holds = condition.holds(cell.values());
            wanted &= holds.map_err(|reason| anyhow!("--filter {}: {reason}", condition.text()))?;
        }
        Ok(wanted)
    }
}
