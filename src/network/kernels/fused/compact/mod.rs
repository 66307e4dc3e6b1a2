//! Compact matrices on the CPU: rows in f32 again, and products with them.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod expand;
mod few;
mod held;
mod inputs;
#[cfg(target_arch = "x86_64")]
mod many;
mod plain;
mod product;

pub(super) use expand::look_up;
pub(super) use product::{multiply, multiply_back};
