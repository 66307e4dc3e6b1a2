//! What differs between a stage and a stored run, field by field.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::Node;
use crate::engine::store::{Artifact, Manifest};

/// A field with its stored and its present value.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Dotted path of the field, as in the recipe; `seed` and `version` for those.
    pub field: String,
    /// The value of the stored run; `None` where it had none.
    pub was: Option<String>,
    /// The value now.
    pub is: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".into());
        write!(f, "{}: {} → {}", self.field, show(&self.was), show(&self.is))
    }
}

/// The stored run of the same kind with the fewest differences; of several the one of the same name, then the newest
/// (`runs` is newest first).
pub fn nearest<'a>(node: &Node, manifest: &Manifest, runs: &'a [Artifact]) -> Option<&'a Artifact> {
    runs.iter()
        .filter(|run| run.manifest.kind == manifest.kind)
        .min_by_key(|run| (differences(&node.described, manifest, run).len(), run.provenance.stage != node.name))
}

/// What differs between a stage, given by its spec with defaults filled in and its manifest, and a stored run.
pub fn differences(described: &Value, manifest: &Manifest, run: &Artifact) -> Vec<Difference> {
    // The specs with defaults filled in tell more than the manifests', and differ exactly where those do, unless a
    // default itself has changed.
    let mut was = fields(&run.provenance.spec, &run.manifest);
    let mut found = Vec::new();
    for (field, is) in fields(described, manifest) {
        let before = was.remove(&field);
        if before.as_ref() != Some(&is) {
            found.push(Difference { field, was: before, is: Some(is) });
        }
    }
    found.extend(was.into_iter().map(|(field, was)| Difference { field, was: Some(was), is: None }));
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found
}

/// What differs between two stored runs: what they were computed from, and then with what.
pub fn differences_of_runs(before: &Artifact, after: &Artifact) -> Vec<Difference> {
    let mut found = differences(&after.provenance.spec, &after.manifest, before);
    let made = |run: &Artifact| {
        let provenance = &run.provenance;
        let outputs = run.digest[..run.digest.len().min(12)].to_owned();
        [
            ("kind", run.manifest.kind.clone()),
            ("pipe", provenance.pipe.clone()),
            ("device", provenance.device.clone()),
            ("outputs", outputs),
        ]
    };
    for ((field, was), (_, is)) in made(before).into_iter().zip(made(after)) {
        if was != is {
            found.push(Difference { field: field.to_owned(), was: Some(was), is: Some(is) });
        }
    }
    found
}

fn fields(spec: &Value, manifest: &Manifest) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    flatten("", spec, &mut all);
    all.insert("version".into(), manifest.version.to_string());
    if let Some(seed) = manifest.seed {
        all.insert("seed".into(), seed.to_string());
    }
    for (field, digest) in &manifest.inputs {
        let short = match digest.split_once(':') {
            Some((form, digest)) => format!("{form} {}", &digest[..digest.len().min(12)]),
            None => digest[..digest.len().min(12)].to_owned(),
        };
        all.insert(field.clone(), format!("contents {short}"));
    }
    all
}

fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let join = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| flatten(&join(name), value, all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| flatten(&join(&index.to_string()), value, all));
        }
        Value::Null => {}
        scalar => {
            all.insert(path.to_owned(), scalar.to_string());
        }
    }
}
