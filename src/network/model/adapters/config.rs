//! `adapter_config.json` of PEFT: what its keys say. The list is closed: a key that isn't followed, isn't known to change
//! nothing, and says something, is refused. It's that of PEFT 0.21, with what older versions wrote.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::targets::{Layers, Names, Targets};
use crate::{
    spec::{Adapter, Lora, PTuning, WeightForm},
    support::Hinted,
};

/// A prefix that's arranged as ChatGLM's, of a family of which PEFT has another notion, or none. PEFT refuses the name.
pub(super) const OWN_PREFIX: &str = "PIPE_PREFIX_TUNING";
/// A prefix as PEFT has it.
pub(super) const PREFIX: &str = "PREFIX_TUNING";
/// LoRA.
pub(super) const LORA: &str = "LORA";

/// What says where an adapter comes from, which model and task it's for, and that it's to be used: nothing of it changes
/// what is computed.
const ABOUT: [&str; 7] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
    "runtime_config",
    "task_type",
];

/// Settings of LoRA that change nothing in what a stored adapter computes: how its factors began, as far as
/// `init_lora_weights` lets them be; the groups of a kind that `use_qalora` asks for; how weights lie in the base's class,
/// which the family knows; whether tied modules stay tied, which the stored tensors tell; what other programs leave there.
const HARMLESS: [&str; 11] = [
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "merge_weights",
    "qalora_group_size",
    "unsloth_fixed",
];

/// Settings of a prefix that change nothing in it: the table is stored as it came out of the projection.
const HARMLESS_OF_PREFIXES: [&str; 5] =
    ["encoder_hidden_size", "init_weights", "modules_to_save", "num_attention_heads", "prefix_projection"];

/// First values of A and B that leave the weights of the model alone.
const PLAIN: [&str; 4] = ["eva", "gaussian", "mica", "orthogonal"];
/// First values that are subtracted from the model's weights, by how their names begin: what was trained doesn't belong to
/// the model as it's stored.
const SUBTRACTED: [&str; 5] = ["corda", "loftq", "lora_ga", "olora", "pissa"];

/// What an `adapter_config.json` says.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    /// As a recipe would have it.
    pub(super) adapter: Adapter,
    /// Which layers LoRA was put on.
    pub(super) targets: Targets,
    /// Whether tokens count their positions on from a prefix, where PEFT's classes have them do so.
    pub(super) is_past: bool,
    /// How many layers a prefix is for, and how wide its keys are, where that's said.
    pub(super) sizes: [Option<usize>; 2],
    /// What model it was made for, as its maker called it.
    pub(super) base: Option<String>,
}

/// What is followed of LoRA's settings.
#[derive(Deserialize)]
struct LoraKeys {
    r: Option<usize>,
    lora_alpha: Option<f64>,
    lora_dropout: Option<f64>,
    use_rslora: Option<bool>,
    bias: Option<String>,
    #[serde(default)]
    init_lora_weights: Value,
    target_modules: Option<Names>,
    exclude_modules: Option<Names>,
    modules_to_save: Option<Vec<String>>,
    layers_to_transform: Option<Layers>,
    layers_pattern: Option<Names>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// What is followed of a prefix's settings.
#[derive(Deserialize)]
struct PrefixKeys {
    num_virtual_tokens: Option<usize>,
    num_layers: Option<usize>,
    token_dim: Option<usize>,
    num_transformer_submodules: Option<usize>,
    task_type: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl AdapterConfig {
    /// Of a prefix of so many tokens that ChatGLM's own code stored.
    pub(super) fn of_prefix(tokens: usize) -> Self {
        Self {
            adapter: Adapter::PTuning(PTuning {
                tokens,
                dropout: 0.0,
                weights: None,
                base_dtype: WeightForm::default(),
            }),
            targets: Targets::default(),
            is_past: false,
            sizes: [None; 2],
            base: None,
        }
    }

    /// # Errors
    /// Kinds of adapters and settings that aren't supported, or aren't known.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut keys: Map<String, Value> = serde_json::from_slice(bytes)?;
        let base = keys.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned);
        let kind = keys.remove("peft_type");
        match kind.as_ref().and_then(Value::as_str).context("there is no peft_type")? {
            LORA => Ok(Self { base, ..lora(serde_json::from_value(keys.into())?)? }),
            kind @ (PREFIX | OWN_PREFIX) => {
                let is_own = kind == OWN_PREFIX;
                Ok(Self { base, ..prefix(serde_json::from_value(keys.into())?, is_own)? })
            }
            other => bail!("peft_type {other} isn't supported; {LORA} and {PREFIX} are"),
        }
    }
}

fn lora(keys: LoraKeys) -> Result<AdapterConfig> {
    closed(&keys.other, &HARMLESS)?;
    let bias = keys.bias.as_deref().unwrap_or("none");
    ensure!(bias == "none", "bias {bias} isn't supported");
    begins_plainly(&keys.init_lora_weights)?;
    // PEFT's defaults.
    let (r, alpha) = (keys.r.unwrap_or(8), keys.lora_alpha.unwrap_or(8.0));
    ensure!(r > 0, "a rank `r` of 0 is none");
    // Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>: the update is scaled by `alpha / √r`.
    let alpha = if keys.use_rslora == Some(true) { alpha * (r as f64).sqrt() } else { alpha };
    let targets = Targets {
        modules: keys.target_modules,
        but: keys.exclude_modules,
        saved: keys.modules_to_save.unwrap_or_default(),
        layers: keys.layers_to_transform,
        lists: keys.layers_pattern,
    };
    let (dropout, base_dtype) = (keys.lora_dropout.unwrap_or(0.0), WeightForm::default());
    let adapter = Adapter::Lora(Lora { r, alpha, dropout, targets: targets.named(), weights: None, base_dtype });
    Ok(AdapterConfig { adapter, targets, is_past: false, sizes: [None; 2], base: None })
}

fn prefix(keys: PrefixKeys, is_own: bool) -> Result<AdapterConfig> {
    closed(&keys.other, &HARMLESS_OF_PREFIXES)?;
    let tokens = keys.num_virtual_tokens.context("there are no num_virtual_tokens")?;
    let submodules = keys.num_transformer_submodules.unwrap_or(1);
    ensure!(
        submodules == 1,
        "num_transformer_submodules {submodules} isn't supported: a prefix is for one stack of layers"
    );
    let is_past = match keys.task_type.as_deref() {
        _ if is_own => false,
        Some("SEQ_2_SEQ_LM") => bail!("task_type SEQ_2_SEQ_LM isn't supported for {PREFIX}"),
        Some(_) => true,
        // What was written here before there was an `auto_mapping` beside it, tokens kept their positions.
        None if !keys.other.contains_key("auto_mapping") => false,
        None => bail!(Hinted::with(
            format!("{PREFIX} without a task_type does nothing in PEFT: the model is left as it is"),
            "write \"task_type\": \"CAUSAL_LM\" there, if the prefix is to be used",
        )),
    };
    Ok(AdapterConfig { is_past, sizes: [keys.num_layers, keys.token_dim], ..AdapterConfig::of_prefix(tokens) })
}

/// # Errors
/// The first key that says something and isn't known to be `harmless`.
fn closed(other: &Map<String, Value>, harmless: &[&str]) -> Result<()> {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let known = |key: &str| ABOUT.contains(&key) || harmless.contains(&key);
    let Some((key, value)) = other.iter().find(|(key, value)| says(value) && !known(key)) else { return Ok(()) };
    bail!("{key} {value} isn't supported: it may change what the adapter computes");
}

/// # Errors
/// Ways to begin that change the model itself, and those that aren't known.
fn begins_plainly(initial: &Value) -> Result<()> {
    let name = match initial {
        Value::Null | Value::Bool(_) => return Ok(()),
        Value::String(name) => name,
        other => bail!("init_lora_weights {other} isn't known"),
    };
    let lower = name.to_lowercase();
    if let Some(way) = SUBTRACTED.iter().find(|way| lower.starts_with(**way)) {
        let message = format!(
            "init_lora_weights {name} isn't supported: it changed the model's own weights before the adapter was trained, \
             and they aren't stored with it"
        );
        let plain = "save it with PEFT's `save_pretrained(DIR, path_initial_model_for_weight_conversion=…)`, which makes a \
                     plain LoRA of it";
        bail!(Hinted::new(message, (*way != "loftq").then(|| plain.to_owned())));
    }
    ensure!(PLAIN.contains(&&lower[..]), "init_lora_weights {name} isn't known");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: Value) -> Result<AdapterConfig, String> {
        AdapterConfig::read(config.to_string().as_bytes()).map_err(|error| format!("{error:#}"))
    }

    /// All keys of PEFT 0.21.2's `LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"])`, as `save_pretrained` writes
    /// them, each at its default.
    fn lora() -> Value {
        json!({
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
            "base_model_name_or_path": "base", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
            "eva_config": null, "exclude_modules": null, "fan_in_fan_out": true, "inference_mode": true,
            "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.0,
            "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
            "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 8,
            "rank_pattern": {}, "revision": null, "target_modules": ["c_attn"], "target_parameters": null,
            "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
            "use_qalora": false, "use_rslora": false, "velora_config": null
        })
    }

    fn with(mut config: Value, key: &str, value: Value) -> Value {
        config[key] = value;
        config
    }

    #[test]
    fn every_setting_of_a_lora_that_is_not_followed_is_refused_by_name() {
        read(lora()).unwrap();
        for (key, value) in [
            ("alora_invocation_tokens", json!([1, 2])),
            ("alpha_pattern", json!({ "c_attn": 4 })),
            ("arrow_config", json!({ "top_k": 2 })),
            ("bias", json!("lora_only")),
            ("enable_lora", json!([true, false, true])),
            ("kasa_config", json!({ "beta": 0.1 })),
            ("layer_replication", json!([[0, 2], [1, 3]])),
            ("lora_bias", json!(true)),
            ("monteclora_config", json!({ "samples": 4 })),
            ("rank_pattern", json!({ "c_attn": 4 })),
            ("target_parameters", json!(["experts.gate_up_proj"])),
            ("trainable_token_indices", json!([3])),
            ("use_bdlora", json!({ "nblocks": 2 })),
            ("use_dora", json!(true)),
            ("use_qalora", json!(true)),
            ("velora_config", json!({ "scale": 2.0 })),
            ("of_a_later_version", json!("on")),
            ("of_a_later_version", json!(0.5)),
        ] {
            let error = read(with(lora(), key, value.clone())).unwrap_err();
            assert!(error.starts_with(&format!("{key} ")), "{key} {value}: {error}");
        }
        read(with(lora(), "of_a_later_version", Value::Null)).unwrap();
    }

    #[test]
    fn first_values_that_change_the_model_are_refused() {
        for name in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "later"] {
            let error = read(with(lora(), "init_lora_weights", json!(name))).unwrap_err();
            assert!(error.starts_with(&format!("init_lora_weights {name} ")), "{error}");
        }
        for plain in [json!(true), json!(false), json!("gaussian"), json!("eva"), json!("orthogonal"), json!("mica")] {
            read(with(lora(), "init_lora_weights", plain)).unwrap();
        }
    }

    #[test]
    fn what_is_left_out_is_at_its_default_and_a_stabilized_scale_is_followed() {
        let settings = |config: Value| match read(config).unwrap().adapter {
            Adapter::Lora(lora) => (lora.r, lora.alpha),
            Adapter::PTuning(_) => panic!("no LoRA"),
        };
        assert_eq!(settings(json!({ "peft_type": "LORA" })), (8, 8.0));
        let stabilized = with(with(lora(), "use_rslora", json!(true)), "r", json!(4));
        assert_eq!(settings(stabilized), (4, 16.0));
    }

    #[test]
    fn a_prefix_says_by_its_task_where_tokens_begin_to_count() {
        // PEFT 0.21.2's `PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)` on a GPT-2 of two layers.
        let peft = json!({
            "auto_mapping": null, "base_model_name_or_path": "base", "encoder_hidden_size": 64, "inference_mode": true,
            "init_weights": null, "modules_to_save": null, "num_attention_heads": 4, "num_layers": 2,
            "num_transformer_submodules": 1, "num_virtual_tokens": 5, "peft_type": "PREFIX_TUNING",
            "peft_version": "0.21.2", "prefix_projection": false, "revision": null, "task_type": "CAUSAL_LM",
            "token_dim": 64
        });
        assert!(read(peft.clone()).unwrap().is_past);
        let unused = read(with(peft.clone(), "task_type", Value::Null)).unwrap_err();
        assert!(unused.contains("without a task_type does nothing in PEFT"), "{unused}");
        assert!(!read(with(peft.clone(), "peft_type", json!("PIPE_PREFIX_TUNING"))).unwrap().is_past);
        let mut former = with(peft.clone(), "task_type", Value::Null);
        former.as_object_mut().unwrap().remove("auto_mapping");
        assert!(!read(former).unwrap().is_past);
        let error = read(with(peft.clone(), "num_transformer_submodules", json!(2))).unwrap_err();
        assert!(error.starts_with("num_transformer_submodules 2 isn't supported"), "{error}");
        let error = read(with(peft, "prefix_scale", json!(2))).unwrap_err();
        assert!(error.starts_with("prefix_scale 2 isn't supported"), "{error}");
    }
}
