//! Asking for a key: who computes it is the one that holds it meanwhile.

use anyhow::Result;

use super::{
    Artifact, Found, KeyWatch, LeftBehind, Manifest, Slot, Store, format,
    lease::Lease,
    short,
    workspace::{Workspace, restore},
};

/// What came of asking for a key.
pub enum Claim {
    /// It's there.
    Hit(Box<Artifact>),
    /// It isn't, and the caller is the one to compute it.
    Miss(Box<Slot>),
}

/// A name that this process holds.
#[derive(Debug)]
pub struct Held {
    _lease: Lease,
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
        let claimed = || -> Result<Claim> {
            format::create(&self.root)?;
            let lease = self.leases.take(&key, inputs(&manifest), waiting)?;
            self.with_lease(manifest, key.clone(), force, lease)
        };
        claimed().map_err(|error| self.explain(error))
    }

    /// As [`Self::claim`], without waiting: `None` while another process holds the key. What a [`KeyWatch`] has found to be
    /// left behind is taken over.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub fn try_claim(&self, manifest: Manifest, left: &LeftBehind) -> Result<Option<Claim>> {
        let key = manifest.key();
        if let Found::Intact(artifact) = self.look(&key)? {
            return Ok(Some(Claim::Hit(artifact)));
        }
        let claimed = || -> Result<Option<Claim>> {
            format::create(&self.root)?;
            let Some(lease) = self.leases.try_take(&key, inputs(&manifest), left)? else { return Ok(None) };
            self.with_lease(manifest, key.clone(), false, lease).map(Some)
        };
        claimed().map_err(|error| self.explain(error))
    }

    /// Holds a name that isn't a key, as a key is held that is computed: until this is dropped, or the process ends. `None`
    /// while another process holds it; what a [`KeyWatch`] has found to be left behind is taken over.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn hold(&self, name: &str, left: &LeftBehind) -> Result<Option<Held>> {
        format::create(&self.root)?;
        Ok(self.leases.try_take(name, Vec::new(), left)?.map(|lease| Held { _lease: lease }))
    }

    /// Watches whether a key can be had.
    pub fn watch(&self, key: &str) -> KeyWatch {
        self.leases.key_watch(key)
    }

    fn with_lease(&self, manifest: Manifest, key: String, force: bool, lease: Lease) -> Result<Claim> {
        tracing::debug!(key = short(&key), "claimed");
        restore(&self.root.join("tmp"), &key, &self.artifact_dir(&key))?;
        let stored = if force { Found::Nothing } else { Found::of(self.find(&key))? };
        let damage = match stored {
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

fn inputs(manifest: &Manifest) -> Vec<String> {
    manifest.inputs.values().cloned().collect()
}
