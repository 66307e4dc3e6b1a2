//! The keys of recipes out of their JSON Schema: each with its type, range, default, meaning and an example.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::Value as Json;

use super::{examples, markdown::link};
use crate::support::Hinted;

/// What can be written where a definition of the schema stands.
#[derive(Debug)]
pub(super) struct Section {
    /// Its heading.
    pub heading: String,
    /// What it is.
    pub description: String,
    /// Its keys: fields, or alternatives of which one is given.
    pub keys: Vec<Key>,
    /// Its words or other values, with their meaning, where it isn't a mapping (or needn't be one).
    pub values: Vec<(String, String)>,
    /// Whether one of the keys is given, rather than any of them.
    pub one_of: bool,
    /// Where it's used: the heading of that section, and the key if it has one.
    pub used: Vec<(String, String)>,
}

/// A key of a recipe.
#[derive(Clone, Debug)]
pub struct Key {
    /// The definition of the schema that has the key; empty for the recipe itself.
    pub owner: String,
    /// The key.
    pub name: String,
    /// What it takes, in words, with links to other sections.
    pub kind: String,
    /// The values that it takes, in words; empty where every value of its type will do.
    pub range: String,
    /// What holds where it isn't given: a value, `required`, or empty for nothing.
    pub default: String,
    /// What it means.
    pub meaning: String,
    /// The key with a value, as YAML.
    pub example: Option<String>,
    /// Where in the schema it stands, as a JSON pointer.
    pub pointer: String,
}

impl Key {
    /// The key behind its owner's name.
    pub fn path(&self) -> String {
        if self.owner.is_empty() { self.name.clone() } else { format!("{}.{}", self.owner, self.name) }
    }
}

/// Every key that a recipe may have, in the order of the reference; `schema` is the published one.
///
/// # Errors
/// Keys without an example.
pub fn keys(schema: &Json) -> Result<Vec<Key>> {
    let keys: Vec<Key> = sections(schema).into_iter().flat_map(|section| section.keys).collect();
    let missing: Vec<String> = keys.iter().filter(|key| key.example.is_none()).map(Key::path).collect();
    ensure!(
        missing.is_empty(),
        Hinted::with(format!("no example for {}", missing.join(", ")), "add one to src/surface/reference/examples.rs")
    );
    Ok(keys)
}

/// The sections of the reference: the recipe, and what it refers to, each behind what refers to it first.
pub(super) fn sections(schema: &Json) -> Vec<Section> {
    let mut order = vec![String::new()];
    visit(schema, schema, &mut order);
    let mut used: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for owner in &order {
        let definition = definition(schema, owner);
        let fields = fields(definition).into_iter().map(|field| (field.name, field.schema));
        // An alternative that is a definition of its own is used without a key.
        let unnamed = alternatives(definition).into_iter().filter(|schema| schema.get("$ref").is_some());
        for (key, schema) in fields.chain(unnamed.map(|schema| ("", schema))) {
            for reference in references(schema) {
                used.entry(reference).or_default().push((owner.clone(), key.to_owned()));
            }
        }
    }
    let headings = headings(&order, &used);
    let at = |name: &str| headings.get(name).cloned().unwrap_or_default();
    order.iter().map(|name| section(schema, name, &used, &at)).collect()
}

fn section(
    schema: &Json,
    name: &str,
    used: &BTreeMap<&str, Vec<(String, String)>>,
    heading: &dyn Fn(&str) -> String,
) -> Section {
    let definition = definition(schema, name);
    let mut keys: Vec<Key> = fields(definition).into_iter().map(|field| key(schema, name, &field, heading)).collect();
    if definition.get("properties").is_some() {
        keys.sort_by_key(|key| key.default != REQUIRED);
    }
    let alternatives = alternatives(definition).into_iter().filter(|schema| schema.get("properties").is_none());
    let values = alternatives.map(|schema| {
        let value = match schema.get("const") {
            Some(value) => format!("`{}`", plain(value)),
            None => kind(schema, heading),
        };
        (value, text(schema, "description"))
    });
    let used = used.get(name).into_iter().flatten().map(|(owner, key)| (heading(owner), key.clone())).collect();
    Section {
        heading: heading(name),
        description: text(definition, "description"),
        values: values.collect(),
        one_of: definition.get("properties").is_none(),
        keys,
        used,
    }
}

const REQUIRED: &str = "required";

/// Left out of a stage's settings like what can't change the output, but only because they enter the key elsewhere: as
/// the manifest's seed, or as the settings that they're put into.
const SET_ELSEWHERE: [&str; 3] = ["seed", "sweep", "vars"];

fn key(schema: &Json, owner: &str, field: &Field, heading: &dyn Fn(&str) -> String) -> Key {
    let role = field.schema.get("x-role").and_then(Json::as_str).unwrap_or_default();
    let shape = branches(field.schema);
    let kinds: Vec<String> = shape.iter().map(|schema| kind(schema, heading)).collect();
    let mut range: Vec<String> = shape.iter().map(|schema| bounds(schema)).filter(|text| !text.is_empty()).collect();
    range.dedup();
    let default = match field.schema.get("default") {
        _ if field.required && !field.alternative => REQUIRED.to_owned(),
        None | Some(Json::Null) => String::new(),
        Some(value) => format!("`{}`", plain(value)),
    };
    let mut meaning = field.meaning.map_or_else(|| text(field.schema, "description"), str::to_owned);
    if role == "free" && !SET_ELSEWHERE.contains(&field.name) {
        meaning += ". It isn't part of the cache key";
    }
    let example = examples::written(owner, field.name).map(str::to_owned).or_else(|| {
        let value = derived(schema, &shape).or_else(|| field.schema.get("default").cloned());
        value.filter(|value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty())).map(|v| plain(&v))
    });
    Key {
        owner: owner.to_owned(),
        name: field.name.to_owned(),
        kind: kinds.join(", or "),
        range: range.join("; "),
        default,
        meaning,
        example: example.map(|value| format!("{}: {value}", field.name)),
        pointer: field.pointer.clone(),
    }
}

/// A value other than the default, of what is given by words.
fn derived(schema: &Json, shape: &[&Json]) -> Option<Json> {
    let named = shape.iter().find_map(|schema| schema.get("$ref")?.as_str());
    let definition = definition(schema, named?.trim_start_matches(DEFINITIONS));
    alternatives(definition).iter().rev().find_map(|schema| schema.get("const").cloned())
}

struct Field<'a> {
    name: &'a str,
    schema: &'a Json,
    required: bool,
    /// Whether it's one of several of which one is given.
    alternative: bool,
    /// What the alternative means.
    meaning: Option<&'a str>,
    pointer: String,
}

/// The keys of a definition: its properties, or those of its alternatives.
fn fields(definition: &Json) -> Vec<Field<'_>> {
    fn of<'a>(schema: &'a Json, base: &str, alternative: bool, fields: &mut Vec<Field<'a>>) {
        let required: BTreeSet<&str> =
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        for (name, field) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            fields.push(Field {
                name,
                schema: field,
                required: required.contains(name.as_str()),
                alternative,
                meaning: schema.get("description").and_then(Json::as_str).filter(|_| alternative),
                pointer: format!("{base}/properties/{name}"),
            });
        }
    }
    let mut found = Vec::new();
    of(definition, "", false, &mut found);
    for list in ["oneOf", "anyOf"] {
        for (index, schema) in definition.get(list).and_then(Json::as_array).into_iter().flatten().enumerate() {
            of(schema, &format!("/{list}/{index}"), true, &mut found);
        }
    }
    found
}

/// The alternatives of a definition, but for expressions and `null`.
fn alternatives(definition: &Json) -> Vec<&Json> {
    let lists = ["oneOf", "anyOf"].into_iter().filter_map(|list| definition.get(list)?.as_array());
    lists.flatten().filter(|schema| !is_left_out(schema)).collect()
}

/// What a field may be: its schema, or the branches of its `anyOf`.
fn branches(schema: &Json) -> Vec<&Json> {
    let found = alternatives(schema);
    if found.is_empty() { vec![schema] } else { found }
}

/// Expressions may stand anywhere, and `null` says what leaving a key out says.
fn is_left_out(schema: &Json) -> bool {
    schema.get("$ref").is_some_and(|name| name == "#/$defs/Expression")
        || schema.get("type").is_some_and(|kind| kind == "null")
}

const DEFINITIONS: &str = "#/$defs/";

fn definition<'a>(schema: &'a Json, name: &str) -> &'a Json {
    if name.is_empty() { schema } else { &schema["$defs"][name] }
}

/// The definitions that a schema refers to, in order.
fn references(schema: &Json) -> Vec<&str> {
    let mut found = Vec::new();
    match schema {
        Json::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| *key != "$defs") {
                match (key.as_str(), value) {
                    ("$ref", Json::String(name)) if !is_left_out(schema) => {
                        found.push(name.trim_start_matches(DEFINITIONS));
                    }
                    _ => found.extend(references(value)),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| found.extend(references(item))),
        _ => {}
    }
    found
}

fn visit(schema: &Json, part: &Json, order: &mut Vec<String>) {
    for name in references(part) {
        if !order.iter().any(|known| known == name) {
            order.push(name.to_owned());
            visit(schema, definition(schema, name), order);
        }
    }
}

/// The heading of each definition: the key where it has only one and no other definition has the same, or else its name
/// in words.
fn headings(order: &[String], used: &BTreeMap<&str, Vec<(String, String)>>) -> BTreeMap<String, String> {
    let by_key = |name: &str| -> Option<&str> {
        let keys: BTreeSet<&str> = used.get(name)?.iter().map(|(_, key)| key.as_str()).collect();
        keys.first().filter(|_| keys.len() == 1).copied()
    };
    let count = |key: &str| order.iter().filter(|name| by_key(name) == Some(key)).count();
    let heading = |name: &str| match by_key(name) {
        _ if name.is_empty() => "The recipe".to_owned(),
        // What stands in a list or a mapping, such as a stage in `stages`, is one of several.
        Some(key) if count(key) == 1 && !key.is_empty() && !key.ends_with('s') => format!("`{key}`"),
        _ => words(name),
    };
    order.iter().map(|name| (name.clone(), heading(name))).collect()
}

/// `FinetuneData` as `Finetune data`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push(' ');
            text.extend(letter.to_lowercase());
        } else {
            text.push(letter);
        }
    }
    text
}

/// What a schema takes, in words.
fn kind(schema: &Json, heading: &dyn Fn(&str) -> String) -> String {
    if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        return link(&heading(name.trim_start_matches(DEFINITIONS)));
    }
    let role = schema.get("x-role").and_then(Json::as_str).unwrap_or_default();
    if let Some(product) = role.strip_prefix("stage:") {
        let article = if product.ends_with('s') { "" } else { "a " };
        return format!("name of a stage that makes {article}{product}");
    }
    match role {
        "path" => return "path or glob".to_owned(),
        "checkpoint" => return "directory".to_owned(),
        "tokenizer" => return "file or directory".to_owned(),
        "template" => return "template".to_owned(),
        _ => {}
    }
    let plural = |items: &Json| match kind(items, heading) {
        _ if items == &Json::Bool(true) => "values".to_owned(),
        kind if kind.starts_with('[') => kind,
        kind => match kind.split_once(' ') {
            Some((first, rest)) => format!("{first}s {rest}"),
            None => format!("{kind}s"),
        },
    };
    let types: Vec<&str> = match schema.get("type") {
        Some(Json::String(kind)) => vec![kind],
        Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null").collect(),
        _ => Vec::new(),
    };
    let words = types.iter().map(|kind| match *kind {
        "string" => "string".to_owned(),
        "integer" => "integer".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => schema.get("items").map_or("list".to_owned(), |items| {
            let items = branches(items);
            format!("list of {}", items.into_iter().map(plural).collect::<Vec<_>>().join(" or "))
        }),
        "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => {
                let values = branches(values);
                format!("mapping to {}", values.into_iter().map(plural).collect::<Vec<_>>().join(" or "))
            }
            None => "mapping".to_owned(),
        },
        other => other.to_owned(),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "any value".to_owned() } else { words.join(" or ") }
}

/// The bounds of a schema, in words.
fn bounds(schema: &Json) -> String {
    let number = |key: &str| schema.get(key).map(plain);
    let mut text = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("≥ {least}"),
        (None, Some(most)) => format!("≤ {most}"),
        (None, None) => String::new(),
    };
    for (key, what) in [("exclusiveMinimum", "> "), ("exclusiveMaximum", "< ")] {
        if let Some(bound) = number(key) {
            text += &format!("{}{what}{bound}", if text.is_empty() { "" } else { ", " });
        }
    }
    for (least, most, what) in [
        ("minItems", "maxItems", "item"),
        ("minProperties", "maxProperties", "entry"),
        ("minLength", "maxLength", "character"),
    ] {
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least == most => text += &format!("exactly {least} {what}"),
            (Some(least), _) => text += &format!("{what}s: ≥ {least}"),
            (None, Some(most)) => text += &format!("{what}s: ≤ {most}"),
            (None, None) => {}
        }
    }
    text.replace("entrys", "entries")
}

fn text(schema: &Json, key: &str) -> String {
    schema.get(key).and_then(Json::as_str).unwrap_or_default().trim().to_owned()
}

/// A value as YAML writes it in a line.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => match number.as_f64() {
            Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.1}"),
            Some(value) if number.is_f64() && value != 0.0 && value.abs() < 1e-3 => format!("{value:.1e}"),
            _ => number.to_string(),
        },
        Json::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", plain(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
