//! The optimizers that recipes can name. Each is a file here, with a line among [`OPTIMIZERS`].
//!
//! An optimizer is an [`UpdateRule`]: what becomes of one parameter in one step. Going through the parameters, missing
//! gradients, clipping, states on disk, replicas and counts of steps aren't its business.

mod adamw;
mod muon;
mod sgd;

use std::{fmt::Debug, sync::Arc};

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use adamw::{AdamW, AdamWSettings};

use crate::{
    network::model::{AnyTensor, Role},
    spec,
    support::{Named, Registry},
};

/// What `train.optimizer` may name.
pub static OPTIMIZERS: Registry<OptimizerDef> = Registry::new(&[&adamw::ADAMW, &sgd::SGD, &muon::MUON]);

/// What an optimizer does with one parameter.
pub trait UpdateRule: Debug + Send + Sync + 'static {
    /// The tensors that it keeps of a parameter from one step to the next.
    fn slots(&self, role: Role, shape: &[usize]) -> Vec<Slot>;

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

/// A tensor that an optimizer keeps of a parameter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    /// What it's called in states, before the parameter's name.
    pub name: &'static str,
    /// Its dimensions: one or two.
    pub shape: Vec<usize>,
}

/// What an update may depend on, beside values and gradients.
#[derive(Debug)]
pub struct UpdateContext<'a> {
    /// The parameter's name.
    pub name: &'a str,
    /// What the parameter is for.
    pub role: Role,
    /// Whether the gradient has zeros in all rows that no token looked up.
    pub sparse_rows: bool,
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

/// An optimizer's entry: its name in recipes, its settings, and how it's made of them.
#[derive(Debug)]
pub struct OptimizerDef {
    name: &'static str,
    about: &'static str,
    version: u32,
    schema: fn(&mut SchemaGenerator) -> Schema,
    complete: fn(&Value) -> Result<Value>,
    rule: fn(&Value) -> Result<Arc<dyn UpdateRule>>,
}

impl OptimizerDef {
    /// An optimizer of this name: the rule `R` out of settings `S`, whose fields say in their doc comments what they are.
    /// `about` is what the schema says of it. Raise the `version` whenever the same settings would give other weights.
    pub const fn new<S, R>(name: &'static str, about: &'static str, version: u32) -> Self
    where
        S: DeserializeOwned + JsonSchema + Serialize,
        R: UpdateRule + TryFrom<S, Error: Into<anyhow::Error>>,
    {
        Self {
            name,
            about,
            version,
            schema: SchemaGenerator::subschema_for::<S>,
            complete: complete::<S>,
            rule: rule::<S, R>,
        }
    }

    /// What it is, in half a sentence.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The version of its code.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The JSON Schema of its settings.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// The settings with all defaults filled in.
    ///
    /// # Errors
    /// Settings that aren't its own.
    pub fn complete(&self, settings: &Value) -> Result<Value> {
        (self.complete)(settings)
    }

    /// The optimizer with these settings.
    ///
    /// # Errors
    /// Settings that aren't its own, or don't go together.
    pub fn rule(&self, settings: &Value) -> Result<Arc<dyn UpdateRule>> {
        (self.rule)(settings)
    }
}

impl Named for OptimizerDef {
    fn name(&self) -> &'static str {
        self.name
    }
}

fn complete<S: DeserializeOwned + Serialize>(settings: &Value) -> Result<Value> {
    Ok(serde_json::to_value(S::deserialize(settings)?)?)
}

fn rule<S, R>(settings: &Value) -> Result<Arc<dyn UpdateRule>>
where
    S: DeserializeOwned,
    R: UpdateRule + TryFrom<S, Error: Into<anyhow::Error>>,
{
    Ok(Arc::new(R::try_from(S::deserialize(settings)?).map_err(Into::into)?))
}

/// The optimizer of a `train` section: the one that it names, or AdamW with the settings beside it.
///
/// # Errors
/// An optimizer that isn't known, and settings that it can't have.
pub fn of(train: &spec::Train) -> Result<Arc<dyn UpdateRule>> {
    let def = def_of(train)?;
    match &train.optimizer {
        Some(optimizer) => def.rule(&optimizer.settings),
        None => def.rule(&json!({
            "beta1": train.beta1,
            "beta2": train.beta2,
            "epsilon": train.epsilon,
            "weight_decay": train.weight_decay,
        })),
    }
}

/// The version of the code of a `train` section's optimizer.
///
/// # Errors
/// An optimizer that isn't known.
pub fn version(train: &spec::Train) -> Result<u32> {
    Ok(def_of(train)?.version())
}

fn def_of(train: &spec::Train) -> Result<&'static OptimizerDef> {
    let Some(optimizer) = &train.optimizer else { return Ok(&adamw::ADAMW) };
    OPTIMIZERS.named(&optimizer.name).with_context(|| format!("there is no optimizer `{}`", optimizer.name))
}

/// Bytes that an optimizer keeps of a parameter between steps.
pub fn state_bytes(rule: &dyn UpdateRule, role: Role, shape: &[usize]) -> u64 {
    let floats = |slot: &Slot| slot.shape.iter().map(|&size| size as u64).product::<u64>();
    4 * rule.slots(role, shape).iter().map(floats).sum::<u64>()
}
