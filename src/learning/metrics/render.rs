//! Reports as plain text for the terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};

use super::report::{ComparedMetrics, EvalReport};

/// The model's metrics beside the baselines', over all rows and, where some leaked, over the others; then what is wrong
/// with the split.
pub fn metrics(report: &EvalReport) -> String {
    let mut table = table();
    let linear = report.all.linear.map(|_| "linear");
    table.set_header(header(["", "model"].into_iter().chain(linear).chain(["naive Bayes", "majority"])));
    add_metrics(&mut table, &format!("all {}", count(report.rows, "row")), &report.all);
    if report.leaked_rows > 0 {
        let clean = count(report.rows - report.leaked_rows, "row");
        match &report.without_leaks {
            Some(metrics) => add_metrics(&mut table, &format!("{clean} not seen in training"), metrics),
            None => add_block(&mut table, "no row that was not seen in training"),
        }
    }
    let mut text = finish(&table);
    let share = |rows: u64| percent(rows as f64 / report.rows as f64);
    for (rows, what) in [
        (report.leaked_rows, "also in what the model was trained on"),
        (report.duplicate_rows, "with the text of an earlier row"),
        (report.contradictory_rows, "with a text that has another label elsewhere"),
    ] {
        if rows > 0 {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{} ({}) {what}", count(rows, "row"), share(rows));
        }
    }
    text
}

fn add_metrics(table: &mut Table, title: &str, metrics: &ComparedMetrics) {
    add_block(table, title);
    let ComparedMetrics { model, linear, naive_bayes, majority } = metrics;
    let baselines = || linear.iter().chain([naive_bayes, majority]);
    let accuracies = [model.accuracy].into_iter().chain(baselines().map(|baseline| baseline.accuracy));
    let scores = [model.macro_f1].into_iter().chain(baselines().map(|baseline| baseline.macro_f1));
    table.add_row(row("  accuracy", accuracies.map(percent)));
    table.add_row(row("  macro F1", scores.map(percent)));
    table.add_row(row("  log-loss", [format!("{:.4}", model.log_loss)]));
    table.add_row(row("  calibration error", [percent(model.calibration.error)]));
}

fn add_block(table: &mut Table, title: &str) {
    table.add_row(vec![Cell::new(title)]);
}

/// Lines only around the header: columns are told apart by their alignment.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table
}

/// A header with its first cell to the left and the others to the right.
fn header<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Cell> {
    let cell = |(index, name)| if index == 0 { Cell::new(name) } else { right(name) };
    names.into_iter().enumerate().map(cell).collect()
}

/// A row of metrics behind a name.
fn row(name: &str, metrics: impl IntoIterator<Item = String>) -> Vec<Cell> {
    [Cell::new(name)].into_iter().chain(metrics.into_iter().map(right)).collect()
}

fn right(content: impl ToString) -> Cell {
    Cell::new(content).set_alignment(CellAlignment::Right)
}

fn finish(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `1 row`, `1,200 rows`.
fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Digits in groups of three: `41,557`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
