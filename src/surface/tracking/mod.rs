//! Trackers: programs that people watch trainings with. They're fed by the executor's events, and never hold up or fail a
//! run: what they can't take is told once.
//!
//! Nothing here belongs to an artifact: what is written has times in it.

mod events;
mod mlflow;
mod tensorboard;

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    engine::{
        executor::{Event, Figures, Outcome, Reporter},
        remote::{self, Remote},
        store::{Artifact, Provenance},
    },
    learning::train::Curve,
    session::sweep::Results,
    stages::figures,
    support::explained,
};
use mlflow::MlFlow;
use tensorboard::TensorBoard;

/// Says what a person should read.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What is tracked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// What is recorded with all artifacts of the run.
    pub provenance: Provenance,
    /// Settings of the whole, by dotted path, without secrets.
    pub settings: Vec<(String, Value)>,
}

impl Subject {
    /// The recipe's name.
    fn name(&self) -> String {
        self.recipe.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Where event files go.
#[derive(Clone, Debug)]
pub enum Board {
    /// There are none.
    Nowhere,
    /// Where they lie unless somebody says otherwise.
    InStore(PathBuf),
    /// Where somebody wants them.
    In(PathBuf),
}

/// How it ended.
pub struct Closing<'a> {
    /// The stages.
    pub outcomes: &'a IndexMap<String, Outcome>,
    /// A sweep's cells.
    pub results: Option<&'a Results>,
    /// The dotted path of the figure that a sweep is about.
    pub aim: Option<&'a str>,
    /// Makes the recipe's report, where it's wanted.
    pub report: &'a dyn Fn() -> Result<String>,
}

/// The trackers of one run of a recipe.
pub struct Tracking {
    board: Option<TensorBoard>,
    mlflow: Option<MlFlow>,
    curves: Curves,
}

impl Tracking {
    /// Event files for TensorBoard, and the MLflow server that the environment names, if it does. `remote` has the curves
    /// of stages that aren't in the store.
    pub fn start(subject: &Subject, board: Board, remote: Option<Arc<Remote>>, tell: Tell) -> Self {
        let curves = Curves { remote };
        let board = match board {
            Board::Nowhere => None,
            Board::InStore(dir) => Some((dir, false)),
            Board::In(dir) => Some((dir, true)),
        };
        let board =
            board.map(|(dir, is_wanted)| TensorBoard::new(dir.join(subject.name()), is_wanted, Arc::clone(&tell)));
        let mlflow = MlFlow::start(subject, curves.clone(), Arc::clone(&tell)).unwrap_or_else(|error| {
            tell(&format!("warning: MLflow isn't told of this run: {}", explained(&error)));
            None
        });
        Self { board, mlflow, curves }
    }

    /// Waits until all trackers know everything.
    pub fn finish(self, closing: &Closing<'_>) {
        if let Some(mlflow) = self.mlflow {
            mlflow.finish(closing);
        }
    }
}

impl Reporter for Tracking {
    fn event(&self, stage: &str, event: Event<'_>) {
        if let Some(board) = &self.board {
            board.event(stage, event, &self.curves);
        }
        if let Some(mlflow) = &self.mlflow {
            mlflow.event(stage, event);
        }
    }
}

/// Where the curves of finished trainings are.
#[derive(Clone)]
struct Curves {
    remote: Option<Arc<Remote>>,
}

impl Curves {
    /// All that a training has told on its way; nothing for a stage of another kind, or if its file can't be had.
    fn of(&self, artifact: &Artifact) -> Vec<Figures> {
        let text = remote::small_file(artifact, Curve::FILE, self.remote.as_deref()).unwrap_or_default();
        let made = &artifact.provenance;
        figures(&Curve::parse(&String::from_utf8_lossy(&text)), &made.pace, made.started)
    }
}
