//! Next-sentence prediction (Devlin et al. 2019): does B follow A, or come from another document?

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
    name: "next_sentence",
    section: Section::Entry,
    about: "Tell whether B follows A or comes from another document",
    role: ObjectiveRole::Pairs,
    attention: AttentionPattern::Bidirectional,
    assumed: false,
    teaches: None,
    measure: None,
    head: Some(HeadKind::Pair),
    version: 1,
    settings: SettingsType::of::<NextSentence>(),
};

// Its schema is that of the settings within, which comments of its own would change.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(transparent)]
struct NextSentence(SentencePair);

impl ObjectiveSettings for NextSentence {
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
        Ok(Box::new(PairExamples::new(PairTask::NextSentence, max_length)))
    }
}
