//! What a sweep tries for one setting: each value must fit where its path leads, and a range must be one.

use crate::recipe::Checks;
use crate::recipe::flags::Target;
use crate::recipe::node::{Entry, Node, Value};
use crate::recipe::shape::Shape;
use crate::recipe::typecheck;

/// What may stand in a range, and whether it's of whole numbers and of positive ones.
const RANGES: [(&str, bool, bool); 4] =
    [("int", true, false), ("log_int", true, true), ("uniform", false, false), ("log", false, true)];

/// How values are listed behind a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listed {
    /// One value
    Cell,
    /// A list as long as its neighbours
    Zip,
    /// A list or a range, all of it
    Grid,
    /// A list or a range that values are drawn from
    Drawn,
}

impl Checks<'_> {
    pub(super) fn values(&mut self, listed: Listed, entry: &Entry, target: &Target) {
        let name = entry.key.rsplit('.').next().unwrap_or_default();
        match (&entry.node.value, listed) {
            (_, Listed::Cell) => typecheck::check(&entry.node, target.slot, name, self.problems),
            (Value::Seq(values), _) => {
                if values.is_empty() {
                    self.report(entry.key_span, format!("`{}` has no values to try", entry.key), None);
                }
                values.iter().for_each(|value| typecheck::check(value, target.slot, name, self.problems));
                if listed == Listed::Zip {
                    self.same_length(entry, values.len());
                }
            }
            (Value::Map(_), Listed::Grid | Listed::Drawn) => self.range(listed, entry, target, name),
            _ => {}
        }
    }

    fn same_length(&mut self, entry: &Entry, length: usize) {
        let Some(first) = self.tree.find("sweep.zip").and_then(|(_, zip)| zip.entries().first()) else { return };
        if let Value::Seq(values) = &first.node.value
            && values.len() != length
        {
            let message =
                format!("the list of `{}` is {length} long, and that of `{}` {}", entry.key, first.key, values.len());
            let hint = "lists under `zip` go together, value by value; `grid` tries all combinations".to_owned();
            self.report(entry.node.span, message, hint);
        }
    }

    fn range(&mut self, listed: Listed, entry: &Entry, target: &Target, name: &str) {
        let choice = entry.node.entry("choice");
        let ranges = || RANGES.into_iter().filter_map(|range| Some((range, entry.node.entry(range.0)?)));
        match choice.into_iter().chain(ranges().map(|(_, entry)| entry)).collect::<Vec<_>>().as_slice() {
            [] => {
                let hint = "write such as `{ log: [1e-5, 1e-3] }`: one of `choice`, `int`, `log_int`, `uniform`, `log`";
                self.report(entry.key_span, format!("`{}` has no values to try", entry.key), hint.to_owned());
            }
            [_] => {}
            [first, second, ..] => {
                let message = format!("`{}` has both `{}` and `{}`", entry.key, first.key, second.key);
                self.report(second.key_span, message, "keep one of the two".to_owned());
            }
        }
        if let Some(choice) = choice
            && let Value::Seq(values) = &choice.node.value
        {
            if values.is_empty() {
                self.report(choice.key_span, format!("`{}` has no values to try", entry.key), None);
            }
            values.iter().for_each(|value| typecheck::check(value, target.slot, name, self.problems));
        }
        let takes_whole_numbers = matches!(target.slot.shape, Shape::Integer(_));
        for ((kind, is_whole, is_positive), range) in ranges() {
            if takes_whole_numbers && !is_whole {
                let instead = if is_positive { "log_int" } else { "int" };
                let message = format!("`{}` takes whole numbers, and `{kind}` gives others", entry.key);
                self.report(range.key_span, message, format!("write `{instead}`"));
            } else {
                self.ends(&range.node, kind, is_positive, target, name);
            }
        }
        self.points(listed, entry);
    }

    /// A range's two ends: numbers that fit, the lower one first.
    fn ends(&mut self, range: &Node, kind: &str, is_positive: bool, target: &Target, name: &str) {
        let Value::Seq(ends) = &range.value else { return };
        let [low, high] = ends.as_slice() else {
            let hint = format!("write `{kind}: [LOWEST, HIGHEST]`");
            return self.report(range.span, format!("a range has two ends, and this has {}", ends.len()), hint);
        };
        let before = self.problems.len();
        for end in ends {
            typecheck::check(end, target.slot, name, self.problems);
        }
        let (Some(lowest), Some(highest)) = (number(low), number(high)) else { return };
        if self.problems.len() > before {
            return;
        }
        if lowest >= highest {
            let message = format!("the range ends at {}, which isn't above {}", high.shown(), low.shown());
            self.report(range.span, message, "the lower end goes first".to_owned());
        } else if is_positive && lowest <= 0.0 {
            let message = format!("`{kind}` takes numbers above 0, and {} isn't", low.shown());
            let hint = format!("begin above 0, or write `{}`", if kind == "log" { "uniform" } else { "int" });
            self.report(low.span, message, hint);
        }
    }

    fn points(&mut self, listed: Listed, entry: &Entry) {
        let points = entry.node.entry("points");
        match (listed, points) {
            (Listed::Drawn, Some(points)) => {
                let message = "`points` is for a grid; here values are drawn from all of the range";
                self.report(points.key_span, message, "take it out".to_owned());
            }
            (Listed::Grid, Some(points)) if entry.node.get("choice").is_some() => {
                self.report(points.key_span, "`points` is for ranges; all of a `choice` are tried", None);
            }
            (Listed::Grid, None) => {
                let endless = ["uniform", "log", "log_int"].into_iter().find_map(|kind| entry.node.entry(kind));
                if let Some(range) = endless {
                    let message = format!("a grid needs to know how many values of `{}` to take", entry.key);
                    self.report(range.key_span, message, format!("add `points: 3` beside `{}`", range.key));
                }
            }
            _ => {}
        }
    }
}

fn number(node: &Node) -> Option<f64> {
    match node.value {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        _ => None,
    }
}
