//! Checks every cell before anything runs, and merges the stages that cells share.

use std::{cell::RefCell, collections::BTreeMap};

use anyhow::Result;
use indexmap::IndexMap;

use super::Cell;
use crate::{
    engine::plan::{Graph, Node, Resolver, SweepPlan},
    recipe::{Columns, DataFiles, Document, Overrides},
    session::{Check, Checks, Session, Upcoming, graph_of_cell, supplements::supplemented},
    spec::Source,
    stages::{TakenOver, check_secrets},
};

/// Cells with their stages.
pub struct Planner<'a> {
    document: &'a Document,
    overrides: &'a Overrides,
    columns: &'a Columns<'a>,
    /// The columns that were asked for.
    known_columns: RefCell<BTreeMap<String, Option<Vec<String>>>>,
    /// What is looked at of each cell, as far as that isn't stored.
    checks: Option<Checking<'a>>,
    taken_over: TakenOver,
    plan: SweepPlan,
    cells: Vec<PlannedCell>,
}

struct Checking<'a> {
    checks: Checks,
    session: &'a Session,
}

/// A cell that can run.
#[derive(Clone, Debug)]
pub struct PlannedCell {
    /// The cell.
    pub cell: Cell,
    /// For each of the recipe's stages the id of the task that computes it.
    pub tasks: IndexMap<String, String>,
}

/// What keeps cells from running: each mistake once, with the numbers of the cells that have it.
#[derive(Debug, Default)]
pub struct Mistakes(pub Vec<(anyhow::Error, Vec<usize>)>);

impl Mistakes {
    /// How many cells can't run.
    pub fn cells(&self) -> usize {
        self.0.iter().map(|(_, cells)| cells.len()).sum()
    }

    /// Whether all cells can run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, error: anyhow::Error, cell: usize) {
        let text = format!("{error:#}");
        match self.0.iter_mut().find(|(known, _)| format!("{known:#}") == text) {
            Some((_, cells)) => cells.push(cell),
            None => self.0.push((error, vec![cell])),
        }
    }
}

impl<'a> Planner<'a> {
    /// Plans cells of a recipe with the command line's changes; `columns` gives the columns of a data file.
    pub fn new(document: &'a Document, overrides: &'a Overrides, columns: &'a Columns<'a>) -> Self {
        let (known_columns, taken_over, plan) = (RefCell::default(), TakenOver::default(), SweepPlan::default());
        Self { document, overrides, columns, known_columns, checks: None, taken_over, plan, cells: Vec::new() }
    }

    /// Looks at what is neither in the session's store nor in its remote.
    pub fn checking(mut self, checks: Checks, session: &'a Session) -> Self {
        self.checks = Some(Checking { checks, session });
        self
    }

    /// Adds those of the cells to the plan that can run, and gives what is wrong with the others.
    ///
    /// # Errors
    /// If an input, the store or a record can't be read.
    pub fn add(&mut self, cells: &[Cell]) -> Result<Mistakes> {
        let mut mistakes = Mistakes::default();
        let resolver = self.checks.as_ref().map(|checking| checking.session.everywhere().remembering());
        for cell in cells {
            match self.graph(cell, resolver.as_ref())? {
                Ok(graph) => {
                    let tasks = self.plan.add(cell.number, &graph);
                    self.cells.push(PlannedCell { cell: cell.clone(), tasks });
                }
                Err(error) => mistakes.add(error, cell.number),
            }
        }
        Ok(mistakes)
    }

    /// The cells that can run.
    pub fn cells(&self) -> &[PlannedCell] {
        &self.cells
    }

    /// The distinct stages.
    pub fn graph_of_all(&self) -> &Graph {
        &self.plan.tasks
    }

    /// The distinct stages by id, each after those it needs.
    pub fn tasks(&self) -> &IndexMap<String, Node> {
        self.plan.tasks.by_id()
    }

    /// A cell's stages, or why it can't run.
    fn graph(&mut self, cell: &Cell, resolver: Option<&Resolver<'_>>) -> Result<Result<Graph>> {
        let columns = |source: &Source, data: &DataFiles| {
            let Ok(asked) = serde_json::to_string(&(source, &data.files, &data.wanted)) else {
                return (self.columns)(source, data);
            };
            let mut known = self.known_columns.borrow_mut();
            known.entry(asked).or_insert_with(|| (self.columns)(source, data)).clone()
        };
        let checked = match self.document.check_cell(self.overrides, &cell.settings, &columns) {
            Ok(checked) => checked,
            Err(mistakes) => return Ok(Err(mistakes.into())),
        };
        if let Err(secrets) = check_secrets(&checked) {
            return Ok(Err(secrets));
        }
        let checked = match supplemented(checked) {
            Ok(checked) => checked,
            Err(mistake) => return Ok(Err(mistake)),
        };
        let graph = match graph_of_cell(&checked, &mut self.taken_over) {
            Ok(graph) => graph,
            Err(vanished) => return Ok(Err(vanished)),
        };
        if let (Some(Checking { checks, .. }), Some(resolver)) = (&mut self.checks, resolver) {
            let plan = resolver.plan(&graph)?;
            if let Err(mistakes) = checks.check(Upcoming { checked: &checked, graph: &graph, plan: &plan }) {
                return Ok(Err(mistakes));
            }
        }
        Ok(Ok(graph))
    }
}
