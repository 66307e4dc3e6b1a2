//! Asking for a key: who computes it is the one that holds it meanwhile.

use anyhow::Result;

use super::{
    Artifact, Found, Manifest, Slot, Store, format, short,
    workspace::{Workspace, restore},
};

/// What came of asking for a key.
pub enum Claim {
    /// It's there.
    Hit(Box<Artifact>),
    /// It isn't, and the caller is the one to compute it.
    Miss(Box<Slot>),
}

impl Store {
    /// Asks for the artifact of `manifest`. On a miss the caller holds the key until the slot is committed or dropped;
    /// others that claim the same key meanwhile wait, and `waiting` is called once before that. With `force` what is
    /// there is computed again, as is what's damaged.
    ///
    /// # Errors
    /// If what is there can't be read, or the store can't be written.
    pub fn claim(&self, manifest: Manifest, force: bool, waiting: &dyn Fn()) -> Result<Claim> {
        let key = manifest.key();
        if !force && let Found::Intact(artifact) = self.look(&key)? {
            return Ok(Claim::Hit(artifact));
        }
        let stored = || if force { Ok(Found::Nothing) } else { Found::of(self.find(&key)) };
        self.lease(manifest, key.clone(), force, &stored, waiting).map_err(|error| self.explain(error))
    }

    fn lease(
        &self,
        manifest: Manifest,
        key: String,
        force: bool,
        stored: &dyn Fn() -> Result<Found>,
        waiting: &dyn Fn(),
    ) -> Result<Claim> {
        format::create(&self.root)?;
        let inputs = manifest.inputs.values().cloned().collect();
        let lease = self.leases.take(&key, inputs, waiting)?;
        tracing::debug!(key = short(&key), "claimed");
        restore(&self.root.join("tmp"), &key, &self.artifact_dir(&key))?;
        let damage = match stored()? {
            Found::Intact(artifact) => {
                // The process that made it may have been killed just after that, with the lease in hand.
                let _ = self.tidy(&key, &lease);
                return Ok(Claim::Hit(artifact));
            }
            Found::Nothing => None,
            Found::Damaged(damage) => Some(damage),
        };
        let workspace = Workspace::take_over(&self.root.join("tmp"), &key, lease.token(), !force)?;
        Ok(Claim::Miss(Box::new(Slot::new(self.clone(), manifest, workspace, damage, lease))))
    }
}
