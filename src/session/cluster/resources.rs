//! What stages are given on a cluster: in words that all engines have a meaning for, as far as they have one.

use std::{cmp::Ordering, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What a stage is given; whatever isn't said isn't asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// The account that is charged
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The partition
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The quality of service
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The time limit, such as "30" (minutes), "8:00:00" or "2-00:00:00"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The memory of a node, such as "64G"; by default what the estimate says. "none" asks for none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The cores
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cpus: Option<u32>,
    /// How many GPUs; by default as many as the devices that the run names
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// The type of the GPUs: Slurm's name, Ray's type of accelerator, or the product's label on a Kubernetes node
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_type: Option<String>,
    /// Features that a node has to have, in Slurm's words
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Nodes that aren't to be used
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    /// The reservation
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// The image of a container to run the program in: what `apptainer exec` takes, or a pod's
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Lines of the shell before the command, such as `module load cuda`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Vec<String>>,
    /// Variables of the environment that are handed on, by name
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<String>>,
    /// Options of `sbatch` as they are, such as `--mail-type=FAIL`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<String>>,
    /// Labels that a Kubernetes node has to have
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// What the engine is given as it is: a part of a Kubernetes pod's `spec`, or of what Ray's Jobs API is sent
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

impl Resources {
    /// These, and what they don't say as others do.
    pub fn over(self, other: &Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => { Self { $($field: self.$field.or_else(|| other.$field.clone())),* } };
        }
        first!(
            account,
            partition,
            qos,
            time,
            memory,
            cpus,
            gpus,
            gpu_type,
            constraint,
            exclude,
            reservation,
            container,
            before,
            environment,
            options,
            node_selector,
            extra
        )
    }

    /// Bytes of memory that are asked for: what is said, or else the estimate.
    pub fn bytes(&self, estimate: Option<u64>) -> Option<u64> {
        let Some(memory) = &self.memory else { return estimate };
        let digits = memory.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &memory[digits.len()..] {
            "K" => 10,
            "G" => 30,
            "T" => 40,
            // Slurm's own unit.
            _ => 20,
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    }
}

/// A table that is handed on as it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Extra(pub serde_json::Map<String, Json>);

impl Ord for Extra {
    fn cmp(&self, other: &Self) -> Ordering {
        let text = |extra: &Self| Json::Object(extra.0.clone()).to_string();
        text(self).cmp(&text(other))
    }
}

impl PartialOrd for Extra {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Extra {
    /// Puts it over a table: what is a table in both is joined, and all else takes the place of what was there.
    pub fn over(&self, table: &mut Json) {
        join(table, &Json::Object(self.0.clone()));
    }
}

fn join(below: &mut Json, above: &Json) {
    match (below, above) {
        (Json::Object(below), Json::Object(above)) => {
            for (key, value) in above {
                join(below.entry(key.as_str()).or_insert(Json::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// Whether a text is an amount of memory, or says that none is asked for.
pub fn is_memory(text: &str) -> bool {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    text == "none"
        || text.len() <= digits.len() + 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Seconds of a time limit: minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`.
pub fn seconds(limit: &str) -> Option<u64> {
    let (days, rest) = limit.split_once('-').map_or((None, limit), |(days, rest)| (Some(days), rest));
    let parts = rest.split(':').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [minutes]) => minutes * 60,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        (Some(_), [hours]) => hours * 3600,
        (Some(_), [hours, minutes]) => hours * 3600 + minutes * 60,
        (_, [hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        _ => return None,
    };
    Some(seconds + days.map_or(Some(0), |days| days.parse::<u64>().ok())? * 86_400)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_as_slurm_takes_them() {
        for (limit, expected) in [
            ("30", 1800),
            ("1:30", 90),
            ("8:00:00", 28_800),
            ("1-12", 129_600),
            ("2-00:30", 174_600),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(seconds(limit), Some(expected), "{limit}");
        }
        assert_eq!([seconds(""), seconds("an hour"), seconds("1:2:3:4")], [None; 3]);
        let memory = |text: &str| Resources { memory: Some(text.into()), ..Resources::default() }.bytes(Some(7));
        let bytes = ["3", "64G", "5K", "none"].map(memory);
        assert_eq!(bytes, [Some(3 << 20), Some(64 << 30), Some(5 << 10), None]);
        assert_eq!(Resources::default().bytes(Some(7)), Some(7));
    }

    #[test]
    fn what_is_handed_on_is_put_over_what_is_there() {
        let mut table = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        let extra: Extra = serde_json::from_value(json!({ "a": { "c": [3], "e": {} }, "f": null })).unwrap();
        extra.over(&mut table);
        assert_eq!(table, json!({ "a": { "b": 1, "c": [3], "e": {} }, "d": 1, "f": null }));
    }
}
