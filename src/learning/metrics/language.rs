//! The metrics of a language model: perplexity, bits per character and masked accuracy, with and without leaked documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::PairTally;

/// `exp` of the mean negative log-likelihood in nats; none where there are no tokens.
pub fn perplexity(nll: f64, tokens: u64) -> Option<f64> {
    mean(nll, tokens).map(f64::exp)
}

/// Sums over the tokens that a language model had to predict.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LanguageTally {
    /// Documents.
    pub documents: u64,
    /// Sum of `−ln p(token)` over the predicted tokens, in nats.
    pub nll: f64,
    /// Number of predicted tokens.
    pub tokens: u64,
    /// Of the predicted tokens, those that were the most probable ones.
    #[serde(default)]
    pub correct: u64,
    /// Of the masked tokens, those whose most probable candidate was right.
    pub masked_correct: u64,
    /// Number of masked tokens.
    pub masked: u64,
    /// Characters of the documents, where each of their tokens was predicted; 0 elsewhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub characters: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl LanguageTally {
    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.nll += other.nll;
        self.tokens += other.tokens;
        self.correct += other.correct;
        self.masked_correct += other.masked_correct;
        self.masked += other.masked;
        self.characters += other.characters;
    }

    /// Counts a predicted token by the logarithm of its probability and whether no other was likelier.
    pub fn predicted(&mut self, log_probability: f32, correct: bool) {
        self.tokens += 1;
        self.nll -= f64::from(log_probability);
        self.correct += u64::from(correct);
    }

    /// Counts a masked token by whether the most probable candidate was the right one.
    pub fn guessed(&mut self, correct: bool) {
        self.masked += 1;
        self.masked_correct += u64::from(correct);
    }

    /// Mean `−ln p(token)` in nats; none where nothing was predicted.
    pub fn loss(&self) -> Option<f64> {
        mean(self.nll, self.tokens)
    }

    /// `exp(loss)`; none where nothing was predicted.
    pub fn perplexity(&self) -> Option<f64> {
        perplexity(self.nll, self.tokens)
    }

    /// Bits that the model takes to write a character of the text: the sum of `−log2 p(token)` over its characters, which
    /// doesn't depend on how the tokenizer cuts it. None where not all of a text was predicted.
    pub fn bits_per_character(&self) -> Option<f64> {
        mean(self.nll / std::f64::consts::LN_2, self.characters)
    }

    /// Share of the predicted tokens that were the most probable ones; none where nothing was predicted.
    pub fn accuracy(&self) -> Option<f64> {
        mean(self.correct as f64, self.tokens)
    }

    /// Share of the masked tokens that were guessed right; none where nothing was masked.
    pub fn masked_accuracy(&self) -> Option<f64> {
        mean(self.masked_correct as f64, self.masked)
    }
}

/// A language model's metrics on held-out documents.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LanguageReport {
    /// Over all documents.
    pub all: LanguageTally,
    /// Over those that the model wasn't trained on.
    pub without_leaks: LanguageTally,
    /// Over sentence pairs, by the objective that made them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pairs: BTreeMap<String, PairReport>,
}

/// A model's judgements on pairs out of held-out documents.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PairReport {
    /// Of all documents.
    pub all: PairTally,
    /// Of those that the model wasn't trained on.
    pub without_leaks: PairTally,
}

impl LanguageReport {
    /// Adds one document.
    pub fn add(&mut self, document: &LanguageTally, leaked: bool) {
        self.all.add(document);
        if !leaked {
            self.without_leaks.add(document);
        }
    }

    /// Adds judgements on the pairs of a task.
    pub fn add_pairs(&mut self, task: &str, pairs: &PairTally, leaked: bool) {
        let report = self.pairs.entry(task.to_owned()).or_default();
        report.all.add(pairs);
        if !leaked {
            report.without_leaks.add(pairs);
        }
    }

    /// Documents that stand in the training data too.
    pub fn leaked_documents(&self) -> u64 {
        self.all.documents - self.without_leaks.documents
    }

    /// The metrics by name; what couldn't be measured is null. Bits per character are among them where a text was
    /// predicted in full.
    pub fn metrics(&self) -> Map<String, Value> {
        let bits = [("bits_per_character", &self.all), ("bits_per_character_without_leaks", &self.without_leaks)];
        let bits = bits.map(|(name, tally)| (name, json!(tally.bits_per_character())));
        [
            ("loss", json!(self.all.loss())),
            ("perplexity", json!(self.all.perplexity())),
            ("token_accuracy", json!(self.all.accuracy())),
            ("masked_accuracy", json!(self.all.masked_accuracy())),
            ("tokens", json!(self.all.tokens)),
            ("masked_tokens", json!(self.all.masked)),
            ("documents", json!(self.all.documents)),
            ("leaked_documents", json!(self.leaked_documents())),
            ("loss_without_leaks", json!(self.without_leaks.loss())),
            ("perplexity_without_leaks", json!(self.without_leaks.perplexity())),
            ("token_accuracy_without_leaks", json!(self.without_leaks.accuracy())),
            ("masked_accuracy_without_leaks", json!(self.without_leaks.masked_accuracy())),
        ]
        .into_iter()
        .chain(bits.into_iter().filter(|_| self.all.characters > 0))
        .map(|(name, value)| (name.to_string(), value))
        .chain(self.pairs.iter().flat_map(|(task, report)| {
            let without =
                report.without_leaks.metrics(task).map(|(name, value)| (format!("{name}_without_leaks"), value));
            report.all.metrics(task).into_iter().chain(without)
        }))
        .collect()
    }
}

fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}
