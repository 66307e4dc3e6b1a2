//! Rules of a pretraining mix: what may stand in an entry, weights that leave something to draw, and what the model can
//! learn. Which those are, the catalog knows.

use super::families::which;
use super::{Check, Draft};
use crate::spec::Objective;

impl Check<'_> {
    pub(super) fn objectives(&mut self, draft: &Draft, objectives: &[Objective]) {
        for problem in (self.catalog.objectives().check)(objectives) {
            let pointer = draft.pointer(&problem.field);
            let at = if problem.of_value { self.value(&pointer) } else { self.key(&pointer) };
            self.report(at, problem.message, problem.hint);
        }
    }

    /// Objectives have to suit the model that the stage begins with.
    pub(super) fn learnable(&mut self, draft: &Draft, objectives: &[Objective]) {
        let Some((owner, family)) = self.family_of(draft) else { return };
        let rules = self.catalog.objectives();
        for (field, name) in (rules.unlearnable)(objectives, family.attention) {
            self.report(
                self.key(&draft.pointer(&field)),
                format!("{} cannot learn `{name}`", which(draft, &owner, family)),
                format!("{} learns {}; `glm` learns every objective", family.name, (rules.learns)(family.attention)),
            );
        }
    }
}
