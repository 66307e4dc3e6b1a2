//! The tensors of a model that may have an adapter: its base's, those that were trained whole, and on demand the base's
//! with what LoRA adds to them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use safetensors::{Dtype, tensor::TensorInfo};

use super::Peft;
use crate::{
    network::{
        checkpoint::{self, CONFIG},
        model::{on_disk::SCALE, tensors::Weights},
    },
    spec::{Adapter, BaseDtype},
};

/// A checkpoint with its adapter.
pub(crate) struct Checkpoint {
    base: PathBuf,
    weights: Weights,
    adapter: Option<Peft>,
    /// Names of tensors that the adapter has in place of the base's, or beside them, and what it calls them.
    whole: BTreeMap<String, String>,
    merged: bool,
}

impl Checkpoint {
    /// Opens a checkpoint; with LoRA `merged`, its tensors are read with the changes.
    ///
    /// # Errors
    /// Files that are missing or broken; an adapter that doesn't say where its model is.
    pub(crate) fn open(directory: &Path, merged: bool) -> Result<Self> {
        let adapter = Peft::open(directory)?;
        let base = checkpoint::base(directory);
        ensure!(
            adapter.is_none() || base.join(CONFIG).is_file(),
            "{} is an adapter, and its base_model_name_or_path names no directory with a model: write the path of one \
             there, or put the model's files beside it",
            directory.display()
        );
        let whole = adapter.iter().flat_map(|adapter| adapter.whole());
        let whole = whole.map(|(name, key)| (name.to_owned(), key.to_owned())).collect();
        Ok(Self { weights: Weights::open(&base)?, base, adapter, whole, merged })
    }

    /// Opens the model alone, whatever adapter lies beside it.
    ///
    /// # Errors
    /// Files that are missing or broken.
    pub(crate) fn open_base(directory: &Path) -> Result<Self> {
        let base = checkpoint::base(directory);
        let weights = Weights::open(&base)?;
        Ok(Self { base, weights, adapter: None, whole: BTreeMap::new(), merged: false })
    }

    /// Where `config.json` is.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The type that frozen weights can stay in as they are.
    pub(crate) fn dtype(&self) -> BaseDtype {
        let has = |dtype| self.names().any(|name| self.info(name).is_some_and(|info| info.dtype == dtype));
        match (has(Dtype::I8), has(Dtype::BF16)) {
            (true, _) => BaseDtype::Int8,
            (false, true) => BaseDtype::Bf16,
            (false, false) => BaseDtype::F32,
        }
    }

    /// The adapter, where it is one that no weight can take in.
    pub(crate) fn prefix(&self) -> Option<&Peft> {
        self.adapter.as_ref().filter(|adapter| matches!(adapter.settings(), Adapter::PTuning(_)))
    }

    /// The adapter that is left to be added to the model.
    pub(crate) fn adapter(&self) -> Option<&Peft> {
        self.adapter.as_ref().filter(|_| !self.merged)
    }

    /// The names of all tensors of the model.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let scales = |name: &&str| name.strip_suffix(SCALE).is_none_or(|name| self.weights.info(name).is_none());
        let own = self.weights.names().filter(|name| !self.whole.contains_key(*name)).filter(scales);
        own.chain(self.whole.keys().map(String::as_str))
    }

    /// Type and shape of a tensor, where there is one of this name.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        match (self.whole.get(name), &self.adapter) {
            (Some(key), Some(adapter)) => adapter.reader().info(key),
            _ => self.weights.info(name),
        }
    }

    /// Whether a tensor is in no file as it is, but made of several.
    pub(crate) fn is_made(&self, name: &str) -> bool {
        let bytes = self.info(name).is_some_and(|info| info.dtype == Dtype::I8);
        let changed = self.merged && self.adapter.as_ref().is_some_and(|adapter| adapter.gains(name));
        bytes || changed
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// Those of reading, and changes of another shape.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>> {
        if let (Some(key), Some(adapter)) = (self.whole.get(name), &self.adapter) {
            return adapter.reader().read(key);
        }
        let mut values = match self.weights.info(name) {
            Some(info) if info.dtype == Dtype::I8 => self.scaled(name, info)?,
            _ => self.weights.read(name)?,
        };
        if let Some(adapter) = self.adapter.as_ref().filter(|_| self.merged)
            && let Some(gain) = adapter.gain(name)?
        {
            ensure!(gain.len() == values.len(), "the adapter's change of {name} has another shape");
            values.iter_mut().zip(gain).for_each(|(value, gain)| *value += gain);
        }
        Ok(values)
    }

    /// The bytes of a tensor that [isn't made](Self::is_made), as they are stored.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        match (self.whole.get(name), &self.adapter) {
            (Some(key), Some(adapter)) => adapter.reader().bytes(key),
            _ => self.weights.bytes(name),
        }
    }

    /// Codes times their scales, a scale for each row or for each column.
    fn scaled(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let scales = format!("{name}{SCALE}");
        let shape = self.weights.info(&scales).map(|info| &info.shape[..]);
        let (&[rows, columns], Some(&[down, across])) = (&info.shape[..], shape) else {
            bail!("{name} has codes of 8 bits, but no matrix of scales beside it");
        };
        ensure!([rows, 1] == [down, across] || [1, columns] == [down, across], "{scales} doesn't fit {name}");
        let (codes, scales) = (self.weights.bytes(name)?, self.weights.read(&scales)?);
        let scale = |at: usize| scales[if across == 1 { at / columns } else { at % columns }];
        Ok(codes.iter().enumerate().map(|(at, &code)| f32::from(code.cast_signed()) * scale(at)).collect())
    }
}
