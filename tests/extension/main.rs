//! What other programs add to the registries works like what is built in, without an edit in `src/`.

#[path = "../common/mod.rs"]
mod common;

mod families;
mod kinds;
mod objectives;
mod optimizers;
mod splitting;
mod toys;
mod whole;
