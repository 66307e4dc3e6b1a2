//! Errors that say what to do about them.

use std::{any::Any, error::Error, fmt};

/// A mistake, and what to do about it. The two are kept apart, so that each goes where it belongs: beside the carets under
/// a recipe's line, or on a line of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hinted {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Hinted {
    /// A mistake with a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// A mistake that is always reported with what to do about it.
    pub fn with(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    /// What an error says, and the first hint among its causes.
    pub fn of(error: &anyhow::Error) -> Self {
        let hinted = |cause: &'_ (dyn Error + 'static)| match cause.downcast_ref::<Detailed>() {
            Some(detailed) => detailed.told.hint.clone(),
            None => cause.downcast_ref::<Self>()?.hint.clone(),
        };
        let hint = error.chain().find_map(hinted);
        Self { message: format!("{error:#}"), hint }
    }

    /// The message, and on a line of its own what to do.
    pub fn lines(&self) -> String {
        let Self { message, hint } = self;
        hint.as_ref().map_or_else(|| message.clone(), |hint| format!("{message}\nhint: {hint}"))
    }
}

impl fmt::Display for Hinted {
    /// The message alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Hinted {}

/// A mistake, and what a program that meets it is to know.
#[derive(Debug)]
pub struct Detailed {
    told: Hinted,
    detail: Box<dyn Any + Send + Sync>,
}

impl Detailed {
    /// What people are told, and what programs are.
    pub fn new(told: Hinted, detail: impl Any + Send + Sync) -> Self {
        Self { told, detail: Box::new(detail) }
    }

    /// What an error tells programs, if it's of this type.
    pub fn detail<T: Any>(error: &anyhow::Error) -> Option<&T> {
        error.downcast_ref::<Self>()?.detail.downcast_ref()
    }
}

impl fmt::Display for Detailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told.fmt(f)
    }
}

impl Error for Detailed {}

/// An error with all its causes in one line, and on another what to do about it, if that is known.
pub fn explained(error: &anyhow::Error) -> String {
    Hinted::of(error).lines()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn hints_follow_the_whole_message() {
        let error = Err::<(), _>(Hinted::new("no such file", "look again".to_owned())).context("can't read");
        assert_eq!(error.map_err(|error| explained(&error)), Err("can't read: no such file\nhint: look again".into()));
        assert_eq!(explained(&anyhow::anyhow!("broken")), "broken");
    }
}
