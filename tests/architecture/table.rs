//! What docs/architecture.md says: the table of folders, and the circles that stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The table of folders in docs/architecture.md: for each folder below `src/`, those that it may use.
pub(crate) struct Table {
    pub(crate) rows: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    pub(crate) fn read() -> Self {
        let rows = rows_after("| folder |").into_iter().map(|cells| {
            let names = |cell: &str| quoted(cell).into_iter().map(|name| name.trim_end_matches('/').to_owned());
            let folder = names(&cells[0]).next().expect("a folder in back ticks");
            (folder, names(&cells[2]).collect())
        });
        Self { rows: rows.collect() }
    }

    /// The most specific folder (or file) of the table that has this file.
    pub(crate) fn folder_of(&self, file: &str) -> String {
        let fitting = self.rows.keys().filter(|folder| is_within(file, folder));
        fitting.max_by_key(|folder| folder.len()).cloned().unwrap_or_default()
    }

    pub(crate) fn allows(&self, folder: &str, used: &str) -> bool {
        self.rows.get(folder).is_some_and(|allowed| allowed.iter().any(|other| is_within(used, other)))
    }
}

/// A circle of files that stays, for a reason that docs/architecture.md gives.
pub(crate) struct Circle {
    pub(crate) files: BTreeSet<String>,
}

impl Circle {
    pub(crate) fn read_all() -> Vec<Self> {
        let row = |cells: Vec<String>| {
            assert!(cells[2].len() > 20, "a circle needs a reason: {cells:?}");
            let folder = quoted(&cells[0]).remove(0);
            let files = quoted(&cells[1]).into_iter().map(|file| format!("{folder}{file}"));
            Self { files: files.collect() }
        };
        rows_after("| circle in |").into_iter().map(row).collect()
    }
}

/// The cells of the table in docs/architecture.md whose head begins so.
fn rows_after(head: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between back ticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(crate) fn is_within(file: &str, folder: &str) -> bool {
    file == folder || file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}
