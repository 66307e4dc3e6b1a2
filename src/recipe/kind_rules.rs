//! The rules of a kind of stage.

use super::{Checks, Draft, Kind};

/// A kind of stage with the rules that its settings' types can't say.
pub trait KindRules: Kind {
    /// Holds a stage against rules between its fields, other stages and its data. Whatever has a type, a range, a file or
    /// a reference of its own in the schema has been checked before.
    fn check(&self, stage: &Draft, checks: &mut Checks<'_>);

    /// The numbers that are recorded of a stage, those first that say how good it is; so that a sweep can't look for one that
    /// there will never be. None where that isn't known before it has run.
    fn metrics(&self, _stage: &Draft, _checks: &Checks<'_>) -> Option<Vec<String>> {
        None
    }
}
