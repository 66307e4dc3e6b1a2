//! A recipe, checked as far as its text goes.

use std::path::Path;

use anyhow::Result;
use indexmap::IndexMap;

use super::{graph, supplements::supplemented};
use crate::{
    data,
    engine::{
        plan::Graph,
        store::{Provenance, host},
    },
    network::device::{DeviceChoice, DeviceChoices, keep_to},
    recipe::{Checked, DataFiles, Document, Overrides, Setting},
    spec::Source,
    stages::{catalog, check_secrets},
};

/// A recipe without mistakes, and what it was read from.
pub struct Recipe {
    /// Its text.
    pub document: Document,
    /// What was changed in it.
    pub overrides: Overrides,
    /// The whole.
    pub checked: Checked,
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// All mistakes in it, as [`Diagnostics`](crate::recipe::Diagnostics).
    pub fn read(path: &Path, overrides: Overrides) -> Result<Self> {
        let document = Document::read(path, catalog())?;
        let checked = document.check(&overrides, &columns)?;
        check_secrets(&checked)?;
        let checked = supplemented(checked)?;
        Ok(Self { document, overrides, checked })
    }

    /// Its stages.
    ///
    /// # Errors
    /// If an input file vanished since it was read.
    pub fn graph(&self) -> Result<Graph> {
        graph(&self.checked)
    }

    /// The stages of a cell of its sweep.
    ///
    /// # Errors
    /// All mistakes that come with the cell's settings.
    pub fn cell(&self, settings: &IndexMap<String, Setting>) -> Result<Graph> {
        graph(&supplemented(self.document.check_cell(&self.overrides, settings, &columns)?)?)
    }

    /// The devices to run on: the given ones, or else the recipe's. GPU backends are kept to what the recipe lets them do.
    ///
    /// # Errors
    /// If one is unknown, or this build has no support for it.
    pub fn devices(&self, device: Option<&str>, devices: Option<&str>) -> Result<DeviceChoices> {
        keep_to(self.checked.recipe.gpu);
        match (device, devices, &self.checked.recipe.devices) {
            (None, Some(list), _) => list.parse::<DeviceChoices>()?.found(),
            (None, None, Some(devices)) => devices.choices.clone().found(),
            _ => {
                let choice: DeviceChoice = device.map_or(Ok(self.checked.recipe.device.choice), str::parse)?;
                choice.check_support()?;
                Ok(choice.into())
            }
        }
    }

    /// What is recorded with every artifact of a run.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            pipe: env!("CARGO_PKG_VERSION").into(),
            recipe: self.checked.text().to_owned(),
            overrides: self.flags(),
            host: host(),
            ..Provenance::default()
        }
    }

    /// Its changes as flags of the command line.
    pub fn flags(&self) -> Vec<String> {
        let flags = |flag: &str, pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, value)| format!("--{flag} {name}={value}")).collect()
        };
        [flags("var", &self.overrides.vars), flags("set", &self.overrides.sets)].concat()
    }
}

/// The columns of data files; `None` where they can't be read, which a stage will explain better.
pub(super) fn columns(source: &Source, data: &DataFiles) -> Option<Vec<String>> {
    data::columns(source, &data.files, &data.wanted).ok()
}
