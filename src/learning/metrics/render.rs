//! Reports as plain text for the terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Row, Table, TableStyle};

use super::report::{ComparedMetrics, EvalReport};
use super::{Confusion, LanguageReport, LanguageTally};

/// How many kinds of mistakes are listed where the confusion matrix is too wide.
const LISTED_MISTAKES: usize = 15;

/// Blanks to the left and right of each column together.
const PADDING: usize = 2;

/// The whole report: metrics, classes, confusion, worst errors; no line wider than `width` as long as names allow it.
pub fn report(report: &EvalReport, width: usize) -> String {
    let mut parts = vec![
        metrics(report),
        format!("Classes\n{}", per_class(report)),
        format!("Confusion (a row a label, a column what was predicted)\n{}", confusion(report, width)),
    ];
    if !report.worst.is_empty() {
        parts.push(format!("Worst errors\n{}", worst_errors(report, width)));
    }
    parts.join("\n")
}

/// The model's metrics beside both baselines', over all rows and, where some leaked, over the others; then what is wrong
/// with the split.
pub fn metrics(report: &EvalReport) -> String {
    let mut table = table();
    table.set_header(header(["", "model", "naive Bayes", "majority"]));
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

/// Precision, recall, F1 and support of each class.
pub fn per_class(report: &EvalReport) -> String {
    let mut table = table();
    table.set_header(header(["label", "precision", "recall", "F1", "rows"]));
    for (label, class) in report.labels.iter().zip(&report.all.model.per_class) {
        let shares = [class.precision, class.recall, class.f1].map(optional_percent);
        let cells = shares.into_iter().chain([grouped(class.support)]);
        table.add_row(row(label, cells));
    }
    finish(&table)
}

/// The confusion matrix, or the most frequent mistakes where it would be wider than `width`.
pub fn confusion(report: &EvalReport, width: usize) -> String {
    let confusion = &report.all.model.confusion;
    let matrix = confusion_matrix(&report.labels, confusion);
    let needed: usize = matrix.column_max_content_widths().iter().map(|&column| usize::from(column) + PADDING).sum();
    finish(&if needed <= width { matrix } else { mistakes(&report.labels, confusion) })
}

fn confusion_matrix(labels: &[String], confusion: &Confusion) -> Table {
    let mut table = table();
    table.set_header(header([""].into_iter().chain(labels.iter().map(String::as_str))));
    for (label, counts) in labels.iter().zip(confusion.counts()) {
        // Zeros would drown the metrics that matter.
        let cells = counts.iter().map(|&count| if count == 0 { "·".into() } else { grouped(count) });
        table.add_row(row(label, cells));
    }
    table
}

fn mistakes(labels: &[String], confusion: &Confusion) -> Table {
    let mut table = table();
    table.set_header(header(["label", "predicted", "rows"]));
    for (gold, predicted, count) in confusion.mistakes().into_iter().take(LISTED_MISTAKES) {
        table.add_row(vec![Cell::new(&labels[gold]), Cell::new(&labels[predicted]), right(grouped(count))]);
    }
    table
}

/// The worst errors, a line each; texts are cut to what `width` leaves for them.
pub fn worst_errors(report: &EvalReport, width: usize) -> String {
    let mut table = table();
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(vec![right("row"), Cell::new("label"), Cell::new("predicted"), right("p"), Cell::new("text")]);
    for error in &report.worst {
        let text = error.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut row = Row::from(vec![
            right(error.row.to_string()),
            Cell::new(&error.gold),
            Cell::new(&error.predicted),
            right(format!("{:.3}", error.probability)),
            Cell::new(text),
        ]);
        row.max_height(1);
        table.add_row(row);
    }
    // Only the text gives way.
    for index in 0..4 {
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    finish(&table)
}

/// A language model's metrics, over all documents and, where some leaked, over the others.
pub fn language(report: &LanguageReport) -> String {
    let mut table = table();
    table.set_header(header(["", "loss", "perplexity", "masked accuracy", "tokens"]));
    let mut add = |name: String, tally: &LanguageTally| {
        let decimal = |value: Option<f64>, digits| value.map_or("–".into(), |value| format!("{value:.digits$}"));
        let cells = [
            decimal(tally.loss(), 4),
            decimal(tally.perplexity(), 2),
            optional_percent(tally.masked_accuracy()),
            grouped(tally.tokens + tally.masked),
        ];
        table.add_row(row(&name, cells));
    };
    add(format!("all {}", count(report.all.documents, "document")), &report.all);
    if report.leaked_documents() > 0 {
        let clean = count(report.without_leaks.documents, "document");
        add(format!("{clean} not seen in training"), &report.without_leaks);
    }
    finish(&table)
}

fn add_metrics(table: &mut Table, title: &str, metrics: &ComparedMetrics) {
    add_block(table, title);
    let ComparedMetrics { model, naive_bayes, majority } = metrics;
    let accuracies = [model.accuracy, naive_bayes.accuracy, majority.accuracy];
    let scores = [model.macro_f1, naive_bayes.macro_f1, majority.macro_f1];
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

fn optional_percent(share: Option<f64>) -> String {
    share.map_or("–".into(), percent)
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
