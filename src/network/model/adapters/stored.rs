//! The tensors of a model that may have an adapter: its base's, those that were trained whole, and on demand the base's
//! with what LoRA adds to them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail, ensure};
use safetensors::{Dtype, tensor::TensorInfo};
use serde_json::Value;

use super::{Peft, peft::same_tensor};
use crate::{
    network::{
        checkpoint::{self, CONFIG},
        model::{
            families,
            on_disk::{OnDisk, PrefixTuning, SCALE},
            tensors::Weights,
        },
    },
    spec::{Adapter, BaseDtype},
};

/// A checkpoint with its adapter.
pub(crate) struct Checkpoint {
    base: PathBuf,
    weights: Weights,
    adapter: Option<Peft>,
    /// How the base's family lies in checkpoints, as far as it's known.
    on_disk: &'static OnDisk,
    /// Tensors that aren't those of the base under the same name, and where they are.
    others: BTreeMap<String, Place>,
    merged: bool,
}

/// Where a tensor is.
enum Place {
    /// In the adapter's file, under this name.
    Adapter(String),
    /// In the base's, under this name.
    Base(String),
}

impl Checkpoint {
    /// Opens a checkpoint; with LoRA `merged`, its tensors are read with the changes.
    ///
    /// # Errors
    /// Files that are missing or broken; an adapter that doesn't say where its model is, or that was trained with a tensor
    /// of its own in place of one that stands for several.
    pub(crate) fn open(directory: &Path, merged: bool) -> Result<Self> {
        let adapter = Peft::open(directory)?;
        let base = checkpoint::base(directory);
        ensure!(
            adapter.is_none() || base.join(CONFIG).is_file(),
            "{} is an adapter, and its base_model_name_or_path names no directory with a model: write the path of one \
             there, or put the model's files beside it",
            directory.display()
        );
        let weights = Weights::open(&base)?;
        // What is wrong with the config is told by those who need it.
        let config =
            fs_err::read(base.join(CONFIG)).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let family = config.as_ref().and_then(|config| families::of_config(config).ok());
        let has_encoder = family.is_some_and(|family| family.on_disk.prefix_tuning == PrefixTuning::Encoder);
        let adapter = match (adapter, &config) {
            (None, Some(config)) if has_encoder => Peft::within(&base, config)?,
            (adapter, _) => adapter,
        };
        let on_disk = family.map_or(&OnDisk::PLAIN, |family| &family.on_disk);
        let others =
            adapter.as_ref().map(|adapter| others(adapter, &weights, on_disk)).transpose()?.unwrap_or_default();
        Ok(Self { weights, base, adapter, on_disk, others, merged })
    }

    /// Opens the model alone, whatever adapter lies beside it.
    ///
    /// # Errors
    /// Files that are missing or broken.
    pub(crate) fn open_base(directory: &Path) -> Result<Self> {
        let base = checkpoint::base(directory);
        let weights = Weights::open(&base)?;
        Ok(Self { base, weights, adapter: None, on_disk: &OnDisk::PLAIN, others: BTreeMap::new(), merged: false })
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

    /// The adapter, whether it's merged or not.
    pub(crate) fn any_adapter(&self) -> Option<&Peft> {
        self.adapter.as_ref()
    }

    /// The adapter that is left to be added to the model.
    pub(crate) fn adapter(&self) -> Option<&Peft> {
        self.adapter.as_ref().filter(|_| !self.merged)
    }

    /// The names of all tensors of the model.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let scales = |name: &&str| name.strip_suffix(SCALE).is_none_or(|name| self.weights.info(name).is_none());
        let prefix = |name: &&str| !self.adapter.as_ref().is_some_and(|adapter| adapter.owns(name));
        let own = self.weights.names().filter(|name| !self.others.contains_key(*name)).filter(scales).filter(prefix);
        own.chain(self.others.keys().map(String::as_str))
    }

    /// Type and shape of a tensor, where there is one of this name.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        match (self.others.get(name), &self.adapter) {
            (Some(Place::Adapter(key)), Some(adapter)) => adapter.reader().info(key),
            (Some(Place::Base(name)), _) => self.weights.info(name),
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
        match (self.others.get(name), &self.adapter) {
            (Some(Place::Adapter(key)), Some(adapter)) => return adapter.reader().read(key),
            (Some(Place::Base(name)), _) => return self.weights.read(name),
            _ => {}
        }
        let info = self.weights.info(name);
        let mut values = match info {
            Some(info) if info.dtype == Dtype::I8 => self.scaled(name, info)?,
            _ => self.weights.read(name)?,
        };
        if let Some(adapter) = self.adapter.as_ref().filter(|_| self.merged)
            && let Some(info) = info
            && let Some(gain) = adapter.gain(name, &info.shape, self.on_disk.is_transposed(name))?
        {
            values.iter_mut().zip(gain).for_each(|(value, gain)| *value += gain);
        }
        Ok(values)
    }

    /// The bytes of a tensor that [isn't made](Self::is_made), as they are stored.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        match (self.others.get(name), &self.adapter) {
            (Some(Place::Adapter(key)), Some(adapter)) => adapter.reader().bytes(key),
            (Some(Place::Base(name)), _) => self.weights.bytes(name),
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

/// The tensors that an adapter has in place of the base's, or beside them.
///
/// Where two of the base's modules are one table and one of them was trained, the other stays what it was: PEFT trains a
/// copy of the module, and with `ensure_weight_tying` stores it under both names.
fn others(adapter: &Peft, weights: &Weights, on_disk: &OnDisk) -> Result<BTreeMap<String, Place>> {
    let own = |name: &str| {
        let exact = weights.info(name).is_some().then(|| name.to_owned());
        exact.or_else(|| weights.names().find(|own| same_tensor(own, name)).map(str::to_owned))
    };
    let whole = adapter.whole().into_iter();
    let mut others: BTreeMap<_, _> = whole
        .map(|(name, key)| (own(name).unwrap_or_else(|| name.to_owned()), Place::Adapter(key.to_owned())))
        .collect();
    let refused = |name: &str| {
        let module = name.trim_end_matches(".weight");
        anyhow!("an adapter with {module} among its modules_to_save isn't supported for this family")
    };
    let is_tied = |name: &str| on_disk.tied.iter().flat_map(|group| *group).any(|other| same_tensor(name, other));
    if let Some(name) = others.keys().find(|name| on_disk.is_ignored(name) && !is_tied(name)) {
        bail!(refused(name));
    }
    for group in on_disk.tied {
        let trained = |name: &&&str| others.keys().any(|other| same_tensor(other, name));
        let [first, rest @ ..] = group else { continue };
        // Which of several copies the class reads is its own affair.
        if let (Some(table), 2..) = (rest.iter().find(trained), rest.len()) {
            bail!(refused(table));
        }
        let Some(table) = rest.first().filter(|_| rest.len() == 1) else { continue };
        let (one, other) = match (trained(&first), trained(&table)) {
            (true, false) => (first, table),
            (false, true) => (table, first),
            _ => continue,
        };
        if own(other).is_none() {
            others.extend(own(one).map(|table| (on_disk.written(other), Place::Base(table))));
        }
    }
    Ok(others)
}
