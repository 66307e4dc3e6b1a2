//! A run's folder where machines have a remote in common and no disk: each has a folder of its own, and they bring each other what
//! they write.

use std::sync::Arc;

use anyhow::Result;

use super::records::RunFolder;
use crate::{
    engine::{
        remote::{Marks, Remote},
        store::Store,
    },
    session::Notify,
};

impl RunFolder {
    /// The same, of which the remote at a URL has the files, too, if machines have one in common.
    ///
    /// # Errors
    /// If there can't be a remote at this URL.
    pub fn shared_by(self, url: Option<&str>, store: &Store, notify: &Notify) -> Result<Self> {
        let report = Arc::clone(notify);
        let remote = url.map(|url| Remote::open(url, store, move |text: &str| report(text))).transpose()?;
        remote.iter().for_each(Remote::ask);
        Ok(Self { remote: remote.map(Arc::new), ..self })
    }

    /// The remote that has the same files.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// Brings a file that other machines have written, if there's one.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn bring_file(&self, name: &str) -> Result<()> {
        if let Some(remote) = &self.remote {
            remote.bring(&self.named(name))?;
        }
        Ok(())
    }

    /// Brings files of a folder that other machines have changed.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn bring(&self, name: &str, marks: &mut Marks) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        remote.bring_changed(&self.named(name), marks, &|_| true)
    }

    /// Sends a file that isn't written by this itself, if it's there.
    ///
    /// # Errors
    /// If the remote doesn't take it.
    pub fn send(&self, name: &str) -> Result<()> {
        match &self.remote {
            Some(remote) if self.path.join(name).exists() => remote.send(&self.named(name)),
            _ => Ok(()),
        }
    }

    /// As [`Self::send`], again and again where the remote doesn't take it at once.
    ///
    /// # Errors
    /// If it never does.
    pub fn deliver(&self, name: &str) -> Result<()> {
        match &self.remote {
            Some(remote) => remote.insist(|| self.send(name)),
            None => Ok(()),
        }
    }

    /// Removes a file that was sent, if the remote lets it be removed.
    pub(super) fn forget(&self, name: &str) {
        if let Some(remote) = &self.remote {
            remote.forget(&self.named(name));
        }
    }

    /// Brings the plans and batches of runs into a store, as far as it hasn't them: all that tells which runs there are.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn bring_all(store: &Store, remote: &Remote) -> Result<()> {
        let tells_of_runs = |path: &str| {
            let is_big = ["/events/", "/log/"].iter().any(|folder| path.contains(folder)) || path.ends_with(".parts");
            !is_big && !store.root().join(path).exists()
        };
        remote.bring_changed("jobs", &mut Marks::new(), &tells_of_runs)?;
        for folder in Self::all(store)? {
            // Of somebody else's it's for them to do.
            let _ = folder.close();
        }
        Ok(())
    }

    /// A file's path in the store.
    pub(super) fn named(&self, name: &str) -> String {
        format!("jobs/{}/{name}", self.name())
    }
}
