//! A mix of objectives goes PyTorch's way: parameters that only some steps have gradients of. `PIPE_PYTHON` names a Python
//! that has torch and transformers.

use crate::common::{self, need, needs::Need, objectives};
use std::{path::Path, process::Command};

use burn::tensor::Device;
use objectives::{SPECIALS, corpus, documents, spec};
use pipe::{
    learning::{
        objectives::Mix,
        train::{Silent, TrainSettings, Trainer},
    },
    network::{
        batch::{Batch, Feed, Layout, SlotRange},
        model::Network,
    },
};
use serde_json::{Value, json};

const STEPS: usize = 120;

/// What a step has of each example, row by row.
fn rows(batch: &Batch) -> Value {
    let range = |slots: &SlotRange| slots.start as usize..(slots.start + slots.length) as usize;
    let rows = |values: &[u32]| -> Vec<Vec<u32>> {
        batch
            .examples
            .iter()
            .map(|slots| values.get(range(slots)).map_or(vec![0; slots.length as usize], Into::into))
            .collect()
    };
    let mut labels = vec![-100; batch.tokens.len()];
    batch.targets.iter().for_each(|target| labels[target.at as usize] = i64::from(target.token));
    let labels: Vec<&[i64]> = batch.examples.iter().map(|slots| &labels[range(slots)]).collect();
    json!({ "tokens": rows(&batch.tokens), "segments": rows(&batch.segments), "labels": labels, "pairs": batch.pairs })
}

#[test]
fn a_mix_of_masks_and_pairs_agrees_with_pytorch() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = tempfile::tempdir().unwrap();
    let place = |name: &str| space.path().join(name);
    ["initial", "trained"].into_iter().for_each(|name| std::fs::create_dir(place(name)).unwrap());
    let model =
        json!({ "bert": { "hidden": 32, "layers": 2, "heads": 2, "max_length": 32, "initializer_range": 0.1 } });
    let mut network = Network::new(&spec(model), SPECIALS.vocab_size, 7, &Device::flex()).unwrap();
    network.add_language_head(7).unwrap();
    network.add_pair_head(7);
    network.save(&place("initial")).unwrap();

    let text = documents(&[&[7, 9, 12, 5, 20], &[11, 8, 6, 3, 3], &[30, 30, 3], &[5, 5, 5, 5, 5, 5], &[15, 14, 9]]);
    let entries = json!([{ "weight": 9, "masked_lm": {} }, { "weight": 1, "sentence_order": {} }]);
    let train = json!({
        "steps": STEPS, "lr": 2e-3, "warmup_steps": 10, "max_length": 32, "batch": { "examples": 6 }, "dropout": 0.0,
        "weight_decay": 0.01, "max_grad_norm": 1.0,
    });
    let train: pipe::spec::Train = spec(train);
    let mix = Mix::new(&spec::<Vec<_>>(entries), &corpus(&text), &train, 5, Layout::Ragged).unwrap();
    let mut trainer = Trainer::new(network, TrainSettings::new(&train, STEPS, None).unwrap());
    trainer.run(&mix, None, None, &mut Silent).unwrap();
    trainer.network.save(&place("trained")).unwrap();

    let steps = trainer.curve().points().enumerate().map(|(at, point)| {
        let step = mix.step(at).unwrap();
        let mut rows = rows(&step.batches[0]);
        (rows["loss"], rows["lr"]) = (json!(point.loss), json!(point.lr));
        rows
    });
    let steps: Vec<_> = steps.collect();
    let with_pairs = steps.iter().filter(|step| step["pairs"] != json!([])).count();
    assert!((5..25).contains(&with_pairs), "{with_pairs}");
    std::fs::write(place("steps.json"), json!(steps).to_string()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/learning/mix_parity/train.py");
    let mut command = Command::new(python);
    command.arg(script).args(["steps.json", "initial", "trained"].map(place));
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    eprintln!("{}", output.stdout.trim());
    let apart: Value = serde_json::from_str(output.stdout.trim()).unwrap();
    assert_eq!(apart["without"], STEPS, "no step uses all parameters");
    for what in ["loss", "weights"] {
        assert!(apart[what].as_f64().unwrap() < 1e-5, "{apart}");
    }
}
