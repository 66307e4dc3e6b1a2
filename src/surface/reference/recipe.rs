//! The reference of recipes, as a page.

use anyhow::Result;
use serde_json::Value as Json;

use super::{
    keys::{Key, Section, keys, sections},
    markdown::{link, table},
};

const INTRODUCTION: &str = "\
# Recipe reference

Every key that a recipe may have, generated from the JSON Schema by `just docs`; `pipe schema` prints the schema itself.
[The guide](../README.md) explains how they work together.

Wherever a value isn't text, an expression such as `\"{{ hidden * 4 }}\"` over `vars` may stand in its place, and text
may contain expressions. Keys without a default may be left out unless they are required. Defaults are left out of the
cache key, so writing one out changes nothing.

";

/// `docs/reference/recipe.md`.
///
/// # Errors
/// Keys without an example.
pub(super) fn page(schema: &Json) -> Result<String> {
    keys(schema)?;
    let mut page = INTRODUCTION.to_owned();
    for section in sections(schema) {
        page += &body(&section);
    }
    Ok(format!("{}\n", page.trim_end()))
}

fn body(section: &Section) -> String {
    let mut text = format!("## {}\n\n", section.heading);
    if !section.used.is_empty() {
        let used = section.used.iter().map(|(heading, key)| match heading.as_str() {
            heading if key.is_empty() || heading == format!("`{key}`") => link(heading),
            heading => format!("`{key}` of {}", link(heading)),
        });
        let used: Vec<String> = used.collect();
        text += &format!("Used by: {}.\n\n", used.join(", "));
    }
    let description = section.description.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    if !description.is_empty() {
        text += &format!("{description}{}\n\n", if description.ends_with('.') { "" } else { "." });
    }
    if !section.values.is_empty() {
        text += &table(
            ["value", "meaning"],
            section.values.iter().map(|(value, meaning)| [value.clone(), meaning.clone()]),
        );
        text.push('\n');
    }
    if section.keys.is_empty() {
        if section.values.is_empty() {
            text += "It has no settings: write `{}`.\n\n";
        }
        return text;
    }
    if section.one_of {
        text += if section.values.is_empty() { "Exactly one of:\n\n" } else { "Or exactly one of:\n\n" };
    }
    text += &table(["key", "type", "range", "default", "meaning", "example"], section.keys.iter().map(row));
    text.push('\n');
    text
}

fn row(key: &Key) -> [String; 6] {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    [
        code(&key.name),
        key.kind.clone(),
        key.range.clone(),
        key.default.clone(),
        key.meaning.clone(),
        code(key.example.as_deref().unwrap_or_default()),
    ]
}
