//! Values out of ranges: all of a grid's, or drawn at random.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::cell::{Settings, drawn_setting};
use crate::{
    recipe::Checked,
    spec::{Range, Values},
    support::random::Key,
};

/// What is drawn has this many digits that count, so that it can be read and typed again.
const DIGITS: usize = 4;

/// The values of one setting, as a number of choices or as a line between two ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Domain {
    /// One of these
    Choice(Vec<Value>),
    /// A number between these; both belong to it
    Line {
        low: f64,
        high: f64,
        /// Whether ratios count, rather than differences
        log: bool,
        /// Whether it takes whole numbers only
        whole: bool,
    },
}

impl Domain {
    /// The domain that a recipe describes; an empty choice where the range is none, which the recipe's check refuses.
    pub(super) fn new(values: &Values) -> Self {
        let range = match values {
            Values::List(values) => return Self::Choice(values.clone()),
            Values::Range(range) => range,
        };
        let Range { choice, int, log_int, uniform, log, .. } = range;
        let reals = |ends: &Option<Vec<f64>>| ends.as_deref().and_then(|ends| Some((*ends.first()?, *ends.get(1)?)));
        let wholes = |ends: &Option<Vec<i64>>| {
            ends.as_deref().and_then(|ends| Some((*ends.first()? as f64, *ends.get(1)? as f64)))
        };
        let candidates = [
            (wholes(int), false, true),
            (wholes(log_int), true, true),
            (reals(uniform), false, false),
            (reals(log), true, false),
        ];
        let line = candidates
            .into_iter()
            .find_map(|(ends, log, whole)| ends.map(|(low, high)| Self::Line { low, high, log, whole }));
        line.unwrap_or_else(|| Self::Choice(choice.clone().unwrap_or_default()))
    }

    /// The values that a grid tries.
    pub(super) fn grid(&self, points: Option<usize>) -> Vec<Value> {
        match (self, points) {
            (Self::Choice(values), _) => values.clone(),
            (Self::Line { low, high, .. }, None) => (*low as i64..=*high as i64).map(Value::from).collect(),
            (Self::Line { .. }, Some(points)) => {
                let share = |index: usize| index as f64 / (points.max(2) - 1) as f64;
                let mut values: Vec<Value> = (0..points.max(2)).map(|index| self.at(share(index))).collect();
                values.dedup();
                values
            }
        }
    }

    /// A value drawn evenly.
    pub(super) fn draw(&self, key: Key) -> Value {
        match *self {
            Self::Choice(ref values) => values.get(key.below(values.len())).cloned().unwrap_or_default(),
            // Half a step beyond the ends, or these would be half as likely as the others.
            Self::Line { low, high, log, whole: true } => {
                between(low - 0.5, high + 0.5, log, key.f64(), |value| json!(value.round().clamp(low, high) as i64))
            }
            Self::Line { .. } => self.at(key.f64()),
        }
    }

    /// The value at a share of the way between the ends.
    fn at(&self, share: f64) -> Value {
        match *self {
            Self::Choice(_) => Value::Null,
            Self::Line { low, high, log, whole } => between(low, high, log, share, |value| {
                if whole { json!(value.round() as i64) } else { json!(short(value).clamp(low, high)) }
            }),
        }
    }
}

/// A share of the way from `low` to `high`, of the ratio between them where `log`.
fn between(low: f64, high: f64, log: bool, share: f64, value: impl Fn(f64) -> Value) -> Value {
    let scale = |value: f64| if log { value.ln() } else { value };
    let place = scale(low) + share * (scale(high) - scale(low));
    value(if log { place.exp() } else { place })
}

/// A number with no more digits than can be read.
pub(super) fn short(value: f64) -> f64 {
    format!("{value:.*e}", DIGITS - 1).parse().unwrap_or(value)
}

/// The settings of one random draw. Each depends on the recipe's seed, its own path and the number of the draw: more draws
/// and more settings leave those alone that were there.
pub(super) fn drawn(values: &IndexMap<String, Values>, index: usize, section: &str, checked: &Checked) -> Settings {
    let key = Key::new(checked.recipe.seed).with("sweep");
    let setting = |(path, values): (&String, &Values)| {
        let value = Domain::new(values).draw(key.with(path).at(index as u64));
        let pointer = format!("sweep.{section}.values.{path}");
        (path.clone(), drawn_setting(checked, &pointer, values, value))
    };
    values.iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(low: f64, high: f64, log: bool, whole: bool) -> Domain {
        Domain::Line { low, high, log, whole }
    }

    #[test]
    fn a_grid_takes_both_ends_and_even_steps() {
        assert_eq!(line(1e-4, 1e-2, true, false).grid(Some(3)), [1e-4, 1e-3, 1e-2].map(|value| json!(value)));
        assert_eq!(line(0.0, 0.3, false, false).grid(Some(4)), [0.0, 0.1, 0.2, 0.3].map(|value| json!(value)));
        assert_eq!(line(2.0, 5.0, false, true).grid(None), [2, 3, 4, 5].map(|value| json!(value)));
        assert_eq!(line(8.0, 128.0, true, true).grid(Some(3)), [8, 32, 128].map(|value| json!(value)));
    }

    #[test]
    fn draws_stay_within_the_ends_and_take_whole_numbers_alike() {
        let dice = line(1.0, 6.0, false, true);
        let mut counts = [0; 6];
        for index in 0..6000 {
            let value = dice.draw(Key::new(1).at(index)).as_i64().expect("a whole number");
            counts[usize::try_from(value - 1).expect("at least 1")] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let rates = line(1e-5, 1e-1, true, false);
        let below =
            (0..4000).filter(|index| rates.draw(Key::new(2).at(*index)).as_f64().is_some_and(|rate| rate < 1e-3));
        assert!((1900..2100).contains(&below.count()));
    }
}
