//! The commands and their arguments. Their texts are those of `--help` and of `docs/reference/commands.md`.

mod cluster;
mod command;
mod model;
mod recipe;
mod results;
mod run;
mod store;
mod tools;

pub(super) use cluster::{Attach, Cancel, Doctor, Logs, Place, Schema, SchemaOf, Stage, Status};
pub(super) use command::{Arguments, Command};
pub(super) use model::{Chat, Export, Generate, GenerationOptions, ModelSource, Predict};
pub(super) use recipe::{Changes, DeviceOptions, Recipe};
pub(super) use results::{Compare, Report};
pub(super) use run::{Check, Ci, Data, Number, OnOptions, Plan, PlanFormat, Run, RunOptions, Sweep, Why};
pub(super) use store::{Gc, Log, Ls, Pin, Rm, Show, Transfer, Unpin, Verify};
pub(super) use tools::{Bench, Completions, Devices, Init, Reference};
