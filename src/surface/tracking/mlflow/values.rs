//! Settings and metrics in the form that MLflow takes: flat, with names of certain characters and texts of some length.

use serde_json::{Map, Value, json};

use super::api::{Pair, millis};
use crate::engine::executor::StepMetrics;

/// What MLflow takes at most: characters of a setting's value and of a name, and entries of one call.
const VALUE: usize = 6000;
const NAME: usize = 250;
pub(super) const METRICS: usize = 1000;
pub(super) const PARAMS: usize = 100;

/// Settings by their dotted paths below `prefix`, which may be empty.
pub(super) fn flat(prefix: &str, value: &Value) -> Vec<Pair> {
    let mut pairs = Vec::new();
    flatten(prefix, value, &mut |path, value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        pairs.push((name(path), text.chars().take(VALUE).collect()));
    });
    pairs
}

/// The numbers among metrics, those in tables by their dotted paths.
pub(super) fn numbers(prefix: &str, metrics: &Map<String, Value>) -> Vec<(String, f64)> {
    let mut numbers = Vec::new();
    flatten(prefix, &Value::Object(metrics.clone()), &mut |path, value| {
        numbers.extend(value.as_f64().map(|value| (name(path), value)));
    });
    numbers
}

fn flatten(path: &str, value: &Value, leaf: &mut dyn FnMut(&str, &Value)) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| flatten(&below(key), value, leaf)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&below(&index.to_string()), item, leaf));
        }
        Value::Null => {}
        value => leaf(path, value),
    }
}

/// A name of characters that MLflow takes: letters, digits, and a few signs.
fn name(path: &str) -> String {
    let fit =
        |character: char| if character.is_alphanumeric() || "_-. :".contains(character) { character } else { '_' };
    path.chars().map(fit).take(NAME).collect()
}

/// Metrics of a training as MLflow's metrics.
pub(super) fn metrics(metrics: &[StepMetrics]) -> impl Iterator<Item = Value> {
    metrics.iter().flat_map(|metrics| {
        metrics.values.iter().filter_map(|(name, value)| metric(name, *value, metrics.step, metrics.at))
    })
}

/// One metric; JSON has no word for those that aren't finite.
pub(super) fn metric(name: &str, value: f64, step: usize, at: f64) -> Option<Value> {
    value.is_finite().then(|| json!({ "key": name, "value": value, "step": step, "timestamp": millis(at) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_flat_and_their_names_fit() {
        let spec = json!({
            "train": { "lr": 1e-3, "keep_best": null },
            "targets": ["query", "value"],
            "objectives": [{ "masked_lm": {} }, { "weight": 2 }],
            "words": { "体育/球": "体育" },
        });
        let found = flat("stages.base", &spec);
        let expected = [
            ("stages.base.objectives.0.masked_lm", "{}"),
            ("stages.base.objectives.1.weight", "2"),
            ("stages.base.targets", "[\"query\",\"value\"]"),
            ("stages.base.train.lr", "0.001"),
            ("stages.base.words.体育_球", "体育"),
        ];
        let mut found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(flat("", &json!({ "text": "长".repeat(9000) }))[0].1.chars().count(), VALUE);
    }

    #[test]
    fn metrics_are_numbers_that_are_finite() {
        let metrics = json!({ "accuracy": 0.5, "mfu": null, "name": "x", "unseen": { "accuracy": 1 } });
        let found = numbers("test", metrics.as_object().expect("an object"));
        assert_eq!(found, [("test.accuracy".to_owned(), 0.5), ("test.unseen.accuracy".to_owned(), 1.0)]);
        assert_eq!(metric("loss", f64::NAN, 1, 0.0), None);
        let expected = json!({ "key": "loss", "value": 0.5, "step": 3, "timestamp": 1500 });
        assert_eq!(metric("loss", 0.5, 3, 1.5), Some(expected));
    }
}
