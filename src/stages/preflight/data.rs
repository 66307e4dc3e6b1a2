//! What stages read, looked at before anything runs: checkpoints, and rows by what each kind has to say of its own.

use std::{collections::HashSet, sync::Arc};

use anyhow::Result;

use super::{Preflight, checkpoints};
use crate::{
    engine::plan::Node,
    recipe::{Checked, Diagnostics},
    stages::{kind_named, kind_of},
};

/// Checks checkpoints, the beginnings of corpora, and the rows of finetuned models; the same rows for the same task once
/// only, in however many stages and cells they are.
#[derive(Default)]
pub struct DataCheck {
    done: HashSet<String>,
    warnings: Vec<Diagnostics>,
    notify: Option<OnWarning>,
    counts_leaks: bool,
}

/// Told of warnings.
pub(super) type OnWarning = Arc<dyn Fn(&str) + Send + Sync>;

impl DataCheck {
    /// One that tells its warnings as it finds them.
    pub fn telling(notify: OnWarning) -> Self {
        Self { notify: Some(notify), ..Self::default() }
    }

    /// One that counts leaked rows, too.
    pub fn thorough() -> Self {
        Self { counts_leaks: true, ..Self::default() }
    }

    /// The warnings so far that weren't told.
    pub fn warnings(self) -> Option<Diagnostics> {
        Diagnostics::all(self.warnings)
    }

    /// Checks the rows and the checkpoints that these stages read.
    ///
    /// # Errors
    /// All mistakes, as [`Diagnostics`]; unreadable data, which names file and row.
    pub fn check<'a>(&mut self, checked: &Checked, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let mut found = Vec::new();
        for node in nodes {
            found.extend(checkpoints::check(checked, node)?);
            let (kind, settings) = (kind_of(node)?, &node.settings);
            let (done, warnings) = (&mut self.done, &mut self.warnings);
            let facts = &|kind: &str, settings: &_| kind_named(kind)?.facts(settings);
            let (found, counts_leaks) = (&mut found, self.counts_leaks);
            kind.preflight(settings, &mut Preflight { checked, node, facts, done, found, warnings, counts_leaks })?;
        }
        if let Some(notify) = &self.notify
            && let Some(warnings) = Diagnostics::all(self.warnings.drain(..))
        {
            notify(&warnings.to_string());
        }
        Diagnostics::all(found).map_or(Ok(()), |found| Err(found.into()))
    }
}
