//! All mistakes of a recipe together, and the form in which they are shown.

use std::fmt;

use super::{
    Diagnostic,
    place::{Text, Texts},
    render,
};

/// All mistakes of a recipe, in the order of their places.
#[derive(Clone)]
pub struct Diagnostics {
    texts: Texts,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts mistakes by place; those without one come first. Equal ones are kept once.
    pub(super) fn new(texts: Texts, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| diagnostic.span);
        list.dedup();
        Self { texts, list }
    }

    /// The one mistake that a file cannot be read at all.
    pub(super) fn unreadable(name: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        Self::new(Texts::new(Text::file(name, "")), vec![Diagnostic::new(message).hint(hint)])
    }

    /// Puts the mistakes of one recipe together; `None` if there are none.
    pub fn all(found: impl IntoIterator<Item = Self>) -> Option<Self> {
        let joined = found.into_iter().reduce(|mut all, more| {
            all.list.extend(more.list);
            all
        })?;
        Some(Self::new(joined.texts, joined.list))
    }

    /// The mistakes.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Line and column of a mistake's place, from 1; none for one without a place or on the command line.
    pub fn place(&self, diagnostic: &Diagnostic) -> Option<(usize, usize)> {
        let span = diagnostic.span?;
        let text = self.texts.of(span);
        text.is_file().then(|| text.place(span.start as usize))
    }

    /// The mistakes as text for a terminal, with ANSI colours if asked for, and their number on the last line.
    pub fn render(&self, color: bool) -> String {
        render::diagnostics(&self.texts, &self.list, color)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    /// As it's shown, so that tests that fail can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
