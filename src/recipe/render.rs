//! Draws mistakes: message, place, the line itself, carets under the words, hint.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{
    diagnostic::Diagnostic,
    place::{Text, Texts},
};

/// Columns of a line that are shown; longer ones are cut around the place.
const WIDTH: usize = 120;

/// All mistakes, and how many there are.
pub(super) fn diagnostics(texts: &Texts, list: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() }.term_width(WIDTH);
    let mut out = String::new();
    for diagnostic in list {
        out.push_str(&renderer.render(&[group(texts, diagnostic)]));
        out.push_str("\n\n");
    }
    let what = if list.iter().all(|one| one.is_warning) { "warning" } else { "error" };
    let plural = if list.len() == 1 { "" } else { "s" };
    let count = format!("{} {what}{plural} in {}", list.len(), texts.file().name());
    if color { out + "\x1b[1m" + &count + "\x1b[0m" } else { out + &count }
}

/// One mistake with its lines.
fn group<'a>(texts: &'a Texts, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = if diagnostic.is_warning { Level::WARNING } else { Level::ERROR };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message));
    if let Some(span) = diagnostic.span {
        let text = texts.of(span);
        let primary = mark(AnnotationKind::Primary.span(text.marked(span)), diagnostic.label.as_deref());
        let others = diagnostic.others.iter().filter(|(other, _)| other.text == span.text);
        let others = others.map(|(other, label)| mark(AnnotationKind::Context.span(text.marked(*other)), Some(label)));
        group = with_lines(group, text, std::iter::once(primary).chain(others));
    }
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.with_name("hint").message(hint)),
        None => group,
    }
}

/// A place with what stands beside its carets.
fn mark<'a>(annotation: Annotation<'a>, label: Option<&'a str>) -> Annotation<'a> {
    annotation.label(label.filter(|label| !label.is_empty()))
}

/// Adds the lines with the places; those of a flag have no numbers.
fn with_lines<'a>(group: Group<'a>, text: &'a Text, marks: impl Iterator<Item = Annotation<'a>>) -> Group<'a> {
    group.element(Snippet::source(text.shown()).path(text.name()).line_numbering(text.is_file()).annotations(marks))
}
