//! Names for artifacts that are to be kept.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Store, atomic, check::is_digest, workspace::remove};
use crate::support::Hinted;

/// An artifact that is to be kept, under a name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pin {
    /// The pin's name.
    #[serde(skip)]
    pub name: String,
    /// The artifact's key.
    pub key: String,
}

impl Store {
    /// The pins, by name.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let dir = self.root.join("pins");
        let mut pins = Vec::new();
        if dir.exists() {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name)) else {
                    continue;
                };
                let pin = serde_json::from_slice(&fs::read(&path)?).ok();
                let Some(pin) = pin.filter(|pin: &Pin| is_digest(&pin.key)) else {
                    // Nobody knows any more what it was to keep.
                    bail!(Hinted::with(
                        format!("the pin `{name}` is damaged, as a power cut may leave it: {}", path.display()),
                        format!("pin the artifact again, with `pipe pin KEY --name {name}`, or `pipe unpin {name}`"),
                    ));
                };
                pins.push(Pin { name: name.to_owned(), ..pin });
            }
        }
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    /// Pins an artifact. A pin of that name is moved.
    ///
    /// # Errors
    /// If the name can't be one, or the store can't be written.
    pub fn pin(&self, name: &str, key: &str) -> Result<()> {
        ensure!(
            is_name(name),
            "a pin name may contain only letters, digits, `.`, `_` and `-`, and must not begin with `.`"
        );
        let write = || -> Result<()> {
            let dir = self.root.join("pins");
            fs::create_dir_all(&dir)?;
            let pin = Pin { name: name.to_owned(), key: key.to_owned() };
            atomic::write(&self.pin_path(name), &serde_json::to_vec(&pin)?)
        };
        write().map_err(|error| self.explain(error))
    }

    /// Removes a pin by its name.
    ///
    /// # Errors
    /// If there is none of that name, or the store can't be written.
    pub fn unpin(&self, name: &str) -> Result<()> {
        if !is_name(name) || !self.pin_path(name).exists() {
            bail!("there is no pin `{name}`; `pipe pin` lists them");
        }
        remove(&self.pin_path(name)).map_err(|error| self.explain(error))
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.root.join("pins").join(name)
    }
}

fn is_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(is_fine)
}
