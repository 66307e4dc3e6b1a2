//! Rules of a pretraining mix: what may stand in an entry, weights that leave something to draw, and what the model can
//! learn.

use super::abilities::{family_of, which};
use crate::{
    learning::objectives::parts,
    recipe::{Checks, Draft},
    spec::{Objective, Problem},
};

/// The entries have to go together.
pub(in crate::stages) fn objectives(checks: &mut Checks<'_>, draft: &Draft, objectives: &[Objective]) {
    report_all(checks, draft, parts::check(objectives));
}

/// Objectives have to suit the model that the stage begins with.
pub(in crate::stages) fn learnable(checks: &mut Checks<'_>, draft: &Draft, objectives: &[Objective]) {
    let Some((owner, family)) = family_of(checks, draft) else { return };
    let model = which(draft, &owner, family);
    report_all(checks, draft, parts::learnable(objectives, family, &model));
}

/// Reports what is wrong in a stage's settings, each at its field.
fn report_all(checks: &mut Checks<'_>, draft: &Draft, problems: Vec<Problem>) {
    for problem in problems {
        let pointer = draft.pointer(&problem.field);
        let at = if problem.of_value { checks.value(&pointer) } else { checks.key(&pointer) };
        checks.report(at, problem.message, problem.hint);
    }
}
