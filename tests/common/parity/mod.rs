//! The reference implementations' fixtures, in `../shared/parity` or where `PIPE_PARITY` says. Nothing is known of them but
//! what stands in them, so that tests hold for others of other sizes, too.

pub mod decoder;

use std::{
    env,
    path::{Path, PathBuf},
};

use bytemuck::Pod;
use safetensors::SafeTensors;

use super::{
    needs::{Need, Needed},
    shared,
};

/// The folder of a family's or a task's fixtures.
pub fn fixture(name: &str) -> Needed<PathBuf> {
    let root = env::var_os("PIPE_PARITY").map_or_else(|| shared().join("parity"), PathBuf::from);
    let directory = root.join(name);
    if directory.is_dir() { Ok(directory) } else { Err(Need::Parity.unmet(format!("there are no fixtures of {name}"))) }
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
