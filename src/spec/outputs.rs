//! Tasks whose answers are the outputs of a linear head, each by itself: several labels of a row, or a number.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Classification, Head, Pooling};

/// Any number of labels out of a closed set: a linear head with an output for each, each a probability by itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MultiLabel {
    /// The column that holds a row's labels: a list, or a text in which `separator` stands between them; it may be empty
    #[serde(default = "labels")]
    pub label: String,
    /// What stands between two labels of a text
    #[serde(default = "comma")]
    pub separator: String,
    /// The labels as they stand in the data
    #[schemars(extend("minItems" = 1))]
    pub names: Vec<String>,
    /// The text: a minijinja template over the row's columns, with special tokens as in a classifier's
    #[schemars(extend("x-role" = "template"))]
    pub template: String,
    /// What the head reads, as of a classifier's linear head
    #[serde(default)]
    pub pooling: Option<Pooling>,
}

/// A number: a linear head with one output, taught by squared differences. Numbers far from 0 are learned slowly: better are those
/// of a scale such as 0 to 5.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// The column that holds a row's number
    #[serde(default = "score")]
    pub target: String,
    /// The text: a minijinja template over the row's columns, with special tokens as in a classifier's
    #[schemars(extend("x-role" = "template"))]
    pub template: String,
    /// What the head reads, as of a classifier's linear head
    #[serde(default)]
    pub pooling: Option<Pooling>,
}

/// One of these tasks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// Several labels.
    MultiLabel(MultiLabel),
    /// A number.
    Regression(Regression),
}

impl Outputs {
    /// The task's name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MultiLabel(_) => "multi_label",
            Self::Regression(_) => "regression",
        }
    }

    /// The column with what is wanted, and the field that names it.
    pub fn column(&self) -> (&'static str, &str) {
        match self {
            Self::MultiLabel(task) => ("label", &task.label),
            Self::Regression(task) => ("target", &task.target),
        }
    }

    /// The columns that may hold lists.
    pub fn lists(&self) -> Vec<&str> {
        match self {
            Self::MultiLabel(task) => vec![&task.label],
            Self::Regression(_) => Vec::new(),
        }
    }

    /// What the outputs are called, in their order; several labels in that of their names, whatever order a recipe has.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::MultiLabel(task) => {
                let mut names = task.names.clone();
                names.sort();
                names.dedup();
                names
            }
            Self::Regression(task) => vec![task.target.clone()],
        }
    }

    /// The same text for a linear head that tells one of the outputs: how rows are read and encoded.
    pub fn as_classification(&self) -> Classification {
        let (template, pooling) = match self {
            Self::MultiLabel(MultiLabel { template, pooling, .. })
            | Self::Regression(Regression { template, pooling, .. }) => (template.clone(), *pooling),
        };
        let words: IndexMap<String, String> = self.names().into_iter().map(|name| (name.clone(), name)).collect();
        let label = self.column().1.to_owned();
        Classification { label, words, template, head: Head::Linear, pooling, class_weights: None, focal_gamma: None }
    }

    /// The same with what the head reads made explicit.
    #[must_use]
    pub fn reading(self, pooling: Pooling) -> Self {
        let pooling = Some(pooling);
        match self {
            Self::MultiLabel(task) => Self::MultiLabel(MultiLabel { pooling, ..task }),
            Self::Regression(task) => Self::Regression(Regression { pooling, ..task }),
        }
    }

    /// What is wanted of the outputs, out of what stands in the column.
    ///
    /// # Errors
    /// What is wrong with it, and a hint.
    pub fn wanted(&self, field: &str) -> Result<Vec<f32>, (String, String)> {
        match self {
            Self::MultiLabel(task) => task.wanted(field, &self.names()),
            Self::Regression(_) => match field.trim().parse::<f32>() {
                Ok(number) if number.is_finite() => Ok(vec![number]),
                _ => Err((
                    format!("`{field}` is no number"),
                    "a regression learns numbers such as 3.5; take such rows out".to_owned(),
                )),
            },
        }
    }
}

impl MultiLabel {
    fn wanted(&self, field: &str, names: &[String]) -> Result<Vec<f32>, (String, String)> {
        let list: Option<Vec<serde_json::Value>> =
            field.trim_start().starts_with('[').then(|| serde_json::from_str(field).ok()).flatten();
        let found: Vec<Cow<'_, str>> = match list {
            Some(list) => list
                .into_iter()
                .map(|value| match value {
                    serde_json::Value::String(text) => text.into(),
                    other => other.to_string().into(),
                })
                .collect(),
            None => field.split(&self.separator).map(|name| name.trim().into()).collect(),
        };
        let mut wanted = vec![0.0; names.len()];
        for name in found.iter().filter(|name| !name.is_empty()) {
            let place = names.binary_search_by(|known| known.as_str().cmp(name)).map_err(|_| {
                let hint = format!("`names` has {}; add it there, or take the row out", names.join(", "));
                (format!("the label `{name}` isn't one of `names`"), hint)
            })?;
            wanted[place] = 1.0;
        }
        Ok(wanted)
    }
}

fn labels() -> String {
    "labels".into()
}

fn comma() -> String {
    ",".into()
}

fn score() -> String {
    "score".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_as_lists_and_as_texts() {
        let task = serde_json::json!({ "multi_label": { "names": ["b", "a", "7"], "template": "{{ text }}" } });
        let task: Outputs = serde_json::from_value(task).expect("a task");
        assert_eq!(task.names(), ["7", "a", "b"]);
        let rows = [
            (r#"["b", 7]"#, [1.0, 0.0, 1.0]),
            ("b, a", [0.0, 1.0, 1.0]),
            ("", [0.0; 3]),
            ("[]", [0.0; 3]),
            ("a", [0.0, 1.0, 0.0]),
        ];
        for (field, wanted) in rows {
            assert_eq!(task.wanted(field).expect("labels"), wanted, "{field}");
        }
        assert!(task.wanted("a,c").expect_err("no label").0.contains("`c`"));
    }

    #[test]
    fn numbers_are_finite() {
        let task: Outputs =
            serde_json::from_value(serde_json::json!({ "regression": { "template": "{{ text }}" } })).expect("a task");
        assert_eq!(task.wanted(" -2.5 ").expect("a number"), [-2.5]);
        for field in ["", "many", "nan", "inf"] {
            assert!(task.wanted(field).is_err(), "{field}");
        }
        assert_eq!((task.names(), task.column().1), (vec!["score".to_owned()], "score"));
    }
}
