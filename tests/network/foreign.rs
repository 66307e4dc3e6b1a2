//! Checkpoints as transformers writes them, with the logits that it gives: heads of their own beside tied tables, tied
//! tensors under either name, classifiers with their labels.
//!
//! Weights are numbers out of their names, so that both sides have the same. The references came from transformers 5.23:
//! `MODEL.from_pretrained(DIRECTORY)` over these files, in eval mode, with the ids that stand here.

use burn::tensor::Device;
use pipe::network::{
    batch::{Example, Layout, lay_out},
    model::{Network, Pooling},
};
use serde_json::{Value, json};

use super::named_weights::{
    IDS, Shapes, batch, bert, glm4, gpt2, last_logits, layer, load, marian, masked_head, try_load, values, without,
    write,
};
use crate::common::{Space, tensors::assert_near};
use pipe::support::random::Key;

/// The tensor of a checkpoint that its config says is another one.
fn untied(config: &Value, shapes: &Shapes) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config, shapes);
    Network::load(directory.path(), &Device::flex()).unwrap().untied().map(str::to_owned)
}

#[test]
fn a_head_of_its_own_goes_before_what_the_config_says() {
    let head: (String, Vec<usize>) = ("lm_head.weight".into(), vec![12, 8]);
    let (config, mut all) = gpt2();
    all.push(head.clone());
    let own = [
        -0.235425, -0.221871, 1.181571, 1.195124, 1.455693, 1.469247, 1.4828, -0.046107, -0.434352, -0.420798,
        -0.407244, -0.190637,
    ];
    assert_near("gpt2", &last_logits(&load(&config, &all), 0), &own, 1e-5);
    assert_eq!(untied(&config, &all).as_deref(), Some("lm_head.weight"));

    let (config, mut all) = glm4(false);
    all.push(head.clone());
    let own = [
        -1.251913, -1.12749, -0.742599, -0.618176, -0.586972, -0.462549, -0.338127, -0.730722, 1.002466, 1.126889,
        1.251311, 1.566587,
    ];
    assert_near("glm4", &last_logits(&load(&config, &all), 0), &own, 1e-5);

    // Its bias is that of the matrix, too.
    let (config, all) = bert();
    let own = [
        -0.387858, 0.272855, -0.057847, -0.894183, -0.23347, -0.572758, -0.033132, 0.627581, -0.921424, -0.260712,
        -0.48608, -0.825367,
    ];
    assert_near("bert", &last_logits(&load(&config, &[all, masked_head()].concat()), 6), &own, 1e-5);
}

#[test]
fn a_tied_tensor_is_found_under_either_name() {
    let head: (String, Vec<usize>) = ("lm_head.weight".into(), vec![12, 8]);
    let (config, all) = gpt2();
    let mut all = without(&all, &["transformer.wte.weight"]);
    all.push(head.clone());
    let tied = [
        0.263151, 0.271872, 1.404628, 1.41335, 1.249676, 1.258397, 1.267119, -0.29581, -1.030726, -1.022005, -1.013283,
        -0.26998,
    ];
    assert_near("gpt2", &last_logits(&load(&config, &all), 0), &tied, 1e-5);
    assert_eq!(untied(&config, &all), None);

    let (config, all) = glm4(false);
    let mut all = without(&all, &["model.embed_tokens.weight"]);
    all.push(head);
    let tied = [
        -1.490296, -1.450183, 0.048603, 0.088715, 1.529516, 1.569629, 1.609742, 1.268949, 0.608318, 0.64843, 0.688543,
        0.550228,
    ];
    assert_near("glm4", &last_logits(&load(&config, &all), 0), &tied, 1e-5);

    let (config, all) = bert();
    let all = [all, masked_head()].concat();
    let all = without(&all, &["bert.embeddings.word_embeddings.weight", "cls.predictions.bias"]);
    let tied = [
        0.149385, 0.814157, -0.113006, -0.496648, 0.168123, -0.167105, -0.363694, 0.301077, -0.830168, -0.165396,
        -0.858292, -1.193521,
    ];
    assert_near("bert", &last_logits(&load(&config, &all), 6), &tied, 1e-5);
}

/// The source is IDS, the target 4 and 6 behind what begins it.
#[test]
fn marians_head_and_table_are_told_apart() {
    let logits = |network: &Network| {
        let tokens = [&IDS[..], &[4, 6]].concat();
        network.logits_at(&batch(&tokens, 6), &[7]).unwrap().concat()
    };
    let (config, mut all) = marian();
    all.push(("lm_head.weight".into(), vec![12, 8]));
    let own = [
        1.067888, 1.691694, 2.246019, 1.869825, 0.484873, 0.108679, 0.732484, -0.387013, -1.740051, -1.116246,
        -1.49244, -1.061104,
    ];
    assert_near("with both", &logits(&load(&config, &all)), &own, 1e-5);
    let tied = [
        1.127521, 1.75075, 2.318697, 1.941926, 0.665819, 0.289048, 0.912277, -0.348355, -1.72022, -1.09699, -1.473761,
        -1.189627,
    ];
    assert_near("with the head alone", &logits(&load(&config, &without(&all, &["model.shared.weight"]))), &tied, 1e-5);

    all.push(("model.encoder.embed_tokens.weight".into(), vec![12, 8]));
    let told = format!("{:#}", try_load(&config, &all).err().unwrap());
    assert!(told.contains("model.encoder.embed_tokens.weight isn't model.shared.weight"), "{told}");
    let (config, mut all) = marian();
    all.push(("model.decoder.embed_positions.weight".into(), vec![16, 8]));
    let told = format!("{:#}", try_load(&config, &all).err().unwrap());
    assert!(told.contains("model.decoder.embed_positions.weight isn't what is computed for it"), "{told}");
}

const LABELS: [&str; 3] = ["sport", "food", "arts"];

fn labelled(mut config: Value, class: &str) -> Value {
    config["architectures"] = json!([class]);
    config["id2label"] = (0..).zip(LABELS).map(|(id, label): (u32, _)| (id.to_string(), json!(label))).collect();
    config
}

/// The logits of a classifier's labels, in the order of [`LABELS`].
fn classes(config: &Value, shapes: &Shapes, example: Example) -> Vec<f32> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config, shapes);
    let network = Network::load(directory.path(), &Device::flex()).unwrap_or_else(|error| panic!("{error:#}"));
    let labels = network.labels().unwrap();
    assert_eq!(labels.names, ["arts", "food", "sport"]);
    assert_eq!(labels.numbers, [2, 1, 0]);
    let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
    let found = network.class_log_probabilities(&batch).unwrap().concat();
    [2, 1, 0].map(|at| found[at] as f32).into()
}

/// As probabilities are: their logarithms are the logits but for a constant.
fn log_softmax(logits: [f32; 3]) -> Vec<f32> {
    let sum = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
    logits.iter().map(|logit| logit - sum).collect()
}

#[test]
fn classifiers_have_their_heads() {
    let ids = |length: usize| Example::sequence(0, IDS.to_vec(), length);
    let (config, mut all) = bert();
    all.extend(layer("bert.pooler.dense", [8, 8], 8));
    all.extend(layer("classifier", [3, 8], 3));
    let config = labelled(config, "BertForSequenceClassification");
    assert_near("bert", &classes(&config, &all, ids(6)), &log_softmax([0.578134, 0.682277, 0.394978]), 1e-5);
    let pair = Example::sequence(0, vec![2, 5, 7, 3, 6, 9, 3], 7);
    let pair = Example { segments: vec![0, 0, 0, 0, 1, 1, 1], ..pair };
    assert_near("a pair", &classes(&config, &all, pair), &log_softmax([0.67997, 0.654256, 0.394513]), 1e-5);

    let score: (String, Vec<usize>) = ("score.weight".into(), vec![3, 8]);
    let (config, mut all) = gpt2();
    all.push(score.clone());
    let config = labelled(config, "GPT2ForSequenceClassification");
    assert_near("gpt2", &classes(&config, &all, ids(0)), &log_softmax([-0.229473, -0.215919, 1.187522]), 1e-5);
    let (config, mut all) = glm4(true);
    all.push(score);
    let config = labelled(config, "GlmForSequenceClassification");
    assert_near("glm", &classes(&config, &all, ids(0)), &log_softmax([-1.169284, -1.148216, 0.861749]), 1e-5);
    assert!(!load(&config, &all).architecture().predicts(), "there is no other head");
}

#[test]
fn a_head_is_kept_for_its_own_labels_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (config, mut all) = bert();
    all.extend(layer("bert.pooler.dense", [8, 8], 8));
    all.extend(layer("classifier", [3, 8], 3));
    write(directory.path(), &labelled(config, "BertForSequenceClassification"), &all);
    let load = |labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let mut network = Network::load_to_train(directory.path(), None, Some(&labels), &Device::flex()).unwrap();
        network.add_classifier(labels.len(), Pooling::First, 1).unwrap();
        let weight = network.parameters().named("classifier.weight").unwrap().data().unwrap();
        weight.iter::<f32>().collect::<Vec<f32>>()
    };
    let stored = values("classifier.weight", 24);
    let reordered = [&stored[16..], &stored[8..16], &stored[..8]].concat();
    assert_eq!(load(&["arts", "food", "sport"]), reordered);
    assert_ne!(load(&["arts", "food", "music"]), reordered);
    assert_eq!(load(&["no", "yes"]).len(), 16);
}

#[test]
fn settings_are_read_under_other_names() {
    let (config, all) = gpt2();
    let expected = last_logits(&load(&config, &all), 0);
    let mut renamed = config.clone();
    let names =
        [("n_embd", "hidden_size"), ("n_positions", "max_position_embeddings"), ("n_layer", "num_hidden_layers")];
    for (own, other) in names {
        renamed[other] = renamed.as_object_mut().unwrap().remove(own).unwrap();
    }
    assert_eq!(last_logits(&load(&renamed, &all), 0), expected);
    renamed["n_embd"] = json!(8);
    assert_eq!(last_logits(&load(&renamed, &all), 0), expected);
    renamed["n_embd"] = json!(16);
    let told = format!("{:#}", try_load(&renamed, &all).err().unwrap());
    assert!(told.ends_with("n_embd is 16, but hidden_size, which is the same, is 8"), "{told}");

    let (mut config, all) = glm4(true);
    config["tie_word_embeddings"] = json!(true);
    let expected = last_logits(&load(&config, &all), 0);
    let with = |key: &str, value: Value| {
        let mut config = config.clone();
        config[key] = value;
        try_load(&config, &all).map(|network| last_logits(&network, 0))
    };
    let spellings = [
        ("rope_theta", json!(1e4)),
        ("rope_parameters", json!({ "rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5 })),
        ("rope_scaling", json!({ "type": "default" })),
    ];
    for (key, value) in spellings {
        assert_eq!(with(key, value).unwrap(), expected, "{key}");
    }
    let turned =
        |theta: f64| with("rope_parameters", json!({ "rope_theta": theta, "partial_rotary_factor": 1.0 })).unwrap();
    assert_ne!(turned(10.0), turned(1e4));
    let told = format!("{:#}", with("rope_scaling", json!({ "type": "spiral", "factor": 2.0 })).unwrap_err());
    assert!(told.ends_with("the rope_type \"spiral\" in rope_scaling isn't supported"), "{told}");
}

#[test]
fn dropout_is_the_configs() {
    let rates = |(mut config, all): (Value, Shapes), said: Value| {
        config.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        let rates = load(&config, &all).architecture().dropout();
        rates.map(|rates| [rates.embedding, rates.attention, rates.hidden])
    };
    assert_eq!(rates(gpt2(), json!({ "attn_pdrop": 0.0, "resid_pdrop": 0.2 })).unwrap(), [0.1, 0.0, 0.2]);
    let said = json!({ "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2 });
    assert_eq!(rates(bert(), said).unwrap(), [0.3, 0.2, 0.3]);
    let tied = || {
        let (mut config, all) = glm4(true);
        config["tie_word_embeddings"] = json!(true);
        (config, all)
    };
    assert_eq!(rates(tied(), json!({})).unwrap(), [0.0; 3]);
    assert_eq!(rates(tied(), json!({ "attention_dropout": 0.2 })).unwrap(), [0.0, 0.2, 0.0]);
    assert_eq!(rates(marian(), json!({ "dropout": 0.2 })).unwrap(), [0.2, 0.0, 0.2]);
    let told = rates(marian(), json!({ "activation_dropout": 0.1 })).unwrap_err().to_string();
    assert_eq!(told, "activation_dropout 0.1 isn't supported");
}

/// A vocabulary of words, for BERT by its rules and for others by white space.
fn tokenizer(space: &Space, bert: bool) {
    let words = ["[PAD]", "</s>", "[CLS]", "[SEP]", "[UNK]", "a", "b", "c", "d", "e", "f", "g"];
    if bert {
        space.write("model/vocab.txt", words.join("\n"));
        return;
    }
    let vocabulary: Value = (0..).zip(words).map(|(id, word): (u32, _)| (word.to_owned(), json!(id))).collect();
    let words = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary },
    });
    space.write("model/tokenizer.json", words.to_string());
}

const IMPORTED: &str = "\
stages:
  ck:
    import: { path: model }
  again:
    finetune:
      from: ck
      data: { train: { path: rows.tsv } }
      task: { classification: { head: linear, template: \"{{ text }}\", words: { food: f, sport: s, arts: a } } }
      train: { steps: 1, lr: 0, max_length: 16 }
  test:
    eval: { model: ck, data: { path: rows.tsv } }
";

/// The references are `MODEL(ids).logits.softmax(-1)` of the texts' ids: behind `[CLS]` and before `[SEP]` for BERT, by
/// themselves for GPT-2.
#[test]
fn an_imported_classifier_predicts_is_measured_and_goes_on() {
    for (is_bert, expected) in [
        (true, [[0.340801, 0.376847, 0.282352], [0.353326, 0.368432, 0.278242]]),
        (false, [[0.344011, 0.348493, 0.307496], [0.38293, 0.38332, 0.23375]]),
    ] {
        let space = Space::new();
        let ((config, mut all), class) = match is_bert {
            true => (bert(), "BertForSequenceClassification"),
            false => (gpt2(), "GPT2ForSequenceClassification"),
        };
        if is_bert {
            all.extend(layer("bert.pooler.dense", [8, 8], 8));
            all.extend(layer("classifier", [3, 8], 3));
        } else {
            all.push(("score.weight".into(), vec![3, 8]));
        }
        tokenizer(&space, is_bert);
        write(&space.path().join("model"), &labelled(config, class), &all);
        // Rows may have the numbers of labels.
        space.write("recipe.yaml", IMPORTED).write("rows.tsv", "text\tlabel\na c e\tfood\nb\t1\n");
        space.write("named.tsv", "text\tlabel\na c e\tfood\nb\tsport\n");
        assert_eq!(space.statuses(&["recipe.yaml", "--stage", "test"]), "ck=ran test=ran");
        let tuned = ["recipe.yaml", "--stage", "again", "--set", "stages.again.data.train.path=named.tsv"];
        assert_eq!(space.statuses(&tuned), "again=ran ck=hit");
        for stage in ["ck", "again"] {
            let mut arguments = vec!["predict", "recipe.yaml", stage, "--json", "--text", "a c e", "--text", "b"];
            if stage == "again" {
                arguments.extend(["--set", "stages.again.data.train.path=named.tsv"]);
            }
            let output = space.pipe(&arguments);
            assert_eq!(output.status, 0, "{}", output.stderr);
            for (line, expected) in output.stdout.lines().zip(expected) {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["label"], "food");
                let found = LABELS.map(|label| line["probabilities"][label].as_f64().unwrap() as f32);
                assert_near(stage, &found, &expected, 1e-5);
            }
        }
    }
}

#[test]
fn a_head_that_tells_no_label_says_so() {
    let space = Space::new();
    let (config, mut all) = bert();
    all.extend(layer("bert.pooler.dense", [8, 8], 8));
    all.extend(layer("classifier", [1, 8], 1));
    tokenizer(&space, true);
    let mut config = labelled(config, "BertForSequenceClassification");
    config["id2label"] = json!({ "0": "LABEL_0" });
    write(&space.path().join("model"), &config, &all);
    space.write("recipe.yaml", IMPORTED).write("rows.tsv", "text\tlabel\na\tfood\n");
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "ck"]).status, 0);
    let output = space.pipe(&["predict", "recipe.yaml", "ck", "--text", "a"]);
    assert!(output.stderr.contains("its head is for regression"), "{}", output.stderr);

    let class = labelled(bert().0, "BertForTokenClassification");
    let told = format!("{:#}", try_load(&class, &bert().1).err().unwrap());
    assert!(told.contains("BertForTokenClassification has a head that isn't supported"), "{told}");
}
