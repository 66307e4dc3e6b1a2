//! LoRA with modules that were trained whole (PEFT's `modules_to_save`), and adapters that belong to another model.

use crate::{
    common::need,
    prefix_tuning::{LENGTH, VOCABULARY, asked, base, check, logits},
};
use std::{collections::BTreeMap, path::Path};

use burn::tensor::{Device, Tensor, TensorData};
use pipe::{
    network::model::{CopyOptions, Network, copy},
    spec::{Dtype, WeightForm},
};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const WEIGHTS: &str = "adapter/adapter_model.safetensors";
const CONFIG: &str = "adapter/adapter_config.json";

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|at| (step * at as f32).sin() * 0.5).collect()
}

/// A model, and beside it a LoRA that has learned something.
fn adapted(family: &str, targets: &[&str]) -> TempDir {
    let (own, stored) = (tempdir().unwrap(), tempdir().unwrap());
    base(family, own.path());
    let mut network = Network::load_frozen(own.path(), WeightForm::F32, &Device::flex()).unwrap();
    let adapter = serde_json::from_value(json!({ "lora": { "r": 2, "alpha": 4, "targets": targets } })).unwrap();
    network.adapt(&adapter, 3).unwrap();
    for (number, b) in network.parameters_mut().iter_mut().filter(|matrix| matrix.name.contains("lora_B")).enumerate() {
        let shape = b.shape();
        let values = wave(shape[0] * shape[1], 1.1 + number as f32);
        b.set(Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex()));
    }
    network.save_beside(own.path(), stored.path()).unwrap();
    stored
}

/// Changes the adapter's tensors, of which each has a name and a shape.
fn edit(stored: &Path, change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) {
    let path = stored.join(WEIGHTS);
    let bytes = std::fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<_, _> =
        read.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))).collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn configure(stored: &Path, settings: Value) {
    let path = stored.join(CONFIG);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(&path, config.to_string()).unwrap();
}

/// A GPT-2 with LoRA, of which these modules were trained, too; without that its two are one table.
fn with_modules(saved: &[&str]) -> TempDir {
    let stored = adapted("gpt2", &["c_attn"]);
    configure(stored.path(), json!({ "modules_to_save": saved }));
    edit(stored.path(), |tensors| {
        for (name, key, step) in [("lm_head", "lm_head.weight", 0.9), ("wte", "transformer.wte.weight", 1.7)] {
            if saved.contains(&name) {
                let bytes = wave(VOCABULARY * 32, step).into_iter().flat_map(f32::to_le_bytes).collect();
                tensors.insert(format!("base_model.model.{key}"), (vec![VOCABULARY, 32], bytes));
            }
        }
    });
    stored
}

/// The last token's first logits, by `adapters.py peft` (PEFT 0.21.2, transformers 5.23.0).
const LOGITS: [(&[&str], [f32; 6]); 4] = [
    (&[], [-0.54232585, -1.233619, 0.6382519, 1.5789794, 3.6561184, -1.2351627]),
    (&["lm_head"], [2.302208, -2.1249173, 1.3738518, -0.25182766, -0.9382031, 1.874908]),
    (&["wte"], [-1.7858212, 0.608_535_2, -1.4396169, 0.7519354, 5.3989134, -0.66601396]),
    (&["lm_head", "wte"], [2.021215, -1.387519, 0.37916386, 0.7315734, -1.6447825, 2.1138468]),
];

#[test]
fn modules_that_were_trained_whole_are_each_for_itself_as_in_peft() {
    for (saved, expected) in LOGITS {
        let stored = with_modules(saved);
        let last = |logits: Vec<f32>| logits[(LENGTH - 1) * VOCABULARY..][..6].to_vec();
        let beside = Network::load(stored.path(), &Device::flex()).unwrap();
        check(&format!("{saved:?}"), &last(logits(&beside)), &expected);
        let merged = Network::load_merged(stored.path(), &Device::flex()).unwrap();
        check(&format!("{saved:?} merged"), &last(logits(&merged)), &expected);
        let exported = tempdir().unwrap();
        let options = CopyOptions { dtype: Dtype::Stored, most: u64::MAX, without: &[] };
        copy(stored.path(), exported.path(), &options).unwrap();
        let exported = Network::load(exported.path(), &Device::flex()).unwrap();
        check(&format!("{saved:?} exported"), &last(logits(&exported)), &expected);
    }
}

#[test]
fn peft_gives_the_logits_of_modules_that_were_trained_whole() {
    for (saved, _) in LOGITS {
        let stored = with_modules(saved);
        let [model, adapter] = ["", "adapter"].map(|folder| stored.path().join(folder).display().to_string());
        let found = need!(asked("gpt2", &["peft", &model, &adapter]));
        eprintln!("{saved:?}: {:?}", &found[(LENGTH - 1) * VOCABULARY..][..6]);
        let network = Network::load(stored.path(), &Device::flex()).unwrap();
        check(&format!("{saved:?}"), &found, &logits(&network));
    }
}

fn refusal(stored: &Path) -> String {
    let of = |result: anyhow::Result<()>| format!("{:#}", result.unwrap_err());
    let beside = of(Network::load(stored, &Device::flex()).map(|_| ()));
    assert_eq!(of(Network::load_merged(stored, &Device::flex()).map(|_| ())), beside);
    // Before anything is read.
    assert_eq!(of(Network::inspect(stored).map(|_| ())), beside);
    beside
}

#[test]
fn an_adapter_for_fewer_layers_is_told() {
    let stored = adapted("gpt2", &["c_attn", "mlp.c_proj"]);
    edit(stored.path(), |tensors| tensors.retain(|name, _| !name.contains(".h.2.")));
    let error = refusal(stored.path());
    assert!(
        error.ends_with("doesn't fit the model: it has no change of transformer.h.2.attn.c_attn and 1 more, which its target_modules mean"),
        "{error}"
    );
    // Its settings may say that these are all.
    configure(stored.path(), json!({ "layers_to_transform": [0, 1] }));
    let network = Network::load(stored.path(), &Device::flex()).unwrap();
    let again = tempdir().unwrap();
    network.save(again.path()).unwrap();
    assert_eq!(logits(&Network::load(again.path(), &Device::flex()).unwrap()), logits(&network));
}

#[test]
fn an_adapter_for_more_layers_is_told_whether_it_is_merged_or_not() {
    let stored = adapted("gpt2", &["c_attn"]);
    configure(stored.path(), json!({ "base_model_name_or_path": "models/larger" }));
    edit(stored.path(), |tensors| {
        let more: Vec<_> = tensors.iter().filter(|(name, _)| name.contains(".h.2.")).collect();
        let more: Vec<_> =
            more.iter().map(|(name, tensor)| (name.replace(".h.2.", ".h.3."), (*tensor).clone())).collect();
        tensors.extend(more);
    });
    let error = refusal(stored.path());
    assert!(
        error.contains("base_model.model.transformer.h.3.attn.c_attn.lora_A.weight belongs to no layer of this model")
    );
    let error = Network::load(stored.path(), &Device::flex()).err().unwrap();
    let hint = pipe::support::Hinted::of(&error).hint.unwrap();
    assert_eq!(hint, "its adapter_config.json says that it was made for `models/larger`");
}

#[test]
fn how_a_weight_lies_is_the_familys_affair() {
    // PEFT corrects what `fan_in_fan_out` says to what the module is.
    let stored = adapted("gpt2", &["attn.c_proj"]);
    let expected = logits(&Network::load(stored.path(), &Device::flex()).unwrap());
    configure(stored.path(), json!({ "fan_in_fan_out": false }));
    check("merged", &logits(&Network::load_merged(stored.path(), &Device::flex()).unwrap()), &expected);
}

#[test]
fn embeddings_of_an_encoder_decoder_that_were_trained_whole_are_refused_by_name() {
    let stored = adapted("transformer", &["q_proj"]);
    edit(stored.path(), |tensors| {
        let bytes = wave(VOCABULARY * 32, 0.9).into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.insert("base_model.model.model.shared.weight".into(), (vec![VOCABULARY, 32], bytes));
    });
    let error = refusal(stored.path());
    assert!(error.contains("an adapter with model.shared among its modules_to_save isn't supported"), "{error}");
}
