//! What the store and the remote have of a sweep, without running anything.

use anyhow::Result;
use indexmap::IndexMap;

use super::{Halving, Measurements, PlannedCell, Planner, Promotions, Results, Space, measured};
use crate::{
    engine::{
        executor::{Outcome, outcomes},
        plan::Plan,
    },
    session::{Checks, Recipe, Session, recipe::columns},
    stages::Measured,
};

/// A sweep as far as it has been run.
#[derive(Debug)]
pub struct Stored {
    /// Its cells; of a search those that are known by now.
    pub cells: Vec<PlannedCell>,
    /// Their results; stages that aren't stored count as not run.
    pub results: Results,
    /// What there is of their stages.
    pub plan: Plan,
}

impl Stored {
    /// Looks up all cells of a recipe's sweep in the store and the remote; `None` if it has none.
    ///
    /// # Errors
    /// If a cell can't run, or the store, a record or an input can't be read.
    pub fn find(session: &Session, recipe: &Recipe) -> Result<Option<Self>> {
        let checked = &recipe.checked;
        let Some(mut space) = Space::new(checked)? else { return Ok(None) };
        let planner = Planner::new(&recipe.document, &recipe.overrides, &columns);
        let mut planner = planner.checking(Checks::of_data(), session);
        loop {
            let next = space.next(checked)?;
            let known = planner.cells().len();
            let is_end = next.is_empty();
            // What a search tried midway and couldn't run is left out, as it was then.
            if let Some((mistake, _)) = planner.add(&next)?.0.into_iter().next()
                && known == 0
            {
                return Err(mistake);
            }
            let plan = session.everywhere().plan(planner.graph_of_all())?;
            let mut outcomes = outcomes(&plan);
            let judged = Halving::new(checked).map(|halving| {
                let promotions = look_back(&halving, &planner, session, &outcomes);
                promotions.mark(planner.cells(), planner.tasks(), &mut outcomes);
                (halving, promotions)
            });
            let judged = judged.as_ref().map(|(halving, promotions)| (halving, promotions));
            let results = Results::new(planner.cells(), &outcomes, space.sweep(), judged);
            let waits = results.cells.iter().any(|cell| cell.number > known && !cell.good);
            // What a search tries next depends on all that it has tried.
            if is_end || (waits && space.to_come() > 0) {
                return Ok(Some(Self { cells: planner.cells().to_vec(), results, plan }));
            }
            space.observe(&results);
        }
    }
}

/// Who was stopped at which rung. A cell that has left nothing at a rung which others got beyond had failed there.
pub fn look_back(
    halving: &Halving,
    planner: &Planner<'_>,
    session: &Session,
    outcomes: &IndexMap<String, Outcome>,
) -> Promotions {
    let (store, remote) = (session.store(), session.remote().map(|remote| &**remote));
    let mut known = Measurements::default();
    for task in planner.cells().iter().filter_map(|planned| halving.task(planned)) {
        let found = outcomes.get(task).and_then(|outcome| measured(outcome, store, remote));
        known.measured.extend(found.map(|measured| (task.to_owned(), measured)));
    }
    loop {
        let promotions = halving.decide(planner.cells(), planner.tasks(), &known);
        let Some(open) = &promotions.open else { return promotions };
        let next = halving.rungs.get(open.number + 1);
        let is_past = |measured: &Measured| next.map_or(measured.ended, |next| measured.until(*next).is_some());
        if !known.measured.values().any(is_past) {
            return promotions;
        }
        known.failed.extend(open.tasks.iter().cloned());
    }
}
