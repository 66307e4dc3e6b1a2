//! Copies of a checkpoint's weights, made tensor by tensor: in other shards, or of another type. What keeps its type
//! keeps its bytes.

use std::path::Path;

use anyhow::{Result, ensure};
use burn::tensor::{Bytes, Device};
use fs_err as fs;
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;

use super::{
    adapters::{Checkpoint, Peft},
    codes::{QUANTIZATION, QUANTIZED_TABLES},
    network::Network,
    ngrams,
    tensors::{TensorEntry, Weights, write_in_shards},
};
use crate::{
    network::checkpoint::{self, CONFIG},
    spec::{Adapter, Dtype as Wanted, WeightForm},
    support::Hinted,
};

/// How weights are copied.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// The type that floats become of.
    pub dtype: Wanted,
    /// How large a file may be, in bytes.
    pub most: u64,
    /// How the names of tensors begin that aren't copied.
    pub without: &'static [&'static str],
}

/// Copies the weights of the checkpoint `from` into the directory `to`. `config.json` and what else belongs to the model
/// is copied along.
///
/// LoRA is merged into the weights that it changes, and heads that were trained with it take their place among the
/// others, so that nothing is left beside them. A prefix can't be merged: it stays beside the weights.
///
/// # Errors
/// Weights that can't be read, values that the type can't hold, and the file system's.
pub fn copy(from: &Path, to: &Path, options: &CopyOptions) -> Result<()> {
    let weights = Checkpoint::open(from, true)?;
    write(&weights, to, options)?;
    if let Some(prefix) = weights.prefix().filter(|prefix| !prefix.is_within()) {
        prefix.copy(to)?;
    }
    for file in checkpoint::companions(from) {
        let target = to.join(file.file_name().unwrap_or_default());
        if file.ends_with(CONFIG) && (options.dtype != Wanted::Stored || weights.is_quantized()) {
            describe(&file, &target, options.dtype)?;
        } else {
            fs::copy(&file, &target)?;
        }
    }
    Ok(())
}

/// Writes the model in `from` with its weights in a form, as [`Network::load_held`] has them: whoever reads it as it's stored
/// holds the same bytes. LoRA is merged before the weights are rounded, and what else belongs to the model is copied along.
///
/// # Errors
/// Weights that can't be read, a prefix, which can't be merged, and the file system's.
pub fn copy_held(from: &Path, to: &Path, form: WeightForm, most: u64) -> Result<()> {
    Network::load_merged_held(from, form, &Device::flex())?.save_in_shards(to, most)?;
    for file in checkpoint::companions(from).iter().filter(|file| !file.ends_with(CONFIG)) {
        fs::copy(file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Writes all tensors of the model in `from` into `to` as safetensors, each as it's stored: the same weights give the same
/// bytes, in whichever kind of file they lay.
///
/// # Errors
/// Weights that can't be read, and the file system's.
pub fn convert(from: &Path, to: &Path, most: u64) -> Result<()> {
    let weights = &Weights::open(&checkpoint::base(from))?;
    let entries = weights.names().filter_map(|name| {
        let info = weights.info(name)?;
        let bytes = move || Ok(Bytes::from_bytes_vec(weights.bytes(name)?));
        Some(TensorEntry::new(name.to_owned(), info.dtype, info.shape.clone(), bytes))
    });
    write_in_shards(to, entries.collect(), most)
}

/// Copies the weights of the model in `from` alone into `to`, without what an adapter changes: codes as the f32
/// that they stand for.
///
/// # Errors
/// As [`copy`].
pub fn copy_base(from: &Path, to: &Path, options: &CopyOptions) -> Result<()> {
    write(&Checkpoint::open_base(from)?, to, options)
}

/// Whether weights of a model are codes, which other programs would take for the weights themselves.
///
/// # Errors
/// Weights that can't be read.
pub fn has_codes(from: &Path) -> Result<bool> {
    let weights = Checkpoint::open_base(from)?;
    Ok(weights.is_quantized())
}

/// What a model's files have.
#[derive(Clone, Copy, Debug)]
pub struct StoredForm {
    /// The form of its largest matrix, where that's less than f32.
    pub form: Option<WeightForm>,
    /// The bytes of all of its tensors.
    pub bytes: u64,
    /// Whether weights are codes.
    pub is_quantized: bool,
    /// Whether an adapter belongs to it.
    pub is_adapted: bool,
    /// Tokens of a prefix whose keys and values all others see.
    pub prefix: usize,
}

/// What the files of a model have, by their headers.
///
/// # Errors
/// Weights that can't be read.
pub fn stored_form(from: &Path) -> Result<StoredForm> {
    let weights = Checkpoint::open_base(from)?;
    let matrices = weights.names().filter(|name| weights.shape(name).is_some_and(|shape| shape.len() == 2));
    let largest = matrices.max_by_key(|name| weights.shape(name).map(|shape| shape.iter().product::<usize>()));
    let form = largest.and_then(|name| weights.form_of(name)).map(WeightForm::from);
    let adapter = Peft::open(from)?;
    let prefix = match adapter.as_ref().map(Peft::settings) {
        Some(Adapter::PTuning(prefix)) => prefix.tokens,
        _ => 0,
    };
    let (is_quantized, is_adapted) = (weights.is_quantized(), adapter.is_some());
    Ok(StoredForm { form, bytes: weights.stored_bytes(), is_quantized, is_adapted, prefix })
}

/// Whether a model has a tensor whose name begins so.
///
/// # Errors
/// Weights that can't be read.
pub fn has_tensor(from: &Path, beginnings: &[&str]) -> Result<bool> {
    Ok(Checkpoint::open(from, true)?.names().any(|name| begins(name, beginnings)))
}

/// Whether a model has embeddings of n-grams, which no other program knows.
///
/// # Errors
/// Weights that can't be read.
pub fn has_ngrams(from: &Path) -> Result<bool> {
    has_tensor(from, &[ngrams::PREFIX])
}

fn begins(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

fn write(weights: &Checkpoint, to: &Path, options: &CopyOptions) -> Result<()> {
    // A prefix that lies among the weights stays there.
    let prefix = weights.prefix().filter(|prefix| prefix.is_within()).map(|_| Peft::TABLE);
    let names = weights.names().chain(prefix).filter(|name| !begins(name, options.without));
    let entries = names.filter_map(|name| entry(weights, name, options.dtype)).collect();
    write_in_shards(to, entries, options.most)
}

fn entry<'a>(weights: &'a Checkpoint, name: &'a str, wanted: Wanted) -> Option<TensorEntry<'a>> {
    let info = weights.info(name)?;
    // Codes are no type for others.
    let stored = if weights.code(name).is_some() { Dtype::F32 } else { info.dtype };
    let (shape, made) = (weights.shape(name)?, weights.is_made(name));
    let float = matches!(stored, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let dtype = match wanted {
        Wanted::F32 if float => Dtype::F32,
        Wanted::F16 if float => Dtype::F16,
        Wanted::Bf16 if float => Dtype::BF16,
        _ => stored,
    };
    Some(TensorEntry::new(name.to_owned(), dtype, shape, move || {
        let bytes = match dtype {
            same if same == stored && !made => weights.bytes(name)?,
            Dtype::F16 => halves(name, "f16", &weights.read(name)?, |value| {
                let half = f16::from_f32(value);
                (half.to_bits(), half.is_finite())
            })?,
            Dtype::BF16 => halves(name, "bf16", &weights.read(name)?, |value| {
                let half = bf16::from_f32(value);
                (half.to_bits(), half.is_finite())
            })?,
            _ => weights.read(name)?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        Ok(Bytes::from_bytes_vec(bytes))
    }))
}

/// The bytes of values in 16 bits; `half` gives the bits, and whether they're a finite number.
fn halves(name: &str, dtype: &str, values: &[f32], half: fn(f32) -> (u16, bool)) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for &value in values {
        let (bits, is_finite) = half(value);
        ensure!(
            is_finite || !value.is_finite(),
            Hinted::with(
                format!("{name} has the value {value:e}, which {dtype} can't hold: it would become infinite"),
                if dtype == "f16" { "`dtype: bf16` holds it, with fewer digits" } else { "`dtype: f32` holds it" },
            )
        );
        bytes.extend(bits.to_le_bytes());
    }
    Ok(bytes)
}

/// Copies a `config.json` so that it names the type of the weights, and no codes.
fn describe(from: &Path, to: &Path, wanted: Wanted) -> Result<()> {
    let mut config: Value = serde_json::from_slice(&fs::read(from)?)?;
    if let Some(settings) = config.as_object_mut() {
        [QUANTIZATION, QUANTIZED_TABLES].iter().for_each(|key| _ = settings.remove(*key));
    }
    let name = match wanted {
        Wanted::Stored => None,
        Wanted::F32 => Some("float32"),
        Wanted::F16 => Some("float16"),
        Wanted::Bf16 => Some("bfloat16"),
    };
    if let Some(name) = name {
        // The older name of the setting stays where it stands: older code looks for it there.
        let key = if config.get("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
        config[key] = name.into();
    }
    Ok(fs::write(to, format!("{config:#}\n"))?)
}
