//! What a model's `config.json` says to other programs beyond what is needed to load the model here: labels, ends, dropout,
//! and the class of transformers that opens it.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{
    families,
    family::Family,
    heads::{ClassifierConfig, HeadInput},
    loss::Answers,
};

/// Tensors of a pretrained model that no class for sequence classification has.
const PRETRAINING: &[&str] = &["cls.", "lm_head."];

/// What a config says of labels.
const LABELS: [&str; 4] = ["id2label", "label2id", "num_labels", "problem_type"];

/// How the names of Hugging Face's classes end, behind that of the model.
const ENDINGS: [&str; 7] = [
    "LMHeadModel",
    "ForCausalLM",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "Model",
];

/// What is known of a model beside its files.
#[derive(Clone, Debug, Default)]
pub struct TransformersConfig<'a> {
    /// The labels that it tells, in the order of its classes; none for other models.
    pub labels: Vec<&'a str>,
    /// What its head says, where that isn't one of the labels.
    pub answers: Answers,
    /// The prompt that it tells them by, and the words that it answers with.
    pub prompt: Option<Value>,
    /// The dropout that it was trained with.
    pub dropout: Option<f64>,
    /// Keys of special tokens, and their ids: for those that the config doesn't say.
    pub tokens: Vec<(&'static str, u32)>,
}

/// The linear head of a model as transformers sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransformersHead {
    /// There is none.
    None,
    /// Transformers has a class for it.
    Known,
    /// It has none: another head reads the same place in the family's class, or the family has no class.
    Unknown,
}

impl TransformersHead {
    /// Of the model that a `config.json` describes.
    ///
    /// # Errors
    /// Families that aren't known.
    pub fn of(config: &Value) -> Result<Self> {
        let Some(head) = classifier(config)? else { return Ok(Self::None) };
        let reads = families::of_config(config)?.classifier.map(HeadInput::from);
        Ok(if reads == Some(head.input) { Self::Known } else { Self::Unknown })
    }

    /// How the names of tensors begin that a class of transformers for this head doesn't have.
    pub fn without(&self) -> &'static [&'static str] {
        if *self == Self::Known { PRETRAINING } else { &[] }
    }
}

impl TransformersConfig<'_> {
    /// Adds all of it to a `config.json`.
    ///
    /// # Errors
    /// A config that describes no model.
    pub fn describe(&self, config: &mut Value) -> Result<()> {
        let head = TransformersHead::of(config)?;
        let family = families::of_config(config)?;
        let config = config.as_object_mut().context("it's no JSON object")?;
        self.dropout(family, config);
        for (key, id) in &self.tokens {
            if config.get(*key).is_none_or(Value::is_null) {
                config.insert((*key).to_owned(), json!(id));
            }
        }
        let mut own = match config.remove("pipe") {
            Some(Value::Object(own)) => own,
            _ => Map::new(),
        };
        // Those of a checkpoint that it began with, unless they belong to a head that is still there.
        if !self.labels.is_empty() || head == TransformersHead::None {
            LABELS.iter().for_each(|key| drop(config.remove(*key)));
        }
        if !self.labels.is_empty() {
            let numbered = || self.labels.iter().enumerate();
            let id2label: Map<_, _> = numbered().map(|(id, label)| (id.to_string(), json!(label))).collect();
            let label2id: Map<_, _> = numbered().map(|(id, label)| ((*label).to_owned(), json!(id))).collect();
            config.insert("id2label".into(), Value::Object(id2label));
            config.insert("label2id".into(), Value::Object(label2id));
            config.insert("num_labels".into(), json!(self.labels.len()));
        }
        match &self.prompt {
            Some(prompt) => own.insert("prompt".into(), prompt.clone()),
            None => own.remove("prompt"),
        };
        if head == TransformersHead::Known {
            let problem = match self.answers {
                Answers::One => "single_label_classification",
                Answers::Any => "multi_label_classification",
                Answers::Numbers => "regression",
            };
            config.insert("problem_type".into(), json!(problem));
            // Its tensors are left out.
            own.remove("pair");
            if let Some(class) = config.get("architectures").and_then(|classes| classes.get(0)?.as_str()) {
                config.insert("architectures".into(), json!([sequence_classifier(class)]));
            }
        }
        if !own.is_empty() {
            config.insert("pipe".into(), Value::Object(own));
        }
        Ok(())
    }

    fn dropout(&self, family: &Family, config: &mut Map<String, Value>) {
        let Some(dropout) = self.dropout else { return };
        for key in family.dropout_keys {
            config.insert((*key).to_owned(), json!(dropout));
        }
        // A dropout of the head's own; without one it has the model's.
        if let Some(own) = config.get_mut("classifier_dropout") {
            *own = json!(dropout);
        }
    }
}

/// The linear head that a `config.json` of ours names.
fn classifier(config: &Value) -> Result<Option<ClassifierConfig>> {
    let head = config.pointer("/pipe/classifier").filter(|head| !head.is_null());
    let head = head.cloned().map(serde_json::from_value).transpose();
    head.context("its linear head can't be read")
}

/// The class for sequence classification of the model with this other class.
fn sequence_classifier(class: &str) -> String {
    let model = ENDINGS.iter().find_map(|ending| class.strip_suffix(ending)).unwrap_or(class);
    format!("{model}ForSequenceClassification")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: Value, model: &TransformersConfig<'_>) -> Value {
        let mut config = config;
        model.describe(&mut config).unwrap();
        config
    }

    #[test]
    fn labels_are_numbered_as_the_classes_are() {
        let config = json!({
            "model_type": "bert",
            "architectures": ["BertForPreTraining"],
            "hidden_dropout_prob": 0.1,
            "pipe": { "pair": true, "classifier": { "classes": 3, "pooling": "pooler" } },
        });
        assert_eq!(TransformersHead::of(&config).unwrap(), TransformersHead::Known);
        let model =
            TransformersConfig { labels: vec!["1", "10", "2"], dropout: Some(0.3), ..TransformersConfig::default() };
        let config = described(config, &model);
        assert_eq!(config["id2label"], json!({ "0": "1", "1": "10", "2": "2" }));
        assert_eq!(config["label2id"], json!({ "1": 0, "10": 1, "2": 2 }));
        assert_eq!(config["num_labels"], 3);
        assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
        assert_eq!(
            (&config["hidden_dropout_prob"], &config["attention_probs_dropout_prob"]),
            (&json!(0.3), &json!(0.3))
        );
        assert_eq!(config["pipe"], json!({ "classifier": { "classes": 3, "pooling": "pooler" } }));
    }

    #[test]
    fn heads_of_other_places_have_no_class() {
        let head = |model_type: &str, pooling: &str| {
            let pipe = json!({ "classifier": { "classes": 2, "pooling": pooling } });
            TransformersHead::of(&json!({ "model_type": model_type, "pipe": pipe })).unwrap()
        };
        assert_eq!(
            [head("bert", "mean"), head("bert", "first"), head("gpt2", "mean")],
            [const { TransformersHead::Unknown }; 3]
        );
        assert_eq!([head("gpt2", "last"), head("glm4", "last")], [const { TransformersHead::Known }; 2]);
        assert_eq!(head("marian", "last"), TransformersHead::Unknown);
        assert_eq!(TransformersHead::of(&json!({ "model_type": "gpt2" })).unwrap(), TransformersHead::None);
        assert_eq!(TransformersHead::Unknown.without(), [""; 0]);
    }

    #[test]
    fn what_a_config_says_of_tokens_stays() {
        let model = TransformersConfig {
            tokens: vec![("eos_token_id", 8), ("pad_token_id", 0)],
            ..TransformersConfig::default()
        };
        let config = described(json!({ "model_type": "gpt2", "eos_token_id": null, "pad_token_id": 5 }), &model);
        assert_eq!((&config["eos_token_id"], &config["pad_token_id"]), (&json!(8), &json!(5)));
        assert_eq!(config.get("pipe"), None);
    }
}
