//! Files of settings beside recipes, in TOML: read like recipes, by a schema that follows from types, with every mistake at its
//! place.

use std::path::Path;

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    Diagnostic, Diagnostics,
    place::{Text, Texts},
    shape, toml, typecheck,
};

/// A mistake that the schema doesn't know of: at which value (`profiles.a.engine`), what, and what to do.
pub struct Mistake {
    /// Where.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The JSON Schema of a file of settings.
pub fn schema<T: JsonSchema>() -> Json {
    SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// Reads a file of settings; `check` finds what is wrong beyond types.
///
/// # Errors
/// All mistakes, each with its place.
pub fn read<T: DeserializeOwned + JsonSchema>(
    path: &Path,
    text: &str,
    check: &dyn Fn(&T) -> Vec<Mistake>,
) -> Result<T, Diagnostics> {
    let text = Text::file(path.display().to_string(), text);
    let mut problems = Vec::new();
    let tree = toml::parse(&text, &mut problems);
    let schema = schema::<T>();
    // Of what can't be read it can't be told what is missing in it.
    if problems.is_empty() {
        typecheck::check(&tree, &shape::slot(&schema, &schema["$defs"]), FILE, &mut problems);
    }
    let texts = Texts::new(text);
    if !problems.is_empty() {
        return Err(Diagnostics::new(texts, problems));
    }
    let settings: T = match serde_json::from_value(tree.to_json()) {
        Ok(settings) => settings,
        Err(error) => return Err(Diagnostics::new(texts, vec![Diagnostic::new(error.to_string())])),
    };
    let at = |Mistake { pointer, message, hint }: Mistake| {
        let problem = Diagnostic::new(message).hint(hint);
        match tree.find(&pointer) {
            Some((_, node)) if node.entries().is_empty() => problem.at(node.span),
            Some((Some(key), _)) => problem.at(key),
            _ => problem,
        }
    };
    let problems: Vec<_> = check(&settings).into_iter().map(at).collect();
    if problems.is_empty() { Ok(settings) } else { Err(Diagnostics::new(texts, problems)) }
}

/// What the top of the tree is called.
const FILE: &str = "the file";
