//! What the key of a stage says of how its files are read, beside what they hold: that a file is read otherwise than by
//! the first version of its reader. So those that aren't keep their stages' keys.

use std::path::Path;

use serde_json::Value;

use crate::{
    data,
    engine::store::Reading,
    spec::{Format, Source},
};

/// For the cache of digests.
pub(super) const READING: Reading = Reading { how, note };

/// How a file is read, where its reader has another version than the first.
fn how(settings: &Value, field: &str, file: &Path) -> Option<Value> {
    let parent = field.strip_suffix(".path")?;
    let place = format!("/{}", parent.replace('.', "/"));
    let source: Source = serde_json::from_value(settings.pointer(&place)?.clone()).ok()?;
    let format = source.format.or_else(|| Format::of(file))?;
    let has_versions = matches!(format, Format::Tsv | Format::Csv | Format::Jsonl | Format::Json);
    // What it names and takes of the file changes nothing of how that's read.
    let (text, path) = (Vec::new(), String::new());
    let source = Source { path, hub: None, revision: None, text, skip: None, limit: None, ..source };
    has_versions.then(|| serde_json::to_value(source).ok()).flatten()
}

fn note(how: &Value, file: &Path) -> Option<&'static str> {
    let source: Source = serde_json::from_value(how.clone()).ok()?;
    data::is_revised(&source, file).then_some(" (2)")
}
