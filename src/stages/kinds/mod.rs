//! The kinds of stages that come with the program, a file each.

mod eval;
mod export;
mod finetune;
mod import;
mod linear;
mod pretrain;
mod tokenize;

use super::kind::{AnyKind, Of};
use crate::{
    spec::{Eval, Export, Finetune, Import, Linear, Pretrain, Tokenize},
    support::Registry,
};

/// All kinds of stages, in the order in which messages and the schema list them.
pub static KINDS: Registry<dyn AnyKind> = Registry::new(&[
    &Of::<Tokenize>::new(),
    &Of::<Pretrain>::new(),
    &Of::<Finetune>::new(),
    &Of::<Linear>::new(),
    &Of::<Eval>::new(),
    &Of::<Import>::new(),
    &Of::<Export>::new(),
]);
