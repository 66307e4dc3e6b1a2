//! The reference implementations' fixtures, in `../shared/parity` or where `PIPE_PARITY` says; without them the tests
//! say so and pass.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod decoder;

use std::{
    env,
    path::{Path, PathBuf},
};

use bytemuck::Pod;
use safetensors::SafeTensors;

pub fn fixture(name: &str) -> Option<PathBuf> {
    let root = match env::var_os("PIPE_PARITY") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity"),
    };
    let directory = root.join(name);
    if !directory.is_dir() {
        eprintln!("skipped: no fixtures at {}", directory.display());
        return None;
    }
    Some(directory)
}

/// A file of tensors.
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    /// The reference's inputs and outputs.
    pub fn expected(directory: &Path) -> Self {
        Self::read(&directory.join("expected.safetensors"))
    }

    pub fn weights(directory: &Path) -> Self {
        Self::read(&directory.join("model.safetensors"))
    }

    pub fn all(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.all().tensor(name).unwrap().shape().to_vec()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.values(name)
    }

    pub fn signed(&self, name: &str) -> Vec<i64> {
        self.values(name)
    }

    pub fn integers(&self, name: &str) -> Vec<u32> {
        self.signed(name).into_iter().map(|value| value as u32).collect()
    }

    fn values<T: Pod>(&self, name: &str) -> Vec<T> {
        bytemuck::pod_collect_to_vec(self.all().tensor(name).unwrap().data())
    }
}

/// The largest difference.
pub fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
