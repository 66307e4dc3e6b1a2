//! A mistake in a recipe, or a warning: what is wrong, where, and what to do about it.

use super::place::Span;

/// One mistake.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Diagnostic {
    /// What is wrong, in lower case and without a full stop.
    pub message: String,
    /// Where; none if the mistake is not at a place of its own.
    pub span: Option<Span>,
    /// What stands under the place, beside the carets.
    pub label: Option<String>,
    /// Other places that have to do with it, each with its label.
    pub others: Vec<(Span, String)>,
    /// What to do.
    pub hint: Option<String>,
    /// Whether it's a warning: the recipe can be run as it is.
    pub is_warning: bool,
}

impl Diagnostic {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { is_warning: true, ..self }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Sets what stands beside the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.others.push((span, label.into()));
        self
    }

    /// Sets what to do, where there is something to say.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}
