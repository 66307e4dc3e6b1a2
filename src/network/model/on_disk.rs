//! How a family's parameters lie in checkpoints: the names, splits and transpositions of Hugging Face's classes, as one
//! table a family that is followed in both directions.

use std::{collections::BTreeSet, ops::Range};

use anyhow::Context;
use safetensors::Dtype;

use super::{
    ngrams,
    parameters::{Frozen, Parameter, Parameters},
    tensors::TensorEntry,
};
use crate::network::kernels::{CompactForm, GROUP};

/// What follows the name of a tensor of bytes in that of its scales.
pub(super) const SCALE: &str = "_scale";

/// What heads and n-grams are called; they stand beside the backbone and never under its prefix.
const BESIDE: [&str; 5] = ["cls.", "classifier.", "score.", "lm_head.", ngrams::PREFIX];

/// What others have P-tuning be: whether tokens count their positions on from the prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrefixTuning {
    /// Past keys and values, as PEFT gives them to a class of transformers: the first token's position is their number.
    Past,
    /// ChatGLM's `prefix_encoder`: tokens keep their positions.
    Encoder,
    /// Nobody else has it; it's arranged as ChatGLM's.
    Own,
}

/// Where a checkpoint differs from the parameters. Names are compared by their endings.
#[derive(Debug)]
pub struct OnDisk {
    /// What classes with a head put before the backbone's names; read with and without it.
    pub prefix: &'static str,
    /// Whether it's written.
    pub prefixed: bool,
    /// A layer whose rows lie in several tensors there, and what stands for its name in theirs.
    pub stacked: &'static [(&'static str, &'static [&'static str])],
    /// Weights that lie there as `[input, output]`.
    pub transposed: &'static [&'static str],
    /// Vectors that lie there as a matrix of one row.
    pub rows: &'static [&'static str],
    /// Names, and what older files call them.
    pub formerly: &'static [(&'static str, &'static str)],
    /// Tensors that hold nothing of their own: tied weights and constants.
    pub ignored: &'static [&'static str],
    /// Names under which a parameter is written once more, unless there is a parameter of that name.
    pub copies: &'static [(&'static str, &'static str)],
    /// Parameters that are one table in most models, and a module each in Hugging Face's class; what gives the logits
    /// first.
    pub tied: &'static [&'static [&'static str]],
    /// What a prefix of trained keys and values is to the code that was published with the family.
    pub prefix_tuning: PrefixTuning,
}

impl OnDisk {
    /// As the parameters are.
    pub const PLAIN: Self = Self {
        prefix: "",
        prefixed: false,
        stacked: &[],
        transposed: &[],
        rows: &[],
        formerly: &[],
        ignored: &[],
        copies: &[],
        tied: &[],
        prefix_tuning: PrefixTuning::Own,
    };

    /// How many positions a prefix of so many tokens takes.
    pub fn positions_taken(&self, tokens: usize) -> usize {
        if self.prefix_tuning == PrefixTuning::Past { tokens } else { 0 }
    }

    /// The tensors that the rows of a parameter lie in, in their order.
    pub(super) fn parts(&self, name: &str) -> Vec<String> {
        match self.stacked.iter().find(|(whole, _)| name.contains(whole)) {
            Some((whole, parts)) => parts.iter().map(|part| name.replace(whole, part)).collect(),
            None => vec![name.to_owned()],
        }
    }

    /// The same with their shape, for a parameter of this `shape`.
    pub(super) fn places(&self, name: &str, shape: &[usize]) -> (Vec<String>, Vec<usize>) {
        let parts = self.parts(name);
        let mut shape = shape.to_vec();
        shape[0] /= parts.len();
        if self.is_transposed(name) {
            shape.reverse();
        }
        if ends(name, self.rows) {
            shape.insert(0, 1);
        }
        (parts, shape)
    }

    /// The name that a tensor is written under.
    pub(super) fn written(&self, name: &str) -> String {
        let beside = BESIDE.iter().any(|beside| name.starts_with(beside));
        if self.prefixed && !beside { format!("{}{name}", self.prefix) } else { name.to_owned() }
    }

    /// The modules that the weight of a linear layer belongs to, in the order of its rows.
    pub(super) fn modules(&self, name: &str) -> Vec<String> {
        let parts = self.parts(name).into_iter();
        parts.map(|part| self.written(part.strip_suffix(".weight").unwrap_or(&part))).collect()
    }

    /// All names that a tensor may have in a file, the usual ones first.
    pub(super) fn spellings(&self, name: &str) -> Vec<String> {
        let older = self.formerly.iter().filter_map(|(now, then)| Some(format!("{}{then}", name.strip_suffix(now)?)));
        let names = std::iter::once(name.to_owned()).chain(older);
        names.flat_map(|name| [format!("{}{name}", self.prefix), name]).collect()
    }

    /// Whether a parameter lies there the other way around.
    pub(super) fn is_transposed(&self, name: &str) -> bool {
        ends(name, self.transposed)
    }

    /// Whether a tensor may be there without being a parameter.
    pub(super) fn is_ignored(&self, name: &str) -> bool {
        ends(name, self.ignored)
    }

    /// All parameters for writing; without those that are `learned`, if they are to lie elsewhere.
    pub(super) fn entries<'a>(&self, parameters: &'a Parameters, learned: bool) -> Vec<TensorEntry<'a>> {
        let written = parameters.iter().filter(|parameter| learned || !parameter.is_trainable());
        let written = written.flat_map(|parameter| self.split(parameter));
        let compact = parameters.compact.iter().flat_map(|frozen| self.compact(frozen));
        written.chain(compact).chain(self.copied(parameters, learned)).collect()
    }

    fn copied<'a>(&self, parameters: &'a Parameters, learned: bool) -> impl Iterator<Item = TensorEntry<'a>> {
        let copies = self.copies.iter().filter(|(copy, _)| parameters.named(copy).is_none());
        copies.filter_map(move |&(copy, original)| {
            let original = parameters.named(original).filter(|original| learned || !original.is_trainable())?;
            Some(TensorEntry::by_rows(copy.into(), original.shape(), |rows| original.rows(rows)))
        })
    }

    fn split<'a>(&self, parameter: &'a Parameter) -> Vec<TensorEntry<'a>> {
        let dims = parameter.shape();
        let (names, shape) = self.places(&parameter.name, &dims);
        let rows = dims[0] / names.len();
        let transposed = self.is_transposed(&parameter.name);
        let entry = |(index, name): (usize, String)| {
            let (written, first) = (self.written(&name), index * rows);
            if !transposed {
                let values = move |part: Range<usize>| parameter.rows(first + part.start..first + part.end);
                return TensorEntry::by_rows(written, shape.clone(), values);
            }
            TensorEntry::single(written, shape.clone(), move || {
                let part = parameter.value.clone().inner().rows(first, rows).transposed();
                part.into_data().with_context(|| format!("can't read {name}"))
            })
        };
        names.into_iter().enumerate().map(entry).collect()
    }

    /// Weights in fewer bits: bfloat16, or codes with their scales beside them.
    fn compact<'a>(&self, frozen: &'a Frozen) -> Vec<TensorEntry<'a>> {
        let [all, columns] = frozen.value.dims();
        let (names, shape) = self.places(&frozen.name, &[all, columns]);
        let (rows, transposed) = (all / names.len(), self.is_transposed(&frozen.name));
        let form = frozen.value.form();
        // Four bits lie by rows whatever the family does, and only if they make whole groups.
        let (halved, whole) = (form == CompactForm::Int4, columns % GROUP == 0);
        let mut entries = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let part = index * rows..(index + 1) * rows;
            if halved && !whole {
                let values = move || {
                    let part = frozen.value.expand().slice(part);
                    Ok(if transposed { part.transpose() } else { part }.try_into_data()?)
                };
                entries.push(TensorEntry::single(self.written(&name), shape.clone(), values));
                continue;
            }
            if let Some(scales) = frozen.value.scales() {
                let part = part.clone();
                let across = scales.dims()[1];
                let across = if transposed && !halved { [1, rows] } else { [rows, across] };
                let dtype = if halved { Dtype::F16 } else { Dtype::F32 };
                let scales = move || Ok(scales.clone().slice(part).reshape(across).try_into_data()?.into_bytes());
                let name = format!("{}{SCALE}", self.written(&name));
                entries.push(TensorEntry::new(name, dtype, across.to_vec(), scales));
            }
            let (dtype, shape) = match form {
                CompactForm::Bf16 => (Dtype::BF16, shape.clone()),
                CompactForm::F16 => (Dtype::F16, shape.clone()),
                CompactForm::Int8 => (Dtype::I8, shape.clone()),
                CompactForm::Int4 => (Dtype::U8, vec![rows, columns / 2]),
            };
            let values = move || Ok(frozen.value.data(part, transposed)?.into_bytes());
            entries.push(TensorEntry::new(self.written(&name), dtype, shape, values));
        }
        entries
    }

    /// A parameter's values out of those of the tensors in [`Self::places`], one after the other.
    pub(super) fn join(&self, name: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match *shape {
            [rows, columns] if self.is_transposed(name) => {
                let row = |row: usize| (0..columns).map(move |column| column * rows + row);
                (0..rows).flat_map(row).map(|at| values[at]).collect()
            }
            _ => values,
        }
    }
}

/// Whether a name, or what follows a dot in it, is one of these.
pub(super) fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}
/// Whether a module's name is `target`, or what follows a dot in it is, as PEFT has it.
pub(super) fn is_called(module: &str, target: &str) -> bool {
    module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A target that none of the modules has, and the names that they have.
pub(super) fn unmet<'t>(modules: &[String], targets: &'t [String]) -> Option<(&'t str, Vec<String>)> {
    let target = targets.iter().find(|target| !modules.iter().any(|module| is_called(module, target)))?;
    // Without the numbers of layers there are but a few names.
    let names: BTreeSet<&str> = modules
        .iter()
        .map(|module| module.rsplit_once(|sign: char| sign.is_ascii_digit()).map_or(&module[..], |(_, name)| name))
        .map(|name| name.trim_start_matches('.'))
        .collect();
    Some((target, names.into_iter().map(str::to_owned).collect()))
}
