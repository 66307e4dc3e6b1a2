//! What the families share in reading and writing `config.json`.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

use super::codes::{QUANTIZATION, QUANTIZED_TABLES};
use crate::network::kernels::Gelu;

/// Settings of a `config.json` that change what a model computes, and of which only one value is supported.
///
/// # Errors
/// Another value.
pub fn check_settings(config: &Map<String, Value>, supported: &[(&str, Value)]) -> Result<()> {
    for (key, supported) in supported {
        let value = config.get(*key).unwrap_or(supported);
        ensure!(value == supported || value.is_null(), "{key} {value} isn't supported");
    }
    Ok(())
}

/// Takes out of a config of ChatGLM's what it says of codes, which tensors tell themselves.
///
/// # Errors
/// Bits that no edition has.
pub fn set_quantization_aside(config: &mut Map<String, Value>) -> Result<()> {
    let bits = config.get(QUANTIZATION).filter(|bits| !bits.is_null() && **bits != 0);
    let Some(bits) = bits else { return Ok(()) };
    ensure!([4, 8].iter().any(|known| bits == known), "{QUANTIZATION} {bits} isn't supported");
    [QUANTIZATION, QUANTIZED_TABLES].iter().for_each(|key| _ = config.remove(*key));
    Ok(())
}

/// How many tokens the prefix has that ChatGLM's code puts before all others; none where it's null.
pub const PREFIX_LENGTH: &str = "pre_seq_len";

/// A `config.json` with its settings under the names that are read, where it has them under `others`.
///
/// # Errors
/// One setting under two names, with different values.
pub fn named(config: &Value, others: &[(&str, &str)]) -> Result<Value> {
    let mut config = config.clone();
    let Some(settings) = config.as_object_mut() else { return Ok(config) };
    for (other, name) in others {
        let Some(value) = settings.get(*other).filter(|value| !value.is_null()).cloned() else { continue };
        match settings.get(*name).filter(|value| !value.is_null()) {
            Some(own) => ensure!(*own == value, "{name} is {own}, but {other}, which is the same, is {value}"),
            None => {
                settings.insert((*name).to_owned(), value);
            }
        }
        settings.remove(*other);
    }
    Ok(config)
}

/// The standard deviation of new weights where nothing is said: that of Hugging Face's configs.
pub fn initializer_range() -> f64 {
    0.02
}

/// The activation of this name in Hugging Face's configs.
///
/// # Errors
/// Another than GELU.
pub fn gelu(name: &str) -> Result<Gelu> {
    match name {
        "gelu" | "gelu_python" => Ok(Gelu::Erf),
        "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" => Ok(Gelu::Tanh),
        other => bail!("the activation {other} isn't supported; gelu, gelu_new and gelu_pytorch_tanh are"),
    }
}

/// `config.json` out of the `settings` that matter, with `defaults` for what they don't say.
pub fn config_json(settings: Value, defaults: Value) -> Value {
    match (settings, defaults) {
        (Value::Object(settings), Value::Object(mut all)) => {
            all.extend(settings);
            // Whatever was read, f32 is written; code of before 2025 knows the type by its older name.
            let old = all.remove("torch_dtype").is_some();
            all.insert(if old { "torch_dtype" } else { "dtype" }.into(), "float32".into());
            Value::Object(all)
        }
        (settings, _) => settings,
    }
}
