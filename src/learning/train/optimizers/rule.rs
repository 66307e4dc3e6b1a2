//! The interface between an optimizer and the training loop.

use std::fmt::Debug;

use anyhow::Result;
use burn::tensor::Tensor;

use crate::network::model::{AnyTensor, WeightRole};

/// An optimizer's update of one parameter in one step.
pub trait UpdateRule: Debug + Send + Sync + 'static {
    /// The state tensors of a parameter, such as AdamW's moments.
    fn slots(&self, role: WeightRole, shape: &[usize]) -> Vec<Slot>;

    /// The parameter after a step, and what is kept of it in the order of the [slots](Self::slots): `kept` is what it
    /// returned the last time, nothing before the parameter's first gradient. On the CPU values are best changed in place
    /// ([`AnyTensor::with_slice_mut`]).
    ///
    /// # Errors
    /// The device's.
    fn update(
        &self,
        context: &UpdateContext<'_>,
        value: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)>;
}

/// A state tensor of a parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    /// What it's called in states, before the parameter's name.
    pub name: &'static str,
    /// Its dimensions: one or two.
    pub shape: Vec<usize>,
}

/// The inputs of an update, beside value, gradient and state.
#[derive(Debug)]
pub struct UpdateContext<'a> {
    /// The parameter's name.
    pub name: &'a str,
    /// What the parameter is for.
    pub role: WeightRole,
    /// Whether the gradient has zeros in all rows that no token looked up.
    pub sparse_rows: bool,
    /// Whether value, gradient and state are only the rows of a table that were looked up: those that weren't have no step,
    /// and what applies to all of a parameter, such as weight decay, doesn't apply.
    pub only_rows: bool,
    /// The learning rate of this step.
    pub lr: f64,
    /// Steps of the training with this one: 1 at the first.
    pub step: u64,
    /// Those of them in which this parameter had a gradient.
    pub parameter_step: u64,
    /// What the gradient is still to be multiplied by.
    pub clip: &'a Clip,
}

/// What gradients are multiplied by before a step, so that their norm keeps within a limit.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there's one a step")]
pub enum Clip {
    /// Nothing, on other devices than the CPU.
    Off,
    /// A number, 1 where nothing is to change: on the CPU.
    Host(f32),
    /// A tensor `[1]`, so that nobody has to wait for the device.
    Device(Tensor<1>),
}

impl Clip {
    /// The gradient as the step is to see it.
    pub fn apply(&self, gradient: AnyTensor) -> AnyTensor {
        match self {
            Self::Off => gradient,
            Self::Host(factor) if *factor >= 1.0 => gradient,
            Self::Host(factor) => gradient * *factor,
            Self::Device(factor) => gradient.scaled(factor),
        }
    }
}

/// Bytes that an optimizer keeps of a parameter between steps.
pub fn state_bytes(rule: &dyn UpdateRule, role: WeightRole, shape: &[usize]) -> u64 {
    let floats = |slot: &Slot| slot.shape.iter().map(|&size| size as u64).product::<u64>();
    4 * rule.slots(role, shape).iter().map(floats).sum::<u64>()
}
