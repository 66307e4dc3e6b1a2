//! When a training keeps its state.

use std::time::Duration;

use crate::engine::{plan::Length, store::State};

/// Between two states, where the recipe doesn't say.
const INTERVAL: Duration = Duration::from_secs(180);

/// Where and how often to keep a state that training can go on from.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// How often.
    pub every: Cadence,
    /// Of this training: the latest, until it ends.
    pub state: State,
    /// Where to leave the last one, for longer trainings than this one's length to go on from. One of more steps that is
    /// there already stays.
    pub last: Option<(State, Length)>,
}

/// How often states are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cadence {
    /// After so many steps.
    Steps(usize),
    /// After so much time; less often where storing takes long.
    Time(Duration),
}

impl Cadence {
    /// As a recipe has it, which may give steps.
    pub fn new(steps: Option<usize>) -> Self {
        steps.map_or(Self::Time(INTERVAL), Self::Steps)
    }
}
