//! When a training saves its state.

use std::time::Duration;

use crate::{
    engine::{plan::Length, store::State},
    support::program,
};

/// Default time between two states.
const INTERVAL: Duration = Duration::from_secs(180);
/// The same in a job of a cluster, which may lose its machine at any time.
const IN_A_JOB: Duration = Duration::from_secs(50);

/// Where and how often to save a state that training can resume from.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// How often.
    pub every: Cadence,
    /// Of this training: the latest, until it ends.
    pub state: State,
    /// Where to save the final one, for longer trainings to resume from, and this training's length. An existing one of
    /// more steps stays.
    pub last: Option<(State, Length)>,
}

/// How often states are saved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cadence {
    /// After so many steps.
    Steps(usize),
    /// After so much time; less often where storing takes long.
    Time(Duration),
}

impl Cadence {
    /// Of a recipe's `checkpoint_every`, in steps, or by time.
    pub fn new(steps: Option<usize>) -> Self {
        let interval = if program::is_job() { IN_A_JOB } else { INTERVAL };
        steps.map_or(Self::Time(interval), Self::Steps)
    }
}
