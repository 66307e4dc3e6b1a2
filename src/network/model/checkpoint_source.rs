//! The values of parameters out of a checkpoint, and what is found to be wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use burn::tensor::{Device, TensorData};
use safetensors::Dtype;

use super::{
    adapters::Checkpoint,
    holding::Holding,
    initial::{Initial, ValueSource},
    on_disk::OnDisk,
};
use crate::network::kernels::{Compact, CompactForm, Compactor};

/// How far a number between -1 and 1 may be off for having been stored in bf16.
const ROUNDED: f32 = 1.0 / 128.0;

/// A checkpoint, and what was found to be wrong with it so far.
pub(super) struct CheckpointSource<'a> {
    checkpoint: &'a Checkpoint,
    on_disk: &'static OnDisk,
    /// Whether values are read, or only headers.
    values: bool,
    unused: BTreeSet<String>,
    /// Parameters that lie under the name of another that they're tied to.
    tied: BTreeMap<String, String>,
    problems: Vec<String>,
    /// Whether a matrix was rounded to what the files don't have.
    pub(super) rounded: bool,
    /// How many elements were asked for.
    pub(super) parameters: u64,
}

impl<'a> CheckpointSource<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, on_disk: &'static OnDisk, values: bool) -> Self {
        let unused = checkpoint.names().filter(|name| !on_disk.is_ignored(name)).map(str::to_owned).collect();
        let (tied, problems) = (BTreeMap::new(), Vec::new());
        Self { unused, tied, checkpoint, on_disk, values, problems, rounded: false, parameters: 0 }
    }

    /// The name that a tensor has in this checkpoint.
    fn find(&self, name: &str) -> Option<String> {
        self.own(name).or_else(|| self.own(self.tied.get(name)?))
    }

    /// The same, but for the names of what it's tied to.
    fn own(&self, name: &str) -> Option<String> {
        self.on_disk.spellings(name).into_iter().find(|name| self.checkpoint.info(name).is_some())
    }

    /// How many rows a matrix has, if it's there.
    pub(super) fn rows(&self, name: &str) -> Option<usize> {
        self.checkpoint.info(&self.find(name)?)?.shape.first().copied()
    }

    /// Doesn't expect the tensors of a layer to be used.
    pub(super) fn leave_out(&mut self, layer: &str) {
        for name in [format!("{layer}.weight"), format!("{layer}.bias")] {
            if let Some(stored) = self.find(&name) {
                self.unused.remove(&stored);
            }
        }
    }

    /// Whether two tensors of the checkpoint are the same.
    fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        let [Some(first), Some(second)] = [one, other].map(|name| self.checkpoint.info(name)) else { return Ok(false) };
        if self.checkpoint.have_equal_codes(one, other)? {
            return Ok(true);
        }
        if first.shape != second.shape {
            return Ok(false);
        }
        let stored = first.dtype == second.dtype && ![one, other].iter().any(|name| self.checkpoint.is_made(name));
        match stored {
            true => self.checkpoint.have_equal_bytes(one, other),
            false => Ok(self.checkpoint.read(one)? == self.checkpoint.read(other)?),
        }
    }

    /// The values of a tensor; none where only headers are read.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let stored = self.expect_shape(name, shape)?;
        if self.values { self.checkpoint.read(&stored) } else { Ok(Vec::new()) }
    }

    /// The name that a tensor has in this checkpoint.
    ///
    /// # Errors
    /// If it isn't there, or has another shape, or a type that can't be read.
    fn expect_shape(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        let Some(stored) = self.find(name) else { bail!("{} is missing", self.on_disk.written(name)) };
        self.unused.remove(&stored);
        let dtype = self.checkpoint.info(&stored).map(|info| info.dtype);
        match (self.checkpoint.shape(&stored), dtype) {
            (Some(other), _) if other != shape => bail!("{stored} has the shape {other:?} instead of {shape:?}"),
            (_, Some(Dtype::F32 | Dtype::F16 | Dtype::BF16)) => Ok(stored),
            _ if self.checkpoint.code(&stored).is_some() => Ok(stored),
            (_, dtype) => {
                let dtype = dtype.map_or_else(String::new, |dtype| dtype.to_string());
                bail!("{stored} has the type {dtype}, and only F32, F16 and BF16 can be read")
            }
        }
    }

    /// A matrix whose parts have these names, as codes that lie there; `None` if these aren't all codes as they're wanted.
    fn kept(&self, parts: &[String], holding: Holding, device: &Device) -> Result<Option<Compact>> {
        let wanted = |form: CompactForm| match holding {
            Holding::Stored => true,
            Holding::Form(wanted) => {
                form == wanted || (form.is_coded() && wanted.is_coded() && form.bits() < wanted.bits())
            }
        };
        let mut kept = Vec::new();
        for part in parts {
            match self.checkpoint.kept(part, device, wanted)? {
                Some(part) => kept.push(part),
                None => return Ok(None),
            }
        }
        Ok(Compact::stacked(&kept))
    }

    /// A matrix whose parts have these names and lie by rows, in fewer bits; `None` if it's to be in f32.
    fn compact(
        &mut self,
        parts: &[String],
        shape: [usize; 2],
        holding: Holding,
        device: &Device,
    ) -> Result<Option<Compact>> {
        let form = match holding {
            Holding::Form(form) => form,
            Holding::Stored => match parts.first().and_then(|part| self.checkpoint.form_of(part)) {
                Some(form) => form,
                None => return Ok(None),
            },
        };
        if let [part] = parts
            && self.checkpoint.form_of(part) == Some(form)
            && let Some(compact) = self.checkpoint.halves(part, device)
        {
            return Ok(Some(compact));
        }
        self.rounded |= form.is_coded() || parts.iter().any(|part| self.checkpoint.form_of(part) != Some(form));
        let mut compactor = Compactor::new(form, shape);
        for part in parts {
            compactor.push(shape[0] / parts.len(), self.checkpoint.elements(part)?)?;
        }
        Ok(Some(compactor.finish(device)))
    }

    /// # Errors
    /// All that was wrong, a line each.
    pub(super) fn finish(mut self) -> Result<()> {
        self.problems.extend(self.unused.iter().map(|name| format!("{name} is not part of this model")));
        if self.problems.is_empty() { Ok(()) } else { bail!("{}", self.problems.join("\n")) }
    }
}

/// No values, of the same rank.
fn nothing(shape: &[usize]) -> TensorData {
    TensorData::zeros::<f32, _>(vec![0; shape.len()])
}

impl ValueSource for CheckpointSource<'_> {
    fn values(&mut self, name: &str, shape: &[usize], _initial: Initial) -> TensorData {
        let (parts, part_shape) = self.on_disk.places(name, shape);
        self.parameters += shape.iter().map(|&size| size as u64).product::<u64>();
        let (mut values, mut sound) = (Vec::new(), self.values);
        for part in parts {
            match self.read(&part, &part_shape) {
                Ok(found) if values.is_empty() => values = found,
                Ok(found) => values.extend(found),
                Err(error) => {
                    self.problems.push(format!("{error:#}"));
                    sound = false;
                }
            }
        }
        match sound {
            true => TensorData::new(self.on_disk.join(name, shape, values), shape),
            // The network won't be used, so that its shapes don't matter; those of the config may be absurd.
            false => nothing(shape),
        }
    }

    fn held(
        &mut self,
        name: &str,
        shape: [usize; 2],
        initial: Initial,
        holding: Holding,
        device: &Device,
    ) -> Result<Compact, TensorData> {
        let (parts, part_shape) = self.on_disk.places(name, &shape);
        let found: Result<Vec<String>> = parts.iter().map(|part| self.expect_shape(part, &part_shape)).collect();
        let compact = match &found {
            Ok(found) if self.values => match self.kept(found, holding, device) {
                Ok(None) if found.iter().all(|part| self.checkpoint.lies_by_rows(part)) => {
                    Some(self.compact(found, shape, holding, device))
                }
                Ok(None) => None,
                kept => Some(kept),
            },
            _ => None,
        };
        match compact {
            Some(Ok(Some(compact))) => {
                self.parameters += shape.iter().map(|&size| size as u64).product::<u64>();
                Ok(compact)
            }
            Some(Ok(None)) => Err(self.values(name, &shape, initial)),
            Some(Err(error)) => {
                self.problems.push(format!("{error:#}"));
                Err(nothing(&shape))
            }
            None => {
                let data = self.values(name, &shape, initial);
                let form = match holding {
                    Holding::Form(form) => Some(form),
                    Holding::Stored => found.ok().and_then(|found| self.checkpoint.form_of(found.first()?)),
                };
                match (form, data.as_slice::<f32>()) {
                    (Some(form), Ok(values)) if self.values && values.len() == shape[0] * shape[1] => {
                        self.rounded = true;
                        Ok(Compact::new(form, values, shape, device))
                    }
                    _ => Err(data),
                }
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn tie(&mut self, name: &str, other: &str) -> bool {
        let (one, two) = match (self.find(name), self.find(other)) {
            (Some(one), Some(two)) => (one, two),
            (None, Some(_)) => {
                self.tied.insert(name.to_owned(), other.to_owned());
                return true;
            }
            _ => return true,
        };
        match self.are_equal(&one, &two) {
            Ok(equal) => equal,
            Err(error) => {
                self.problems.push(format!("{error:#}"));
                true
            }
        }
    }

    fn expect(&mut self, name: &str, values: &dyn Fn() -> Vec<f32>) {
        let Some(stored) = self.find(name).filter(|_| self.values) else { return };
        match self.checkpoint.read(&stored) {
            Ok(found) => {
                let expected = values();
                let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= ROUNDED;
                if found.len() != expected.len() || !found.iter().zip(&expected).all(near) {
                    self.problems
                        .push(format!("{stored} isn't what is computed for it, and can't be learned otherwise"));
                }
            }
            Err(error) => self.problems.push(format!("{error:#}")),
        }
    }
}
