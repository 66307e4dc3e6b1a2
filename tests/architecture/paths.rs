//! The paths in the text of a module.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path below the crate, such as `network::model`; the crate's own is empty.
pub(crate) type ModulePath = Vec<String>;

/// A path in a file, made absolute: below the crate.
pub(crate) struct FoundPath {
    pub(crate) segments: ModulePath,
    /// Its other name, by `as`.
    pub(crate) alias: Option<String>,
    /// Whether it stands in a `pub use`.
    pub(crate) is_passed_on: bool,
    pub(crate) line: usize,
}

/// All paths in the text of a module that begin with `crate`, `super`, `self`, a child module's name or an imported one.
pub(crate) fn paths(text: &str, module: &[String]) -> Vec<FoundPath> {
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

fn module(path: &str) -> ModulePath {
    path.split("::").map(str::to_owned).collect()
}
