//! Draws mistakes: message, place, the line itself, carets under the words, hint.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::diagnostic::Diagnostic;
use super::place::{Span, Text, Texts};

/// What a tab is drawn as.
const TAB: &str = "→   ";
/// Columns of a line that are shown; longer ones are cut around the place.
const WIDTH: usize = 120;
/// Columns shown before the place in a line that is cut.
const BEFORE: usize = 40;

/// ANSI sequences, or nothing.
struct Paint {
    error: &'static str,
    frame: &'static str,
    hint: &'static str,
    bold: &'static str,
    off: &'static str,
}

const PLAIN: Paint = Paint { error: "", frame: "", hint: "", bold: "", off: "" };
const COLOR: Paint =
    Paint { error: "\x1b[1;31m", frame: "\x1b[1;34m", hint: "\x1b[1;36m", bold: "\x1b[1m", off: "\x1b[0m" };

/// All mistakes, and how many there are.
pub(super) fn diagnostics(texts: &Texts, list: &[Diagnostic], color: bool) -> String {
    let paint = if color { COLOR } else { PLAIN };
    let mut out = String::new();
    for diagnostic in list {
        // Writing into a String cannot fail.
        let _ = one(&mut out, texts, diagnostic, &paint);
        out.push('\n');
    }
    let plural = if list.len() == 1 { "error" } else { "errors" };
    let _ = write!(out, "{}{} {plural} in {}{}", paint.bold, list.len(), texts.file().name(), paint.off);
    out
}

fn one(out: &mut String, texts: &Texts, diagnostic: &Diagnostic, paint: &Paint) -> std::fmt::Result {
    let Paint { error, frame, hint, bold, off } = paint;
    writeln!(out, "{error}error{off}{bold}: {}{off}", diagnostic.message)?;
    let mut gutter = 0;
    if let Some(span) = diagnostic.span {
        let text = texts.of(span);
        let mut marks: Vec<(Span, &str, char)> = vec![(span, diagnostic.label.as_deref().unwrap_or_default(), '^')];
        marks.extend(diagnostic.others.iter().filter(|(other, _)| other.text == span.text).map(|(other, label)| {
            let mark: (Span, &str, char) = (*other, label, '-');
            mark
        }));
        marks.sort_by_key(|(span, ..)| *span);
        let last = text.place(marks.last().map_or(0, |(span, ..)| span.start as usize)).0;
        gutter = if text.is_file() { last.to_string().len() } else { 0 };
        let (line, column) = text.place(span.start as usize);
        let place = if text.is_file() { format!("{}:{line}:{column}", text.name()) } else { text.name().into() };
        writeln!(out, "{:gutter$}{frame}-->{off} {place}", "")?;
        writeln!(out, "{:gutter$} {frame}|{off}", "")?;
        let mut previous = None;
        for (span, label, mark) in marks {
            let number = text.place(span.start as usize).0;
            if previous.is_some_and(|line| number > line + 1) {
                writeln!(out, "{frame}...{off}")?;
            }
            let shown = if text.is_file() { number.to_string() } else { String::new() };
            let drawn = Drawn::new(text, span, number);
            if previous != Some(number) {
                writeln!(out, "{frame}{shown:>gutter$} |{off} {}", drawn.line)?;
            }
            let color = if mark == '^' { error } else { frame };
            let carets: String = std::iter::repeat_n(mark, drawn.carets).collect();
            let under = format!("{:indent$}{color}{carets} {label}", "", indent = drawn.indent);
            writeln!(out, "{:gutter$} {frame}|{off} {}{off}", "", under.trim_end())?;
            previous = Some(number);
        }
    }
    if let Some(text) = &diagnostic.hint {
        writeln!(out, "{:gutter$} {frame}={off} {hint}hint{off}: {text}", "")?;
    }
    Ok(())
}

/// A line as it is drawn, and where the carets stand under it, in columns of the terminal.
struct Drawn {
    line: String,
    indent: usize,
    carets: usize,
}

impl Drawn {
    fn new(text: &Text, span: Span, number: usize) -> Self {
        let range = text.line(number);
        let start = (span.start as usize).clamp(range.start, range.end);
        let end = (span.end as usize).clamp(start, range.end);
        let body = text.body();
        // Not what is behind the last word, but a tab by itself.
        let words = body[start..end].trim_end();
        let end = if words.is_empty() { end } else { start + words.len() };
        let (before, marked, after) = (&body[range.start..start], &body[start..end], &body[end..range.end]);
        let (mut before, marked, mut after) = (draw(before), draw(marked), draw(after));
        if width(&before) + width(&marked) + width(&after) > WIDTH {
            before = cut(&before, BEFORE, true);
            after = cut(&after, WIDTH.saturating_sub(BEFORE + width(&marked)), false);
        }
        let marked = cut(&marked, WIDTH, false);
        let (indent, carets) = (width(&before), width(&marked).max(1));
        Self { line: format!("{before}{marked}{after}").trim_end().to_owned(), indent, carets }
    }
}

/// What is drawn for a piece of source: tabs and other control characters visible, no byte-order mark.
fn draw(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for character in source.chars() {
        match character {
            '\t' => out.push_str(TAB),
            '\u{feff}' => {}
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// At most so many columns of a text, its end or its beginning.
fn cut(text: &str, columns: usize, keep_end: bool) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let mut fits = |character: &char| {
        let needed = character.width().unwrap_or(0);
        let fits = needed <= room;
        room = room.saturating_sub(needed);
        fits
    };
    if keep_end {
        let kept: Vec<char> = text.chars().rev().take_while(&mut fits).collect();
        std::iter::once('…').chain(kept.into_iter().rev()).collect()
    } else {
        text.chars().take_while(&mut fits).chain(std::iter::once('…')).collect()
    }
}

/// Columns on a terminal; Chinese characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}
