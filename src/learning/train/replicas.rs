//! Data parallelism in one process: replicas of the network and its optimizer on further devices.
//!
//! Each device computes the gradients of its share of a step, with weights of its own; all get the sum of the gradients;
//! and each takes the optimizer's step, which is the same everywhere. (PyTorch's DistributedDataParallel, Li et al. 2020,
//! <https://arxiv.org/abs/2006.15704>, does so with a process a device.) A step's loss is the mean over all of its
//! batches, however they're shared out, so that one device learns the same but for how sums are rounded.
//!
//! The first device's weights are the ones that are measured, stored and kept.

use anyhow::Result;
use burn::tensor::Device;

use super::{gradients::Gradients, optimizer::Optimizer};
use crate::network::model::Network;

/// The copy on a further device.
pub(super) struct Replica {
    pub(super) network: Network,
    optimizer: Optimizer,
}

impl Replica {
    /// A network and its optimizer as they stand now, on another device or once more on their own.
    ///
    /// # Errors
    /// The devices'.
    pub(super) fn of(network: &Network, optimizer: &Optimizer, device: &Device) -> Result<Self> {
        Ok(Self { network: network.on(device)?, optimizer: optimizer.on(device)? })
    }

    /// The step that the first device takes.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn step(&mut self, gradients: Gradients, lr: f64) -> Result<()> {
        self.optimizer.step(self.network.parameters_mut(), gradients, lr).map(|_| ())
    }
}
