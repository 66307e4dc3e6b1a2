//! Heads of classifiers from elsewhere, as Hugging Face's classes for sequence classification have them: BERT's
//! `classifier` `[labels, hidden]` with a bias behind the pooler, GPT-2's and GLM-4's `score` without one on the last token.
//! Which label is which row, `id2label` says.
//!
//! Here classes are in the order of their labels' names, so that a recipe may list them in any. The rows of such a head are
//! put into that order when it's read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;
use serde_json::Value;

use super::{
    family::Family,
    heads::ClassifierConfig,
    initial::{Initial, ValueSource},
};

/// How the names of classes end that have a head for something else than a whole text.
const OTHERS: [&str; 4] = ["ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering", "DoubleHeadsModel"];

/// The labels of a checkpoint's linear head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassLabels {
    /// Their names, in the order of the classes here: that of their bytes.
    pub names: Vec<String>,
    /// Of each the number that it has in the checkpoint.
    pub numbers: Vec<usize>,
    /// What keeps the head from telling one of them, such as that it's for regression.
    pub problem: Option<String>,
}

impl ClassLabels {
    /// The indices of the classes by the numbers that data from elsewhere may have for them, written out.
    pub fn by_number(&self) -> BTreeMap<String, usize> {
        self.numbers.iter().enumerate().map(|(class, number)| (number.to_string(), class)).collect()
    }

    /// The head of a checkpoint that says nothing of ours; `rows` gives those of a matrix that it has.
    ///
    /// # Errors
    /// Heads of other kinds, labels that can't be read or are called the same.
    pub(super) fn find(
        config: &Value,
        family: &Family,
        rows: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<(ClassifierConfig, Self)>> {
        let class = config.pointer("/architectures/0").and_then(Value::as_str).unwrap_or_default();
        let other = OTHERS.iter().any(|other| class.ends_with(other));
        ensure!(!other, "{class} has a head that isn't supported: of classifiers, …ForSequenceClassification is");
        let Some(pooling) = family.classifier else { return Ok(None) };
        let head = ClassifierConfig { classes: 0, input: pooling.into() };
        let Some(rows) = rows(&format!("{}.weight", head.name())) else { return Ok(None) };
        if !class.is_empty() && !class.ends_with("ForSequenceClassification") {
            return Ok(None);
        }
        let labels = Self::of(config, rows)?;
        Ok(Some((ClassifierConfig { classes: labels.names.len(), ..head }, labels)))
    }

    /// As `PreTrainedConfig` reads them: `id2label`, or else so many numbered ones as `num_labels` says; as many as there are
    /// `rows` where nothing is said.
    fn of(config: &Value, rows: usize) -> Result<Self> {
        let numbered = || {
            let count = config.get("num_labels").and_then(Value::as_u64).map_or(rows, |count| count as usize);
            (0..count).map(|number| (number, format!("LABEL_{number}"))).collect()
        };
        let labels: BTreeMap<usize, String> = match config.get("id2label") {
            Some(Value::Object(labels)) => {
                let read = |(id, label): (&String, &Value)| {
                    let wrong = || format!("id2label: {id:?}: {label} isn't the number of a label with its name");
                    let name = label.as_str().map(str::to_owned);
                    Ok((
                        id.parse().with_context(wrong)?,
                        name.or_else(|| label.as_i64().map(|n| n.to_string())).with_context(wrong)?,
                    ))
                };
                labels.iter().map(read).collect::<Result<_>>()?
            }
            _ => numbered(),
        };
        ensure!(labels.keys().copied().eq(0..labels.len()), "id2label doesn't number its labels from 0 on");
        let mut order: Vec<(String, usize)> = labels.into_iter().map(|(number, name)| (name, number)).collect();
        order.sort();
        if let Some(twice) = order.windows(2).find(|two| two[0].0 == two[1].0) {
            bail!("id2label has the label {} twice", twice[0].0);
        }
        let problem =
            config.get("problem_type").and_then(Value::as_str).filter(|kind| *kind != "single_label_classification");
        let problem = match (order.len(), problem) {
            (0 | 1, _) | (_, Some("regression")) => {
                Some("its head is for regression: it gives a number, no label".to_owned())
            }
            (_, Some(other)) => Some(format!("its head is for {other}, and not for one label of several")),
            _ => None,
        };
        let (names, numbers) = order.into_iter().unzip();
        Ok(Self { names, numbers, problem })
    }
}

/// The rows of a head in the order of its labels' names.
pub(super) struct InOrder<'a> {
    pub(super) source: &'a mut dyn ValueSource,
    pub(super) numbers: &'a [usize],
}

impl ValueSource for InOrder<'_> {
    fn values(&mut self, name: &str, shape: &[usize], initial: Initial) -> TensorData {
        let data = self.source.values(name, shape, initial);
        // A checkpoint without values, or without these, gives none.
        let Ok(values) = data.as_slice::<f32>() else { return data };
        let width: usize = shape[1..].iter().product();
        if values.len() != self.numbers.len() * width || data.shape()[..] != *shape {
            return data;
        }
        let rows = self.numbers.iter().flat_map(|&number| values[number * width..][..width].iter().copied());
        TensorData::new(rows.collect::<Vec<_>>(), shape)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::model::families;

    fn find(config: Value) -> Result<Option<(ClassifierConfig, ClassLabels)>> {
        let family = families::of_config(&config)?;
        ClassLabels::find(&config, family, |name| (name == "classifier.weight").then_some(2))
    }

    #[test]
    fn labels_are_read_as_the_library_reads_them() {
        let named = json!({ "model_type": "bert", "id2label": { "0": "b", "2": "a", "1": "c" } });
        let (head, labels) = find(named).unwrap().unwrap();
        assert_eq!(
            (head.classes, labels.names, labels.numbers),
            (3, ["a", "b", "c"].map(str::to_owned).into(), vec![2, 0, 1])
        );
        let (head, labels) = find(json!({ "model_type": "bert", "num_labels": 3 })).unwrap().unwrap();
        assert_eq!((head.classes, &labels.names[2][..], labels.problem), (3, "LABEL_2", None));
        let (head, _) = find(json!({ "model_type": "bert" })).unwrap().unwrap();
        assert_eq!(head.classes, 2);
        assert!(find(json!({ "model_type": "gpt2" })).unwrap().is_none());
        assert!(find(json!({ "model_type": "bert", "architectures": ["BertForMaskedLM"] })).unwrap().is_none());
    }

    #[test]
    fn heads_for_something_else_are_told() {
        let class =
            |name: &str| find(json!({ "model_type": "bert", "architectures": [name] })).unwrap_err().to_string();
        let told =
            "BertForTokenClassification has a head that isn't supported: of classifiers, …ForSequenceClassification is";
        assert_eq!(class("BertForTokenClassification"), told);
        let problem = |config: Value| find(config).unwrap().unwrap().1.problem.unwrap();
        let regression = "its head is for regression: it gives a number, no label";
        assert_eq!(problem(json!({ "model_type": "bert", "num_labels": 1 })), regression);
        assert_eq!(problem(json!({ "model_type": "bert", "problem_type": "regression" })), regression);
        let several = problem(json!({ "model_type": "bert", "problem_type": "multi_label_classification" }));
        assert_eq!(several, "its head is for multi_label_classification, and not for one label of several");
        let twice = find(json!({ "model_type": "bert", "id2label": { "0": "a", "1": "a" } })).unwrap_err().to_string();
        assert_eq!(twice, "id2label has the label a twice");
    }
}
