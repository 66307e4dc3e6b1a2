//! Copies of a checkpoint's weights, made tensor by tensor: in other shards, or of another type. What keeps its type
//! keeps its bytes.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Bytes;
use fs_err as fs;
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;

use super::{
    adapters::{Checkpoint, Peft},
    tensors::{TensorEntry, write_in_shards},
};
use crate::{
    network::checkpoint::{self, CONFIG},
    spec::Dtype as Wanted,
};

/// Copies the weights of the checkpoint `from` into the directory `to`, in shards of at most `most` bytes; floats become
/// of the type `wanted`, or stay as they are. `config.json` and what else belongs to the model is copied along.
///
/// LoRA is merged into the weights that it changes, and heads that were trained with it take their place among the
/// others, so that nothing is left beside them. A prefix can't be merged: it stays beside the weights.
///
/// # Errors
/// Weights that can't be read, and the file system's.
pub fn copy(from: &Path, to: &Path, wanted: Wanted, most: u64) -> Result<()> {
    let weights = Checkpoint::open(from, true)?;
    let prefix = weights.prefix().filter(|prefix| prefix.is_within()).map(|_| Peft::TABLE);
    let names = weights.names().chain(prefix);
    let entries = names.filter_map(|name| entry(&weights, name, wanted)).collect();
    write_in_shards(to, entries, most)?;
    if let Some(prefix) = weights.prefix().filter(|prefix| !prefix.is_within()) {
        prefix.copy(to)?;
    }
    for file in checkpoint::companions(from) {
        let target = to.join(file.file_name().unwrap_or_default());
        if file.ends_with(CONFIG) && wanted != Wanted::Stored {
            describe(&file, &target, wanted)?;
        } else {
            fs::copy(&file, &target)?;
        }
    }
    Ok(())
}

fn entry<'a>(weights: &'a Checkpoint, name: &'a str, wanted: Wanted) -> Option<TensorEntry<'a>> {
    let info = weights.info(name)?;
    // Codes of 8 bits are no type for others.
    let stored = if info.dtype == Dtype::I8 { Dtype::F32 } else { info.dtype };
    let (shape, made) = (info.shape.clone(), weights.is_made(name));
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
            Dtype::F16 => halves(&weights.read(name)?, |value| f16::from_f32(value).to_bits()),
            Dtype::BF16 => halves(&weights.read(name)?, |value| bf16::from_f32(value).to_bits()),
            _ => weights.read(name)?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        Ok(Bytes::from_bytes_vec(bytes))
    }))
}

fn halves(values: &[f32], half: fn(f32) -> u16) -> Vec<u8> {
    values.iter().flat_map(|&value| half(value).to_le_bytes()).collect()
}

/// Copies a `config.json` so that it names the type of the weights.
fn describe(from: &Path, to: &Path, wanted: Wanted) -> Result<()> {
    let mut config: Value = serde_json::from_slice(&fs::read(from)?)?;
    let name = match wanted {
        Wanted::Stored => return Ok(()),
        Wanted::F32 => "float32",
        Wanted::F16 => "float16",
        Wanted::Bf16 => "bfloat16",
    };
    // The older name of the setting stays where it stands: older code looks for it there.
    let key = if config.get("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
    config[key] = name.into();
    Ok(fs::write(to, format!("{config:#}\n"))?)
}
