//! An adapter's files, so that PEFT opens them: the task that tells it which class of transformers to take, and names of
//! tensors as that class has them.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use fs_err as fs;
use serde_json::{Value, json};

use super::{config, peft, prefix};
use crate::{
    network::{
        checkpoint::{ADAPTER, ADAPTER_FOLDER, ADAPTER_WEIGHTS, BASE, CONFIG},
        model::{
            ids::WeightRole,
            network::Network,
            on_disk::PrefixTuning,
            tensors::{self, TensorEntry},
        },
    },
    spec::Adapter,
};

/// Writes all that a network learns, its adapter and heads, into the folder `adapter` of a directory.
///
/// # Errors
/// The file system's and the device's.
pub(super) fn write(network: &Network, settings: &Adapter, directory: &Path) -> Result<()> {
    let directory = directory.join(ADAPTER_FOLDER);
    fs::create_dir_all(&directory)?;
    let on_disk = &network.family().on_disk;
    let outer = match settings {
        Adapter::Lora(_) => peft::PREFIX,
        Adapter::PTuning(_) => peft::UNWRAPPED,
    };
    let key = |name: &str| match name {
        prefix::NAME => peft::PROMPT.to_owned(),
        name if name.starts_with(peft::PREFIX) => name.to_owned(),
        name => format!("{outer}{}", on_disk.written(name)),
    };
    let mut entries = Vec::new();
    let mut heads = BTreeSet::new();
    for parameter in network.parameters().iter().filter(|parameter| parameter.is_trainable()) {
        if parameter.role != WeightRole::Adapter {
            let module = parameter.name.trim_end_matches(".bias").trim_end_matches(".weight");
            heads.insert(on_disk.written(module));
        }
        entries.push(TensorEntry::single(key(&parameter.name), parameter.shape(), || parameter.data()));
    }
    tensors::write(&directory.join(ADAPTER_WEIGHTS), entries)?;
    let mut config = match settings {
        // The task is told by `settle`, where the adapter leaves the store.
        Adapter::Lora(lora) => json!({
            "peft_type": config::LORA,
            "task_type": null,
            "r": lora.r,
            "lora_alpha": whole(lora.alpha),
            "lora_dropout": lora.dropout,
            "target_modules": lora.targets,
            "fan_in_fan_out": !on_disk.transposed.is_empty(),
            "bias": "none",
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
        }),
        Adapter::PTuning(tuning) => prefix_config(network, tuning.tokens),
    };
    config[BASE] = "..".into();
    config["inference_mode"] = true.into();
    if !heads.is_empty() {
        config["modules_to_save"] = json!(heads);
    }
    Ok(fs::write(directory.join(ADAPTER), format!("{config:#}\n"))?)
}

/// The settings of a prefix of so many tokens: as PEFT has them where it gives the same numbers.
fn prefix_config(network: &Network, tokens: usize) -> Value {
    let parameters = network.parameters();
    let is_past = parameters.adapters.prefix.as_ref().is_some_and(|prefix| prefix.shift > 0);
    let kind = match network.family().on_disk.prefix_tuning {
        PrefixTuning::Past if is_past => config::PREFIX,
        PrefixTuning::Encoder => config::PREFIX,
        PrefixTuning::Past | PrefixTuning::Own => config::OWN_PREFIX,
    };
    let first = parameters.attentions.first();
    json!({
        "peft_type": kind,
        // PEFT leaves a prefix without a task aside; what has no task of its own gives features.
        "task_type": task(network.architecture().class_name(network.pair.is_some())).unwrap_or("FEATURE_EXTRACTION"),
        "auto_mapping": null,
        "num_virtual_tokens": tokens,
        "num_transformer_submodules": 1,
        "num_layers": parameters.attentions.len(),
        "num_attention_heads": first.map(|attention| attention.kv_heads),
        "token_dim": first.map(|attention| attention.width),
        "encoder_hidden_size": first.map(|attention| attention.width),
        "prefix_projection": false,
    })
}

/// Makes an adapter that lies beside its model's directory, or in it, one that PEFT's `AutoPeftModel` opens by itself: says
/// where the model lies now, since PEFT takes no path from the adapter's own directory, and which class it is.
///
/// # Errors
/// The file system's, and configs that aren't JSON.
pub fn settle(adapter: &Path, model: &Path) -> Result<()> {
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let path = adapter.join(ADAPTER);
    let (mut config, model_config) = (read(&path)?, read(&model.join(CONFIG))?);
    config[BASE] = fs::canonicalize(model)?.to_string_lossy().into();
    let class = model_config["architectures"][0].as_str().unwrap_or_default();
    let is_unsaid = config["task_type"].is_null() && config["auto_mapping"].is_null();
    if config["peft_type"] == config::LORA && is_unsaid {
        // With a linear head of our own no class of transformers gives its answers.
        let judges = !model_config["pipe"]["classifier"].is_null() && !class.ends_with(CLASSIFIER);
        let task = task(class).filter(|_| !judges);
        config["task_type"] = task.into();
        if task.is_none() && !judges && class.starts_with("Bert") {
            config["auto_mapping"] = json!({ "base_model_class": class, "parent_library": "transformers" });
        }
    } else if config["peft_type"] == config::PREFIX && class.ends_with(CLASSIFIER) {
        config["task_type"] = task(class).into();
    }
    Ok(fs::write(path, format!("{config:#}\n"))?)
}

/// How the names of classes for sequence classification end.
const CLASSIFIER: &str = "ForSequenceClassification";

/// The task that PEFT knows a class of transformers by.
fn task(class: &str) -> Option<&'static str> {
    let tasks: [(&[&str], _); 3] = [
        (&[CLASSIFIER], "SEQ_CLS"),
        (&["LMHeadModel", "ForCausalLM", "ChatGLMModel"], "CAUSAL_LM"),
        (&["MTModel", "ForConditionalGeneration"], "SEQ_2_SEQ_LM"),
    ];
    tasks.iter().find(|(endings, _)| endings.iter().any(|ending| class.ends_with(ending))).map(|(_, task)| *task)
}

/// PEFT writes whole numbers without a point.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e9 { json!(number as i64) } else { json!(number) }
}
