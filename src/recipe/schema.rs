//! The JSON Schema of recipes, out of their types.

use serde_json::{Value as Json, json};

use super::{
    Catalog,
    shape::{OPEN, RECORDED, UNSAID},
};

/// The schema for editors: as the types say, but wherever a value isn't text, an expression may stand.
pub fn published(catalog: &Catalog) -> Json {
    let mut schema = catalog.schema().clone();
    schema["title"] = json!("pipe recipe");
    allow_expressions(&mut schema);
    if let Some(definitions) = schema.get_mut("$defs").and_then(Json::as_object_mut) {
        for definition in definitions.values_mut() {
            allow_expressions(definition);
            if let Some(definition) = definition.as_object_mut() {
                definition.remove(OPEN);
            }
        }
        definitions.insert(
            "Expression".into(),
            json!({ "description": "An expression over `vars`", "type": "string", "pattern": r"^\s*\{\{[\s\S]*\}\}\s*$" }),
        );
    }
    schema
}

/// The published schema as text: what `schemas/recipe.schema.json` holds.
pub fn text(catalog: &Catalog) -> String {
    format!("{:#}\n", published(catalog))
}

/// Beside numbers, booleans, lists, mappings and words of an enum puts "or an expression".
fn allow_expressions(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(allow_expressions),
        Json::Object(map) => {
            for (key, child) in map.iter_mut() {
                match key.as_str() {
                    // Fields by name: their values are schemas, whatever the names are.
                    "properties" => {
                        child.as_object_mut().into_iter().flat_map(|map| map.values_mut()).for_each(field);
                    }
                    "items" | "additionalProperties" => field(child),
                    "oneOf" => allow_expressions(child),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// A schema that a value stands for: the value, or an expression instead.
fn field(schema: &mut Json) {
    if !schema.is_object() {
        return;
    }
    allow_expressions(schema);
    let text = schema.get("type").is_some_and(|kind| kind == "string" || kind == &json!(["string", "null"]));
    let Some(map) = schema.as_object_mut().filter(|_| !text) else { return };
    let mut outer = serde_json::Map::new();
    for key in ["description", "default", "deprecated", "x-role", RECORDED, UNSAID] {
        outer.extend(map.remove(key).map(|value| (key.to_owned(), value)));
    }
    let mut branches = match map.remove("anyOf") {
        Some(Json::Array(branches)) => branches,
        _ => vec![Json::Object(std::mem::take(map))],
    };
    branches.push(json!({ "$ref": "#/$defs/Expression" }));
    outer.insert("anyOf".into(), Json::Array(branches));
    *schema = Json::Object(outer);
}
