//! Conditions over a sweep's settings, such as `stages.cls.train.lr < 1e-3`.

use minijinja::{Environment, Expression, UndefinedBehavior, value::Serde};
use serde_json::{Map, Value as Json, json};

use super::template;

/// Steps that one condition may take.
const FUEL: u64 = 50_000;
/// All settings of a cell by their paths, for paths that an expression can't spell: `cell["stages.my-stage.train.lr"]`.
const CELL: &str = "cell";

/// An expression over dotted paths.
#[derive(Clone, Debug)]
pub struct Condition(String);

impl Condition {
    /// Reads an expression.
    ///
    /// # Errors
    /// In words, if it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        compiled(&environment(), text).map(|_| Self(text.to_owned()))
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The paths that it looks at, sorted.
    pub fn paths(&self) -> Vec<String> {
        let environment = environment();
        let names = compiled(&environment, &self.0).map(|expression| expression.undeclared_variables(true));
        let is_global = |name: &String| environment.globals().any(|(global, _)| global == name);
        let mut names: Vec<_> =
            names.unwrap_or_default().into_iter().filter(|name| name != CELL && !is_global(name)).collect();
        names.sort();
        names
    }

    /// Whether it's true with these settings; one that isn't there is undefined.
    ///
    /// # Errors
    /// In words, if it can't be worked out, such as a text compared with a number.
    pub fn holds<'a>(&self, settings: impl IntoIterator<Item = (&'a String, &'a Json)>) -> Result<bool, String> {
        let mut tree = json!({});
        let mut cell = Map::new();
        for (path, value) in settings {
            plant(&mut tree, path, value);
            cell.insert(path.clone(), value.clone());
        }
        tree[CELL] = Json::Object(cell);
        let environment = environment();
        let value = compiled(&environment, &self.0)?.eval(Serde(&tree)).map_err(|error| template::reason(&error))?;
        Ok(value.is_true())
    }
}

/// Puts a value where its path leads in a tree of mappings.
fn plant(tree: &mut Json, path: &str, value: &Json) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    if !tree.is_object() {
        *tree = Json::Object(Map::new());
    }
    match rest {
        Some(rest) => plant(&mut tree[key], rest, value),
        None => tree[key] = value.clone(),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment
}

fn compiled<'e>(environment: &'e Environment<'_>, text: &'e str) -> Result<Expression<'e, 'e>, String> {
    environment.compile_expression(text).map_err(|error| template::reason(&error))
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;

    #[test]
    fn a_condition_sees_settings_by_path_and_those_that_are_missing_as_undefined() {
        let settings = [("stages.a.train.lr", json!(1e-3)), ("stages.a.train.schedule", json!("cosine"))];
        let settings: IndexMap<String, Json> = settings.into_iter().map(|(path, value)| (path.into(), value)).collect();
        let holds = |text: &str| Condition::new(text).unwrap().holds(&settings);
        assert_eq!(holds("stages.a.train.schedule == 'cosine' and stages.a.train.lr < 0.01"), Ok(true));
        assert_eq!(holds("cell['stages.a.train.lr'] > 1"), Ok(false));
        assert_eq!(holds("stages.b.train.lr == 1"), Ok(false));
        assert_eq!(holds("stages.b.train.lr is defined"), Ok(false));
        assert_eq!(Condition::new("range(3) and cell.x or seed > 1").unwrap().paths(), ["cell.x", "seed"]);
        assert!(Condition::new("stages.a <").is_err());
    }
}
