//! Rules between settings that a schema can't say.

/// A rule that a recipe's settings break.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The field that is wrong, as a path from what was checked; empty for that itself.
    pub field: String,
    /// Whether it's the field's value that is wrong, rather than that the field is there.
    pub of_value: bool,
    /// What is wrong, in lower case and without a full stop.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// That there is such a field.
    pub fn of_key(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), of_value: false, message: message.into(), hint: None }
    }

    /// What the field holds.
    pub fn of_value(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { of_value: true, ..Self::of_key(field, message) }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, with a path that begins further out.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let field = match (outer, self.field.as_str()) {
            (_, "") => outer.to_owned(),
            ("", _) => self.field,
            (outer, field) => format!("{outer}.{field}"),
        };
        Self { field, ..self }
    }
}
