//! Trackers: programs that people watch trainings with. They're fed by the executor's events, and never hold up or fail a
//! run: what they can't take is reported once.
//!
//! Nothing here belongs to an artifact: what is written has times in it.

mod events;
mod mlflow;
mod subject;
mod tensorboard;

use std::sync::Arc;

use crate::{
    engine::{
        executor::{Event, Reporter},
        remote::Remote,
    },
    support::explained,
};
use mlflow::MlFlow;
use subject::Curves;
use tensorboard::TensorBoard;

pub use subject::{EventFiles, Notify, RunEnd, Subject};

/// The trackers of one run of a recipe.
pub struct Tracking {
    board: Option<TensorBoard>,
    mlflow: Option<MlFlow>,
    curves: Curves,
}

impl Tracking {
    /// Event files for TensorBoard, and the MLflow server that the environment names, if it does. `remote` has the curves
    /// of stages that aren't in the store.
    pub fn start(subject: &Subject, board: EventFiles, remote: Option<Arc<Remote>>, notify: Notify) -> Self {
        let curves = Curves { remote };
        let board = match board {
            EventFiles::Nowhere => None,
            EventFiles::InStore(dir) => Some((dir, false)),
            EventFiles::In(dir) => Some((dir, true)),
        };
        let board =
            board.map(|(dir, is_wanted)| TensorBoard::new(dir.join(subject.name()), is_wanted, Arc::clone(&notify)));
        let mlflow = MlFlow::start(subject, curves.clone(), Arc::clone(&notify)).unwrap_or_else(|error| {
            notify(&format!("warning: this run is not logged to MLflow: {}", explained(&error)));
            None
        });
        Self { board, mlflow, curves }
    }

    /// Waits until all trackers know everything.
    pub fn finish(self, end: &RunEnd<'_>) {
        if let Some(mlflow) = self.mlflow {
            mlflow.finish(end);
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
