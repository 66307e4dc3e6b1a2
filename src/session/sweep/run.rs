//! Runs a sweep: all cells at once, batch by batch as a search draws them, or rung by rung.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{
    Cell, Cost, Halving, Measurements, Mistakes, Planner, Promotions, Results, Rungs, Selection, Space, look_back,
    measured,
};
use crate::{
    engine::{
        executor::{Ending, Event, Launch, Outcome, Reporter, outcomes},
        plan::Plan,
    },
    network::device::DeviceChoices,
    session::{Recipe, Session, recipe::columns},
    spec::Rung,
    stages::Stages,
};

/// What became of tasks.
pub type Outcomes = IndexMap<String, Outcome>;

/// Follows a sweep.
pub trait SweepObserver: Reporter {
    /// So many distinct stages are planned by now.
    fn planned(&self, _tasks: usize) {}

    /// A search drew cells that can't run; it continues without them.
    fn refused(&self, _mistakes: &Mistakes, _cells: &[Cell]) {}

    /// A rung was decided.
    fn decided(&self, _rung: RungDecision) {}
}

/// How a rung was decided.
#[derive(Clone, Copy, Debug)]
pub struct RungDecision {
    /// The rung's number, from 1.
    pub number: usize,
    /// How many rungs there are.
    pub of: usize,
    /// Where it is.
    pub rung: Rung,
    /// How many settings were compared.
    pub compared: usize,
    /// How many of them are promoted.
    pub promoted: usize,
}

/// A recipe's sweep, planned and ready to run.
pub struct Sweep<'a> {
    session: &'a Session,
    recipe: &'a Recipe,
    devices: DeviceChoices,
    selection: Selection,
    space: Space,
    planner: Planner<'a>,
    halving: Option<Halving>,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// What became of all distinct stages.
    pub outcomes: Outcomes,
    /// The cells, ranked.
    pub results: Results,
    /// Who was stopped at which rung, where it went by rungs.
    pub promotions: Option<Promotions>,
    /// How many cells that a search drew couldn't run.
    pub left_out: usize,
}

impl<'a> Sweep<'a> {
    /// The selected cells of a recipe's sweep; `None` if it has none.
    ///
    /// # Errors
    /// Conditions that can't be worked out.
    pub fn new(
        session: &'a Session,
        recipe: &'a Recipe,
        devices: DeviceChoices,
        selection: Selection,
    ) -> Result<Option<Self>> {
        let Some(space) = Space::new(&recipe.checked)? else { return Ok(None) };
        let checks = session.checks(&devices);
        let planner = Planner::new(&recipe.document, &recipe.overrides, &columns).checking(checks, session);
        let halving = Halving::new(&recipe.checked);
        Ok(Some(Self { session, recipe, devices, selection, space, planner, halving }))
    }

    /// Plans the next cells; gives them, and what is wrong with those that can't run. There are none at the end.
    ///
    /// # Errors
    /// If no cell is selected, or an input, the store or a record can't be read.
    pub fn plan_next(&mut self) -> Result<(Vec<Cell>, Mistakes)> {
        let cells = self.space.next(&self.recipe.checked)?;
        let cells = self.selection.of(cells, self.planner.cells().len())?;
        let mistakes = self.planner.add(&cells)?;
        Ok((cells, mistakes))
    }

    /// The planned cells and their stages.
    pub fn planner(&self) -> &Planner<'a> {
        &self.planner
    }

    /// The section itself.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The rules by which cells are stopped early, if they are.
    pub fn halving(&self) -> Option<&Halving> {
        self.halving.as_ref()
    }

    /// The rungs that cells will come to, where they're stopped early.
    ///
    /// # Errors
    /// If data can't be read, or a cell isn't measured often enough to distinguish the rungs.
    pub fn rungs(&self) -> Result<Option<Rungs>> {
        let Some(halving) = &self.halving else { return Ok(None) };
        Rungs::new(halving, &self.planner, &self.recipe.checked)
    }

    /// What there is to compute, without cells of which it's known that they were stopped.
    ///
    /// # Errors
    /// If an input, the store or a record can't be read.
    pub fn cost(&self) -> Result<Cost> {
        let mut graph = self.planner.graph_of_all().clone();
        if let Some(halving) = &self.halving {
            let promotions = look_back(halving, &self.planner, self.session, &self.stored()?);
            let promoted = promotions.promoted_tasks(self.planner.cells());
            if promoted.is_empty() {
                return Ok(Cost::default());
            }
            graph.select(promoted)?;
        }
        Cost::of(&self.session.everywhere().plan(&graph)?, self.session.store())
    }

    /// Runs it to its end, or until the session is stopped.
    ///
    /// # Errors
    /// If a stage can't be looked up, or what is next can't be planned. What becomes of stages is in their outcomes.
    pub fn run(&mut self, observer: &dyn SweepObserver) -> Result<Swept> {
        let stages = Stages::new(self.devices.clone());
        let launch = self.session.launch(&stages);
        let once = Once { observer, reported: Mutex::default() };
        match self.halving.clone() {
            Some(halving) => self.climb(&halving, (&stages, &*launch), &once),
            None => self.search((&stages, &*launch), &once),
        }
    }

    /// Asks for cells, runs them, reports their results to the search, and so on.
    fn search(&mut self, launch: (&Stages, &dyn Launch), once: &Once<'_>) -> Result<Swept> {
        let mut swept = Swept::default();
        loop {
            let graph = self.planner.graph_of_all();
            let new: Vec<&str> =
                graph.by_id().keys().map(String::as_str).filter(|id| !swept.outcomes.contains_key(*id)).collect();
            if !new.is_empty() {
                self.execute(&new, BTreeMap::new(), launch, once, &mut swept.outcomes)?;
            }
            swept.results = Results::new(self.planner.cells(), &swept.outcomes, self.space.sweep(), None);
            if self.session.is_stopped() {
                return Ok(swept);
            }
            self.space.observe(&swept.results);
            let (cells, mistakes) = self.plan_next()?;
            if cells.is_empty() {
                return Ok(swept);
            }
            // Only a search has more cells after the first; what it draws amiss mustn't end it.
            if !mistakes.is_empty() {
                once.observer.refused(&mistakes, &cells);
                swept.left_out += mistakes.cells();
            }
        }
    }

    /// Runs the halved stage of all cells up to the first rung, of the better ones up to the next, and at last all stages
    /// of the cells that are left. What was measured at rungs in an earlier call isn't measured again.
    fn climb(&self, halving: &Halving, launch: (&Stages, &dyn Launch), once: &Once<'_>) -> Result<Swept> {
        let (cells, tasks) = (self.planner.cells(), self.planner.tasks());
        let mut outcomes = Outcomes::new();
        let mut known = Measurements::default();
        let stored = self.stored()?;
        self.learn(halving, &stored, &mut known);
        let mut reported = 0;
        loop {
            let promotions = halving.decide(cells, tasks, &known);
            report_decided(halving, &promotions, &mut reported, once.observer);
            let Some(open) = &promotions.open else { break };
            let until = open.tasks.iter().map(|task| (task.clone(), open.rung.part)).collect();
            let wanted: Vec<&str> = open.tasks.iter().map(String::as_str).collect();
            self.execute(&wanted, until, launch, once, &mut outcomes)?;
            self.learn(halving, &outcomes, &mut known);
            if self.session.is_stopped() {
                break;
            }
            // What ran and has nothing to show for it must not be waited for again.
            let has_come = |task: &String| known.measured.get(task).is_some_and(|one| one.until(open.rung).is_some());
            known.failed.extend(open.tasks.iter().filter(|task| !has_come(task)).cloned());
        }
        let mut promotions = halving.decide(cells, tasks, &known);
        if promotions.open.is_none() && !self.session.is_stopped() {
            let is_well = |planned: &&_| halving.task(planned).is_none_or(|task| !known.failed.contains(task));
            let promoted: Vec<&str> = promotions.promoted_tasks(cells.iter().filter(is_well)).into_iter().collect();
            if !promoted.is_empty() {
                self.execute(&promoted, BTreeMap::new(), launch, once, &mut outcomes)?;
            }
            self.learn(halving, &outcomes, &mut known);
            promotions = halving.decide(cells, tasks, &known);
        }
        // A cell that was stopped may yet be stored as a whole, since it was run without halving before.
        for (id, outcome) in stored.into_iter().filter(|(_, outcome)| outcome.is_good()) {
            outcomes.entry(id).or_insert(outcome);
        }
        promotions.mark(cells, tasks, &mut outcomes);
        for (id, node) in tasks {
            let left = || Outcome::without_artifact(&node.kind, Ending::NotRun, "not scheduled".to_owned());
            outcomes.entry(id.clone()).or_insert_with(left);
        }
        let results = Results::new(cells, &outcomes, self.space.sweep(), Some((halving, &promotions)));
        Ok(Swept { outcomes, results, promotions: Some(promotions), left_out: 0 })
    }

    /// What the store and the remote have of all tasks.
    fn stored(&self) -> Result<Outcomes> {
        Ok(outcomes(&self.session.everywhere().plan(self.planner.graph_of_all())?))
    }

    /// Takes note of what halved trainings have measured.
    fn learn(&self, halving: &Halving, outcomes: &Outcomes, known: &mut Measurements) {
        let (store, remote) = (self.session.store(), self.session.remote().map(|remote| &**remote));
        for task in self.planner.cells().iter().filter_map(|planned| halving.task(planned)) {
            // Nothing comes after the end, and the curve may have to be fetched.
            if known.measured.get(task).is_some_and(|measured| measured.ended) {
                continue;
            }
            let found = outcomes.get(task).and_then(|outcome| measured(outcome, store, remote));
            known.measured.extend(found.map(|measured| (task.to_owned(), measured)));
        }
    }

    /// Runs these tasks and those that they need; a task that was paused before ends anew.
    fn execute(
        &self,
        wanted: &[&str],
        until: BTreeMap<String, usize>,
        (stages, launch): (&Stages, &dyn Launch),
        once: &Once<'_>,
        outcomes: &mut Outcomes,
    ) -> Result<()> {
        let mut graph = self.planner.graph_of_all().clone();
        once.observer.planned(graph.by_id().len());
        graph.select(wanted.iter().copied())?;
        let resolver = self.session.everywhere();
        let plan: Plan = resolver.plan(&graph)?;
        let options = self.session.run_options(self.recipe, until);
        for (id, outcome) in self.session.carry_out(self.recipe, plan, stages, launch, once, &options)? {
            // What ran is found again in the next rung, and still has run.
            if !outcomes.get(&id).is_some_and(Outcome::is_good) {
                outcomes.insert(id, outcome);
            }
        }
        Ok(())
    }
}

/// Reports once how each rung was decided.
fn report_decided(halving: &Halving, promotions: &Promotions, reported: &mut usize, observer: &dyn SweepObserver) {
    for (index, (compared, promoted)) in promotions.decided.iter().copied().enumerate().skip(*reported) {
        let (number, of, rung) = (index + 1, halving.rungs.len(), halving.rungs[index]);
        observer.decided(RungDecision { number, of, rung, compared, promoted });
        *reported = number;
    }
}

/// Reports only once that a stage is stored.
struct Once<'a> {
    observer: &'a dyn SweepObserver,
    reported: Mutex<HashSet<String>>,
}

impl Reporter for Once<'_> {
    fn event(&self, stage: &str, event: Event<'_>) {
        let ends = matches!(event, Event::Hit { .. } | Event::InRemote { .. } | Event::Finished { .. });
        let is_new = !ends || self.reported.lock().insert(stage.to_owned());
        if is_new {
            self.observer.event(stage, event);
        }
    }
}
