//! What stages read, looked at before anything runs: checkpoints, and rows by what each kind has to say of its own.

use std::collections::HashSet;

use anyhow::Result;

use super::{Preflight, checkpoints};
use crate::{
    engine::plan::Node,
    recipe::{Checked, Diagnostics},
    stages::kind_of,
};

/// Checks checkpoints, the beginnings of corpora, and the rows of finetuned models; the same rows for the same task once
/// only, in however many stages and cells they are.
#[derive(Default)]
pub struct DataCheck {
    done: HashSet<String>,
}

impl DataCheck {
    /// Checks the rows and the checkpoints that these stages read.
    ///
    /// # Errors
    /// All mistakes, as [`Diagnostics`]; unreadable data, which names file and row.
    pub fn check<'a>(&mut self, checked: &Checked, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let mut found = Vec::new();
        for node in nodes {
            found.extend(checkpoints::check(checked, node)?);
            let (kind, settings) = (kind_of(node)?, &node.settings);
            kind.preflight(settings, &mut Preflight { checked, node, done: &mut self.done, found: &mut found })?;
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }
}
