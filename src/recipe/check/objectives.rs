//! Rules of a pretraining mix: what may stand in an entry, weights that leave something to draw, and what the model can
//! learn. Which those are, the catalog knows.

use super::families::which;
use super::{Check, Draft};
use crate::spec::{Objective, Problem};

impl Check<'_> {
    pub(super) fn objectives(&mut self, draft: &Draft, objectives: &[Objective]) {
        self.report_all(draft, (self.catalog.objectives().check)(objectives));
    }

    /// Objectives have to suit the model that the stage begins with.
    pub(super) fn learnable(&mut self, draft: &Draft, objectives: &[Objective]) {
        let Some((owner, family)) = self.family_of(draft) else { return };
        let model = which(draft, &owner, family);
        self.report_all(draft, (self.catalog.objectives().learnable)(objectives, family, &model));
    }

    /// Reports what is wrong in a stage's settings, each at its field.
    fn report_all(&mut self, draft: &Draft, problems: Vec<Problem>) {
        for problem in problems {
            let pointer = draft.pointer(&problem.field);
            let at = if problem.of_value { self.value(&pointer) } else { self.key(&pointer) };
            self.report(at, problem.message, problem.hint);
        }
    }
}
