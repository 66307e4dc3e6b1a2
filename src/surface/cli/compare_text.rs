//! A comparison as tables.

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};

use super::{comparison::Pair, console::count, report::format_metric};
use crate::stages::metrics::{Role, role};

/// Two sides: a part for each stage in which something differs.
pub(super) fn text(first: &str, second: &str, pairs: &[Pair]) -> String {
    let mut parts = vec![format!("{first}  →  {second}\n")];
    for pair in pairs {
        if pair.differences.is_empty() {
            parts.push(format!("{}: the same\n", pair.stage));
            continue;
        }
        parts.push(format!("{}\n", pair.stage));
        let lines = pair.differences.iter().map(|difference| format!("  {difference}\n"));
        parts.push(lines.collect());
        parts.push(settings(pair));
        parts.extend(results(pair));
        parts.extend(intervals(pair));
        parts.extend(curves(pair));
    }
    parts.concat()
}

/// The metrics of a role that differ.
pub(super) fn differing(pair: &Pair, wanted: Role) -> impl Iterator<Item = &(String, f64, f64)> {
    pair.metrics.iter().filter(move |(name, a, b)| a != b && role(name) == wanted)
}

/// What the settings that differ make of the data and the model.
fn settings(pair: &Pair) -> String {
    let shown = |value: f64| format_metric(&value.into());
    differing(pair, Role::Setting).map(|(name, a, b)| format!("  {name}: {} → {}\n", shown(*a), shown(*b))).collect()
}

fn results(pair: &Pair) -> Option<String> {
    let rows: Vec<_> = differing(pair, Role::Result).collect();
    if rows.is_empty() {
        return None;
    }
    let mut table = headed(["", "first", "second", "difference"]);
    for (name, a, b) in rows {
        table.add_row(cells(name, [format_metric(&(*a).into()), format_metric(&(*b).into()), signed(b - a)]));
    }
    Some(indented(&table))
}

fn intervals(pair: &Pair) -> Option<String> {
    let (rows, unpaired, intervals) = pair.intervals.as_ref()?;
    if intervals.is_empty() {
        return Some("  the two were measured on different rows\n".to_owned());
    }
    let mut table = headed(["", "difference", "95 % from", "to"]);
    for (name, interval) in intervals {
        let name = match interval.low > 0.0 || interval.high < 0.0 {
            true => (*name).to_owned(),
            false => format!("{name} (may be chance)"),
        };
        table.add_row(cells(&name, [interval.difference, interval.low, interval.high].map(signed)));
    }
    let mut text = format!("  paired bootstrap over {}\n{}", count(*rows, "row"), indented(&table));
    if *unpaired > 0 {
        text.push_str(&format!("  left out: {} that only one of them has\n", count(*unpaired, "row")));
    }
    Some(text)
}

fn curves(pair: &Pair) -> Option<String> {
    let [first, second] = &pair.curves;
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let mut table = headed(["loss up to step", "first", "step", "second"]);
    for at in 0..first.len().max(second.len()) {
        let cell = |curve: &[(usize, f32)]| match curve.get(at) {
            Some((step, loss)) => [step.to_string(), format!("{loss:.4}")],
            None => [String::new(), String::new()],
        };
        let ([step, loss], [other_step, other_loss]) = (cell(first), cell(second));
        table.add_row(cells(&step, [loss, other_step, other_loss]));
    }
    Some(indented(&table))
}

fn headed(names: [&str; 4]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let [first, others @ ..] = names;
    table.set_header(cells(first, others.map(str::to_owned)));
    table
}

fn cells(name: &str, metrics: [String; 3]) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    [Cell::new(name)].into_iter().chain(metrics.map(right)).collect()
}

fn indented(table: &Table) -> String {
    table.trim_fmt().lines().map(|line| format!("  {line}\n")).collect()
}

pub(super) fn signed(value: f64) -> String {
    let text = format_metric(&value.into());
    if value > 0.0 { format!("+{text}") } else { text }
}
