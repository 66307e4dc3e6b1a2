//! Replicas of what is trained, on further devices: data parallelism in one process.
//!
//! Each device computes the gradients of its share of a step, with weights of its own; all get the sum of the gradients;
//! and each does the optimiser's step, which is the same everywhere. (PyTorch's DistributedDataParallel, Li et al. 2020,
//! <https://arxiv.org/abs/2006.15704>, does so with a process a device.) A step's loss is the mean over all of its
//! batches, however they're shared out, so that one device learns the same but for how sums are rounded.
//!
//! The first device's weights are the ones that are measured, stored and kept.

use anyhow::Result;
use burn::tensor::Device;

use super::{observer::Observer, optimizer::AdamW, reduction::Reduction, trainer::Trainer};
use crate::network::model::Network;

/// What a further device has.
pub(super) struct Replica {
    pub(super) network: Network,
    pub(super) optimizer: AdamW,
}

impl Trainer {
    /// Shares each step with these devices too, beside the network's own. One that is named again takes another share.
    pub fn share_with(&mut self, devices: Vec<Device>) {
        self.shared_with = devices;
    }

    /// Where training takes place, the network's own device first.
    pub fn devices(&self) -> Vec<Device> {
        [self.network.parameters().device()].into_iter().chain(&self.shared_with).cloned().collect()
    }

    /// Makes the replicas, as the network and its optimiser stand now.
    ///
    /// # Errors
    /// The devices'.
    pub(super) fn replicate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.shared_with.is_empty() {
            return Ok(());
        }
        let replica =
            |device: &Device| Ok(Replica { network: self.network.on(device)?, optimizer: self.optimizer.on(device)? });
        self.replicas = self.shared_with.iter().map(replica).collect::<Result<_>>()?;
        self.passes.reduction = Some(Reduction::new(self.devices(), &mut |text| observer.noted(text)));
        Ok(())
    }
}
