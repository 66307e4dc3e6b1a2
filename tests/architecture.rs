//! The folders of `src/` use each other as the table in docs/architecture.md says, and files go round in no circle that
//! isn't named there.
//!
//! Every `crate::`, `super::` and `self::` path is read, in `use` declarations and their groups, inline and in macros, and so
//! is every path that begins with a name that the file has imported; they're followed through re-exports to the file that
//! defines what they name. What stays unseen are methods: who defines one isn't in the text of a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module's path below the crate, such as `network::model`; the crate's own is empty.
type ModulePath = Vec<String>;

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

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = r#"
        use crate::{a::{self, B}, c::D as E};
        // crate::comment::Skipped
        fn f(x: &crate::g::H) -> super::I { log!("crate::text::Skipped", crate::j::k::<u8>()) }
        pub(in crate::visible) struct L(self::m::N);
        mod inner { use super::O; use super::super::P; }
        pub use crate::q::{R, s};
        fn g(r: R, s: usize) { B::new(); s::t(); E { b: r.B } }
    "#;
    let mut found: Vec<_> = paths(text, &module("x::y")).into_iter().map(|path| path.segments.join("::")).collect();
    found.sort();
    let named = ["a", "a::B", "c::D", "g::H", "j::k", "q::R", "q::s", "x::I", "x::P", "x::y::O", "x::y::m::N"];
    let by_imports = ["a::B::new", "q::R", "q::s::t"];
    let mut expected = [&named[..], &by_imports].concat();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// That one file names what another one defines; both are paths below `src/`.
struct Use {
    from: String,
    to: String,
    line: usize,
}

/// All modules of the crate, and what they use.
struct Source {
    /// The file of each module, below `src/`.
    files: BTreeMap<ModulePath, String>,
    uses: Vec<Use>,
}

impl Source {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for path in rust_files(&root) {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            if name != "main.rs" {
                let module = module_of(&name);
                texts.insert(module.clone(), fs::read_to_string(&path).unwrap());
                files.insert(module, name);
            }
        }
        let paths: BTreeMap<_, _> = texts.iter().map(|(module, text)| (module, paths(text, module))).collect();
        let mut source = Self { files, uses: Vec::new() };
        // What a module passes on under a name: `pub use child::Name`.
        let mut passed: BTreeMap<(ModulePath, String), ModulePath> = BTreeMap::new();
        for (module, paths) in &paths {
            for path in paths.iter().filter(|path| path.is_passed_on) {
                let name = path.alias.clone().or(path.segments.last().cloned()).unwrap_or_default();
                passed.insert(((*module).clone(), name), path.segments.clone());
            }
        }
        for (module, paths) in &paths {
            let from = &source.files[*module];
            for path in paths.iter().filter(|path| !path.is_passed_on || path.segments.first() != module.first()) {
                let to = source.definition(&path.segments, &passed);
                if to != *from {
                    source.uses.push(Use { from: from.clone(), to, line: path.line });
                }
            }
        }
        source
    }

    fn root(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
    }

    /// The file that defines what a path names.
    fn definition(&self, path: &[String], passed: &BTreeMap<(ModulePath, String), ModulePath>) -> String {
        let mut path = path.to_vec();
        for _ in 0..16 {
            let length = (0..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n])).unwrap_or(0);
            let Some(name) = path.get(length) else { return self.files[&path[..length]].clone() };
            let module = path[..length].to_vec();
            let onward = passed.get(&(module.clone(), name.clone())).or_else(|| passed.get(&(module, "*".into())));
            match onward {
                Some(onward) if *onward != path => {
                    let mut next = onward.clone();
                    if next.last().is_some_and(|last| last == "*") {
                        next.pop();
                        next.push(name.clone());
                    }
                    next.extend(path[length + 1..].iter().cloned());
                    path = next;
                }
                _ => return self.files[&path[..length]].clone(),
            }
        }
        self.files[&Vec::new()].clone()
    }
}

/// The table of folders in docs/architecture.md: for each folder below `src/`, those that it may use.
struct Table {
    rows: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    fn read() -> Self {
        let rows = rows_after("| folder |").into_iter().map(|cells| {
            let names = |cell: &str| quoted(cell).into_iter().map(|name| name.trim_end_matches('/').to_owned());
            let folder = names(&cells[0]).next().expect("a folder in back ticks");
            (folder, names(&cells[2]).collect())
        });
        Self { rows: rows.collect() }
    }

    /// The most specific folder (or file) of the table that has this file.
    fn folder_of(&self, file: &str) -> String {
        let fitting = self.rows.keys().filter(|folder| is_within(file, folder));
        fitting.max_by_key(|folder| folder.len()).cloned().unwrap_or_default()
    }

    fn allows(&self, folder: &str, used: &str) -> bool {
        self.rows.get(folder).is_some_and(|allowed| allowed.iter().any(|other| is_within(used, other)))
    }
}

/// A circle of files that stays, for a reason that docs/architecture.md gives.
struct Circle {
    files: BTreeSet<String>,
}

impl Circle {
    fn read_all() -> Vec<Self> {
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

fn is_within(file: &str, folder: &str) -> bool {
    file == folder || file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn module(path: &str) -> ModulePath {
    path.split("::").map(str::to_owned).collect()
}

/// The module that a file below `src/` holds.
fn module_of(file: &str) -> ModulePath {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
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

/// A path in a file, made absolute: below the crate.
struct FoundPath {
    segments: ModulePath,
    /// Its other name, by `as`.
    alias: Option<String>,
    /// Whether it stands in a `pub use`.
    is_passed_on: bool,
    line: usize,
}

/// All paths in the text of a module that begin with `crate`, `super`, `self`, a child module's name or an imported one.
fn paths(text: &str, module: &[String]) -> Vec<FoundPath> {
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut children = BTreeSet::new();
    for at in 0..tokens.len() {
        if word(at) == "mod" && word(at + 2) == ";" {
            children.insert(word(at + 1).to_owned());
        }
    }
    // Modules within the file that are open here: their names, and the depth of braces around each.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut passes_on) = (0, false);
    let mut found: Vec<FoundPath> = Vec::new();
    let mut imported: BTreeMap<String, (ModulePath, bool)> = BTreeMap::new();
    let mut is_read = vec![false; tokens.len()];
    let mut at = 0;
    while at < tokens.len() {
        let here = || module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>();
        match word(at) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.pop_if(|(_, open)| *open == depth);
            }
            "mod" if word(at + 2) == "{" => inline.push((word(at + 1).to_owned(), depth)),
            ";" => passes_on = false,
            // `pub use`, `pub(crate) use` and the like.
            "pub" => passes_on = word(at + 1) == "use" || (word(at + 1) == "(" && word(at + 4) == "use"),
            first if word(at + 1) == "::" && word(at.wrapping_sub(1)) != "::" && word(at.wrapping_sub(1)) != "in" => {
                let base = match first {
                    "crate" => Some(Vec::new()),
                    "self" => Some(here()),
                    "super" => Some(here()[..here().len().saturating_sub(1)].to_vec()),
                    child if inline.is_empty() && children.contains(child) => {
                        Some([module, &[child.to_owned()]].concat())
                    }
                    _ => None,
                };
                if let Some(base) = base {
                    let (begin, before) = (at, found.len());
                    at = tree(&tokens, at + 2, base, passes_on, &mut found);
                    is_read[begin..at].fill(true);
                    if word(begin.wrapping_sub(1)) == "use" {
                        for path in &found[before..] {
                            let name = path.alias.as_ref().or(path.segments.last());
                            let name = name.cloned().unwrap_or_default();
                            imported.insert(name, (path.segments.clone(), path.is_passed_on));
                        }
                    }
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut at = 0;
    while at < tokens.len() {
        let begins = !is_read[at] && !matches!(word(at.wrapping_sub(1)), "::" | ".");
        match imported.get(word(at)).filter(|_| begins) {
            Some((base, _)) if word(at + 1) == "::" => at = tree(&tokens, at + 2, base.clone(), false, &mut found),
            // What a module passes on it may use, too; words in small letters may be anything.
            Some((base, true)) if word(at).starts_with(char::is_uppercase) => {
                let line = tokens[at].line;
                found.push(FoundPath { segments: base.clone(), alias: None, is_passed_on: false, line });
                at += 1;
            }
            _ => at += 1,
        }
    }
    // What a module within the file names of its own file isn't another's.
    for path in &mut found {
        if let Some(rest) = path.segments.strip_prefix(module)
            && let Some(first) = rest.first()
            && !children.contains(first)
            && text.contains(&format!("mod {first} {{"))
        {
            path.segments.truncate(module.len());
        }
    }
    found
}

/// Reads what follows `base::`, groups included; gives the index of the token after it.
fn tree(tokens: &[Token], mut at: usize, mut base: ModulePath, passes_on: bool, found: &mut Vec<FoundPath>) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens.get(at).map_or(0, |token| token.line);
    if word(at) == "{" {
        at += 1;
        while at < tokens.len() && word(at) != "}" {
            at = if word(at) == "," { at + 1 } else { tree(tokens, at, base.clone(), passes_on, found) };
        }
        return at + 1;
    }
    match word(at) {
        "super" => {
            base.pop();
        }
        "self" => {}
        name if name == "*" || name.starts_with(|c: char| c.is_alphabetic() || c == '_') => base.push(name.to_owned()),
        _ => {
            found.push(FoundPath { segments: base, alias: None, is_passed_on: passes_on, line });
            return at;
        }
    }
    at += 1;
    if word(at) == "::" {
        return tree(tokens, at + 1, base, passes_on, found);
    }
    let alias = (word(at) == "as").then(|| word(at + 1).to_owned());
    at += if alias.is_some() { 2 } else { 0 };
    found.push(FoundPath { segments: base, alias, is_passed_on: passes_on, line });
    at
}

struct Token {
    text: String,
    line: usize,
}

/// Words, `::` and single signs; comments, texts and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut tokens: Vec<Token> = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begin = at;
        let raw = chars[at] == 'r' && matches!(chars.get(at + 1), Some('"' | '#'));
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            at += 2;
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if raw && chars.get(at + 1 + hashes) == Some(&'"') {
            let end = format!("\"{}", "#".repeat(hashes));
            at += 2 + hashes;
            while at < chars.len() && !starts(at, &end) {
                at += 1;
            }
            at += 1 + hashes;
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) {
            at += if chars[at + 1] == '\\' { 3 } else { 2 };
            at +=
                chars[at..].iter().take_while(|c| **c != '\'').count() + usize::from(chars.get(at - 1) != Some(&'\''));
        } else if chars[at].is_alphanumeric() || chars[at] == '_' {
            at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            tokens.push(Token { text: chars[begin..at].iter().collect(), line });
        } else {
            at += if starts(at, "::") { 2 } else { 1 };
            if !chars[begin].is_whitespace() {
                tokens.push(Token { text: chars[begin..at].iter().collect(), line });
            }
        }
        line += chars[begin..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}
