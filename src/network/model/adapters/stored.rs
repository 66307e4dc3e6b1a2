//! The tensors of a model that may have an adapter: its base's, those that were trained whole, and on demand the base's
//! with what LoRA adds to them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail, ensure};
use burn::tensor::{DType, Device, TensorData};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::TensorInfo};
use serde_json::Value;

use super::{Peft, peft::same_tensor};
use crate::{
    network::{
        checkpoint::{self, CONFIG},
        kernels::{Compact, CompactForm},
        model::{
            codes::{self, Code, QUANTIZATION},
            families,
            on_disk::{OnDisk, PrefixTuning, SCALE},
            tensors::{Elements, Weights},
        },
    },
    spec::{Adapter, WeightForm},
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
    /// The bits of the codes in an edition of ChatGLM's, as its config has them.
    bits: Option<u64>,
}

/// Bytes that are compared at a time.
const BLOCK: usize = 1 << 18;

/// All values, to be copied from.
fn copied(values: Vec<f32>) -> Elements<'static> {
    Box::new(move |first, out| {
        out.copy_from_slice(&values[first..][..out.len()]);
        Ok(())
    })
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
        let bits = config.as_ref().and_then(|config| config.get(QUANTIZATION)?.as_u64());
        Ok(Self { weights, base, adapter, on_disk, others, merged, bits })
    }

    /// Opens the model alone, whatever adapter lies beside it.
    ///
    /// # Errors
    /// Files that are missing or broken.
    pub(crate) fn open_base(directory: &Path) -> Result<Self> {
        let base = checkpoint::base(directory);
        let weights = Weights::open(&base)?;
        let config = fs_err::read(base.join(CONFIG)).ok();
        let config = config.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let family = config.as_ref().and_then(|config| families::of_config(config).ok());
        let on_disk = family.map_or(&OnDisk::PLAIN, |family| &family.on_disk);
        let bits = config.and_then(|config| config.get(QUANTIZATION)?.as_u64());
        Ok(Self { base, weights, adapter: None, on_disk, others: BTreeMap::new(), merged: false, bits })
    }

    /// Where `config.json` is.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The form that frozen weights can stay in as they are.
    pub(crate) fn form(&self) -> WeightForm {
        let has = |dtype| self.names().any(|name| self.info(name).is_some_and(|info| info.dtype == dtype));
        match () {
            () if has(Dtype::U8) || self.has_pairs() => WeightForm::Int4,
            () if has(Dtype::I8) => WeightForm::Int8,
            () if has(Dtype::BF16) => WeightForm::Bf16,
            () => WeightForm::F32,
        }
    }

    /// Whether its weights are codes.
    pub(crate) fn is_quantized(&self) -> bool {
        self.names().any(|name| self.code(name).is_some())
    }

    /// Whether these are codes that mean something only beside the config of ChatGLM's editions.
    pub(crate) fn has_pairs(&self) -> bool {
        self.names().any(|name| self.code(name) == Some(Code::Pairs))
    }

    /// Bytes of all tensors in the files of the model.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let sizes = self.weights.names().filter_map(|name| self.weights.info(name));
        sizes.map(|info| (info.data_offsets.1 - info.data_offsets.0) as u64).sum()
    }

    /// What the elements of a tensor stand for, if not for themselves.
    pub(crate) fn code(&self, name: &str) -> Option<Code> {
        if self.others.contains_key(name) {
            return None;
        }
        codes::of(&self.weights, name, self.bits)
    }

    /// The shape that a tensor stands for.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let shape = self.info(name)?.shape.clone();
        Some(match (self.code(name), &shape[..]) {
            (Some(Code::Groups), &[rows, bytes]) if self.on_disk.is_transposed(name) => vec![2 * bytes, rows],
            (Some(Code::Pairs | Code::Groups), &[rows, bytes]) => vec![rows, 2 * bytes],
            _ => shape,
        })
    }

    /// Whether a matrix lies there as layers have it, `[out, in]`, as codes of four bits do in every family.
    pub(crate) fn lies_by_rows(&self, name: &str) -> bool {
        !self.on_disk.is_transposed(name) || self.code(name) == Some(Code::Groups)
    }

    /// What the elements of a tensor can be held as without a change; `None` for f32.
    pub(crate) fn form_of(&self, name: &str) -> Option<CompactForm> {
        let info = self.info(name)?;
        match (self.code(name), info.dtype) {
            (Some(Code::Bytes), _) => Some(CompactForm::Int8),
            (Some(Code::Pairs | Code::Groups), _) => Some(CompactForm::Int4),
            (None, Dtype::BF16) => Some(CompactForm::Bf16),
            (None, Dtype::F16) => Some(CompactForm::F16),
            _ => None,
        }
    }

    /// A matrix of codes as it is, if its form is `wanted`.
    ///
    /// # Errors
    /// Those of reading, and scales that don't fit.
    pub(crate) fn kept(
        &self,
        name: &str,
        device: &Device,
        wanted: impl Fn(CompactForm) -> bool,
    ) -> Result<Option<Compact>> {
        match self.code(name).filter(|_| !self.gains(name) && self.form_of(name).is_some_and(wanted)) {
            Some(code) => codes::held(&self.weights, name, code, self.on_disk.is_transposed(name), device),
            None => Ok(None),
        }
    }

    /// A matrix of 16 bits as it lies in its file, which is memory then.
    pub(crate) fn halves(&self, name: &str, device: &Device) -> Option<Compact> {
        let info = self.info(name).filter(|_| !self.gains(name) && !self.others.contains_key(name))?;
        let dtype = match info.dtype {
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            _ => return None,
        };
        let bytes = self.weights.mapped(name, size_of::<u16>()).filter(|_| cfg!(target_endian = "little"))?;
        Some(Compact::halves(TensorData::from_bytes(bytes, info.shape.clone(), dtype), device))
    }

    /// Whether two tensors have the same codes and scales.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn have_equal_codes(&self, one: &str, other: &str) -> Result<bool> {
        match [one, other].map(|name| self.code(name).filter(|_| !self.gains(name))) {
            [Some(first), Some(second)] if first == second => {
                let scales = [one, other].map(|name| format!("{name}{SCALE}"));
                let [Some(first), Some(second)] = scales.each_ref().map(|name| self.info(name)) else {
                    return Ok(false);
                };
                let alike = (first.dtype, &first.shape) == (second.dtype, &second.shape);
                Ok(alike && self.have_equal_bytes(&scales[0], &scales[1])? && self.have_equal_bytes(one, other)?)
            }
            _ => Ok(false),
        }
    }

    fn gains(&self, name: &str) -> bool {
        self.merged && self.adapter.as_ref().is_some_and(|adapter| adapter.gains(name))
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
        self.code(name).is_some() || self.gains(name)
    }

    /// What writes the values of a matrix's elements, from one on, to where they're wanted: any of them, for several threads
    /// at once. Where it can, it reads no others.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn elements(&self, name: &str) -> Result<Elements<'_>> {
        if self.gains(name) || self.others.contains_key(name) {
            return Ok(copied(self.read(name)?));
        }
        if let Some(code) = self.code(name) {
            return codes::elements(&self.weights, name, code);
        }
        if !self.weights.is_dense(name) {
            return Ok(copied(self.weights.read(name)?));
        }
        let name = name.to_owned();
        Ok(Box::new(move |first, out| self.weights.read_into(&name, first, out)))
    }

    /// Whether the bytes of two tensors of one type and shape are the same; both [aren't made](Self::is_made).
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn have_equal_bytes(&self, one: &str, other: &str) -> Result<bool> {
        let names = [one, other];
        if names.iter().any(|name| self.others.contains_key(*name) || !self.weights.is_dense(name)) {
            return Ok(self.bytes(one)? == self.bytes(other)?);
        }
        let size = self.info(one).map_or(0, |info| info.shape.iter().product::<usize>() * info.dtype.bitsize() / 8);
        let differ =
            (0..size.div_ceil(BLOCK)).into_par_iter().map_init(Default::default, |blocks: &mut [Vec<u8>; 2], at| {
                for (block, name) in blocks.iter_mut().zip(names) {
                    block.resize(BLOCK.min(size - at * BLOCK), 0);
                    self.weights.read_at(name, at * BLOCK, block)?;
                }
                anyhow::Ok(blocks[0] != blocks[1])
            });
        let found = differ.find_any(|differ| !matches!(differ, Ok(false)));
        Ok(!found.transpose()?.unwrap_or(false))
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
        let mut values = match self.code(name) {
            Some(code) => codes::read(&self.weights, name, code)?,
            None => self.weights.read(name)?,
        };
        if self.code(name) == Some(Code::Groups)
            && let (true, Some(&[across, down])) = (self.on_disk.is_transposed(name), self.shape(name).as_deref())
        {
            // As the family's other matrices lie.
            let row = |row: usize| (0..down).map(move |column| column * across + row);
            values = (0..across).flat_map(row).map(|at| values[at]).collect();
        }
        if let Some(adapter) = self.adapter.as_ref().filter(|_| self.merged)
            && let Some(shape) = self.shape(name)
            && let Some(gain) = adapter.gain(name, &shape, self.on_disk.is_transposed(name))?
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
