//! The folders of `src/` use each other as the table in docs/architecture.md says, and files go round in no circle that
//! isn't named there.
//!
//! Every `crate::`, `super::` and `self::` path is read, in `use` declarations and their groups, inline and in macros, and so
//! is every path that begins with a name that the file has imported; they're followed through re-exports to the file that
//! defines what they name. What stays unseen are methods: who defines one isn't in the text of a call.

mod paths;
mod source;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use source::{Source, Use};
use table::{Circle, Table, is_within};

#[test]
fn folders_use_each_other_as_the_table_says() {
    let source = Source::read();
    let table = Table::read();
    let mut wrong = Vec::new();
    for Use { from, to, line } in &source.uses {
        let (folder, used) = (table.folder_of(from), table.folder_of(to));
        if folder != used && !table.allows(&folder, &used) {
            wrong.push(format!("src/{from}:{line}: {folder} may not use {used} (src/{to})"));
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md has no such arrow:\n{}", wrong.join("\n"));
}

#[test]
fn folders_go_round_in_no_circle() {
    let source = Source::read();
    let table = Table::read();
    let arrows = source.uses.iter().map(|used| (table.folder_of(&used.from), table.folder_of(&used.to)));
    let circles = circles(arrows);
    assert!(circles.is_empty(), "folders that use each other: {circles:?}");
}

#[test]
fn table_lists_each_folder_and_uses_all_that_it_allows() {
    let source = Source::read();
    let table = Table::read();
    for file in source.files.values() {
        assert!(!table.folder_of(file).is_empty(), "docs/architecture.md has no row for src/{file}");
    }
    let used: BTreeSet<_> =
        source.uses.iter().map(|used| (table.folder_of(&used.from), table.folder_of(&used.to))).collect();
    for (folder, allowed) in &table.rows {
        assert!(
            source.root().join(folder).exists(),
            "docs/architecture.md has a row for src/{folder}, which is no more"
        );
        for other in allowed {
            let needed = used.iter().any(|(from, to)| from == folder && is_within(to, other));
            assert!(needed, "docs/architecture.md lets {folder} use {other}, which it doesn't: take it out");
        }
    }
}

#[test]
fn circles_of_files_are_named_with_their_reasons() {
    let source = Source::read();
    let named = Circle::read_all();
    let table = Table::read();
    let arrows = source.uses.iter().filter(|used| table.folder_of(&used.from) == table.folder_of(&used.to));
    let found = circles(arrows.map(|used| (used.from.clone(), used.to.clone())));
    let wrong = found.iter().filter(|circle| !named.iter().any(|named| circle.is_subset(&named.files)));
    let wrong: Vec<_> = wrong.map(|circle| circle.iter().cloned().collect::<Vec<_>>().join(", ")).collect();
    assert!(wrong.is_empty(), "files that use each other:\n{}", wrong.join("\n"));
    for Circle { files, .. } in named {
        let stands = found.iter().any(|circle| circle.is_subset(&files));
        assert!(stands, "docs/architecture.md names a circle that is no more: {files:?}");
    }
}

/// The sets of nodes, of more than one each, that can reach each other.
fn circles(arrows: impl Iterator<Item = (String, String)>) -> Vec<BTreeSet<String>> {
    let mut after: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in arrows.filter(|(from, to)| from != to) {
        after.entry(from).or_default().insert(to);
    }
    let reached = |start: &String| {
        let mut seen = BTreeSet::new();
        let mut queue = vec![start];
        while let Some(node) = queue.pop() {
            for next in after.get(node).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    queue.push(next);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = after.keys().map(|node| (node, reached(node))).collect();
    let mut found = BTreeSet::new();
    for (node, reached) in &reach {
        let circle: BTreeSet<_> =
            reached.iter().filter(|other| reach.get(other).is_some_and(|back| back.contains(*node))).cloned().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}
