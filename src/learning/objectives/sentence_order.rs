//! Sentence-order prediction (Lan et al. 2020): do A and B stand in their order, or were they exchanged?

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnswerForm, Corpus,
    definition::{Definition, Examples, HeadKind, ObjectiveRole, ObjectiveSettings, SettingsType},
    pairs::{NEEDS, PairExamples, PairTask, SentencePair},
};
use crate::{data::text::Special, network::model::AttentionPattern, spec::Section};

/// The objective.
pub(super) static DEFINITION: Definition = Definition {
    name: "sentence_order",
    section: Section::Entry,
    about: "Tell whether A and B stand in their order or were exchanged",
    role: ObjectiveRole::Pairs,
    attention: AttentionPattern::Bidirectional,
    assumed: false,
    teaches: None,
    measure: None,
    head: Some(HeadKind::Pair),
    version: 1,
    settings: SettingsType::of::<SentenceOrder>(),
};

// Its schema is that of the settings within, which comments of its own would change.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(transparent)]
struct SentenceOrder(SentencePair);

impl ObjectiveSettings for SentenceOrder {
    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        NEEDS.to_vec()
    }

    fn predicted(&self) -> f64 {
        0.0
    }

    fn pair_weight(&self) -> Option<f64> {
        Some(self.0.loss_weight)
    }

    fn examples(&self, _: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        Ok(Box::new(PairExamples::new(PairTask::SentenceOrder, max_length)))
    }
}
