//! Checks every cell before anything runs, and merges the stages that cells share.

use std::path::Path;

use anyhow::Result;
use indexmap::IndexMap;

use super::Cell;
use crate::{
    engine::plan::{Graph, Node, SweepPlan},
    network::device::DeviceChoices,
    recipe::{Document, Overrides},
    spec::Source,
    stages::{DataCheck, DeviceCheck, check_secrets, estimate},
};

/// Cells with their stages.
pub struct Planner<'a> {
    document: &'a Document,
    overrides: &'a Overrides,
    columns: &'a dyn Fn(&Source, &Path) -> Option<Vec<String>>,
    /// Whether a device can do what each cell asks of it, if there is one.
    capability: Option<DeviceCheck>,
    /// The devices whose memory each cell must fit in, if that matters.
    memory: Option<DeviceChoices>,
    data: DataCheck,
    plan: SweepPlan,
    cells: Vec<Planned>,
}

/// A cell that can run.
#[derive(Clone, Debug)]
pub struct Planned {
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

    fn add(&mut self, error: anyhow::Error, cell: usize) {
        let text = format!("{error:#}");
        match self.0.iter_mut().find(|(known, _)| format!("{known:#}") == text) {
            Some((_, cells)) => cells.push(cell),
            None => self.0.push((error, vec![cell])),
        }
    }
}

impl<'a> Planner<'a> {
    /// Plans cells of a recipe with the command line's changes; `columns` tells a data file's.
    pub fn new(
        document: &'a Document,
        overrides: &'a Overrides,
        columns: &'a dyn Fn(&Source, &Path) -> Option<Vec<String>>,
    ) -> Self {
        let (data, plan) = (DataCheck::default(), SweepPlan::default());
        Self { document, overrides, columns, capability: None, memory: None, data, plan, cells: Vec::new() }
    }

    /// Sees that each cell can run on these devices, and, with `fits`, that their memory will do.
    pub fn on_devices(mut self, choices: &DeviceChoices, fits: bool) -> Self {
        self.capability = Some(DeviceCheck::new(choices));
        self.memory = fits.then(|| choices.clone());
        self
    }

    /// Adds cells to the plan, or finds out why not.
    ///
    /// # Errors
    /// All mistakes in all cells; the others are planned.
    pub fn add(&mut self, cells: &[Cell]) -> Result<(), Mistakes> {
        let mut mistakes = Mistakes::default();
        for cell in cells {
            match self.graph(cell) {
                Ok(graph) => {
                    let tasks = self.plan.add(cell.number, &graph);
                    self.cells.push(Planned { cell: cell.clone(), tasks });
                }
                Err(error) => mistakes.add(error, cell.number),
            }
        }
        if mistakes.0.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// The cells that can run.
    pub fn cells(&self) -> &[Planned] {
        &self.cells
    }

    /// The distinct stages by id, each after those it needs.
    pub fn tasks(&self) -> &IndexMap<String, Node> {
        &self.plan.tasks
    }

    fn graph(&mut self, cell: &Cell) -> Result<Graph> {
        let checked = self.document.check_cell(self.overrides, &cell.settings, self.columns)?;
        check_secrets(&checked)?;
        let graph = Graph::new(&checked)?;
        self.data.check(&checked, graph.nodes())?;
        if let Some(capability) = &mut self.capability {
            capability.check(&checked, &graph, &[])?;
        }
        if let Some(devices) = &self.memory {
            estimate::check(&checked, &graph, &[], devices)?;
        }
        Ok(graph)
    }
}
