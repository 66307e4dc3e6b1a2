//! What a model was trained for: kept beside its weights, so that it can be used without its recipe.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::{Value, json};

use crate::{
    engine::store::Artifact,
    learning::objectives::parts::{self, Taught, assumed},
    network::model::{CheckpointSummary, Network},
    spec::{Classification, Head, Instruction, Objective, OpenSettings, Outputs, Turns},
};

/// The file's name in the artifacts of pretrain and finetune stages.
const TASK: &str = "task.json";

/// The longest sequence that a checkpoint is measured with; some could take far more, at great cost.
const LONGEST: usize = 2048;

/// What a model was trained for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::stages) struct TrainedFor {
    /// The objectives of its pretraining, those of the stages before it first.
    pub objectives: Vec<Objective>,
    /// The labels that it was finetuned to tell.
    pub classification: Option<Classification>,
    /// The instructions that it was finetuned on, with the chat format that was used.
    #[serde(default, serialize_with = "write_instruction", deserialize_with = "read_instruction")]
    pub instruction: Option<Instruction>,
    /// The labels or the number that its linear head was finetuned to tell, each output by itself,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// and the probability from which on labels are given, if it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The longest sequence that it was trained on.
    pub max_length: usize,
    /// Whether it began as a checkpoint from elsewhere, whose framing and dropout it has.
    #[serde(default, skip_serializing_if = "is_false")]
    pub from_checkpoint: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

impl TrainedFor {
    /// Writes `task.json`.
    pub(in crate::stages) fn write(&self, dir: &Path) -> Result<()> {
        Ok(fs::write(dir.join(TASK), serde_json::to_vec_pretty(self)?)?)
    }

    /// Whether there's a `task.json`: only models of our own have one.
    pub(in crate::stages) fn is_in(dir: &Path) -> bool {
        dir.join(TASK).exists()
    }

    /// Reads what [`Self::write`] wrote. A checkpoint from elsewhere doesn't say what it was trained for: it's taken to know
    /// what its family learns.
    pub(in crate::stages) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(TASK);
        if !path.exists() {
            return Self::of_checkpoint(dir);
        }
        serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("failed to read {}", path.display()))
    }

    /// What the model in `dir` has learned to write, if anything. Which of its objectives were its last stage's, the record of
    /// the artifact tells, if it's one.
    pub(in crate::stages) fn taught(&self, dir: &Path) -> Option<Taught> {
        let record = Artifact::record(dir).ok().flatten();
        let own = record.and_then(|record| Some(record.manifest.spec.get("objectives")?.as_array()?.len()));
        parts::taught(&self.objectives, own.unwrap_or_default())
    }

    fn of_checkpoint(dir: &Path) -> Result<Self> {
        let CheckpointSummary { family, max_length, labels, .. } = Network::inspect(dir)?;
        let objectives = assumed(family)?;
        // A classifier's head is asked about a text as it stands, by the column `text`.
        let classification = labels.filter(|labels| labels.problem.is_none()).map(|labels| Classification {
            label: "label".into(),
            words: labels.names.iter().map(|name| (name.clone(), name.clone())).collect(),
            template: "{{ text }}".into(),
            head: Head::Linear,
            pooling: family.classifier,
            class_weights: None,
            focal_gamma: None,
        });
        let max_length = max_length.min(LONGEST);
        let (instruction, outputs, threshold) = (None, None, None);
        Ok(Self { objectives, classification, instruction, outputs, threshold, max_length, from_checkpoint: true })
    }

    /// Whether the model in a directory began as a checkpoint from elsewhere; one that isn't ours is such a checkpoint.
    pub(in crate::stages) fn begins_elsewhere(dir: &Path) -> Result<bool> {
        Ok(!Self::is_in(dir) || Self::read(dir)?.from_checkpoint)
    }
}

/// The field that says which answers were learned.
const TURNS: &str = "turns";

/// What is written of a model that learned the last answers only: nothing, as before there was a choice, so that its files
/// are the same.
#[expect(clippy::ref_option, reason = "serde asks for it")]
fn write_instruction<S: Serializer>(instruction: &Option<Instruction>, serializer: S) -> Result<S::Ok, S::Error> {
    // By text, since that keeps the order of the fields.
    let text = serde_json::to_string(instruction).map_err(ser::Error::custom)?;
    let mut fields: Option<OpenSettings> = serde_json::from_str(&text).map_err(ser::Error::custom)?;
    if let Some(fields) = fields.as_mut().filter(|fields| fields.get(TURNS) == Some(&json!(Turns::Last))) {
        fields.shift_remove(TURNS);
    }
    fields.serialize(serializer)
}

fn read_instruction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Instruction>, D::Error> {
    let Some(mut fields) = Option::<OpenSettings>::deserialize(deserializer)? else { return Ok(None) };
    fields.entry(TURNS.to_owned()).or_insert_with(|| json!(Turns::Last));
    let fields: Value = fields.into_iter().collect();
    serde_json::from_value(fields).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_from_before_there_was_a_choice_learned_the_last_answers() {
        let old = r#"{"objectives":[],"classification":null,"instruction":{"prompt":"question","response":"answer","history":null,"messages":null,"format":"plain","too_long":"refuse"},"max_length":64}"#;
        let mut task: TrainedFor = serde_json::from_str(old).unwrap();
        assert_eq!(task.instruction.as_ref().unwrap().turns, Turns::Last);
        assert_eq!(serde_json::to_string(&task).unwrap(), old);
        task.instruction.as_mut().unwrap().turns = Turns::All;
        let new = serde_json::to_string(&task).unwrap();
        assert!(new.contains(r#""turns":"all""#), "{new}");
        assert_eq!(serde_json::from_str::<TrainedFor>(&new).unwrap().instruction.unwrap().turns, Turns::All);
    }
}
