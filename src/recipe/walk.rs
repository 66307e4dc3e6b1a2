//! Walks a stage's values together with the schema: which fields name files or stages, and what enters the key.

use serde_json::{Map, Value as Json};

pub use super::shape::FileKind;
use super::{
    Catalog,
    shape::{Role, Shape, Slot},
};
use crate::{
    hub::{data_place, model_place},
    spec::{Product, Stage},
};

/// A field that names files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileField {
    /// Where it is in the stage's spec, such as `corpus.0.path`.
    pub pointer: String,
    /// The path or glob, as the recipe gives it; see [`paths`](super::paths).
    pub pattern: String,
    /// What it names.
    pub kind: FileKind,
}

/// A field that refers to another stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StageField {
    /// Where it is in the stage's spec, such as `from`.
    pub pointer: String,
    /// The stage it names.
    pub name: String,
    /// What the stage that it names has to make.
    pub product: Product,
}

/// The files that a stage reads.
pub fn file_fields(catalog: &Catalog, stage: &Stage) -> Vec<FileField> {
    let (spec, slot) = spec_of(catalog, stage);
    files_in(&spec, slot)
}

/// The files that a value and what is below it name.
pub(super) fn files_in(value: &Json, slot: &Slot) -> Vec<FileField> {
    let mut files: Vec<FileField> = Vec::new();
    visit(value, slot, &mut String::new(), &mut |pointer, value, slot| {
        // What a mapping says of files in a data set, which comes first, counts before their path alone.
        let is_said =
            |file: &FileField| file.kind == FileKind::Files && files.iter().any(|other| other.pointer == file.pointer);
        let file = named(pointer, value, slot).filter(|file| !is_said(file));
        files.extend(file);
    });
    files
}

/// The files that a value names itself. A name on a hub counts as the field that names a directory or files otherwise: how a
/// model or data came here is no part of what they are.
fn named(pointer: &str, value: &Json, slot: &Slot) -> Option<FileField> {
    if let (Some(kind), Some(pattern)) = (slot.role.file_kind(), value.as_str()) {
        return Some(FileField { pointer: pointer.into(), pattern: pattern.into(), kind });
    }
    let HubName { field, kind, name, revision } = hub_name(value, slot)?;
    let pattern = match kind {
        FileKind::Files => data_place(name?, revision, value.get(field)?.as_str()?),
        FileKind::Checkpoint | FileKind::Tokenizer => model_place(name?, revision),
    };
    let mut pointer = pointer.to_owned();
    push(&mut pointer, field);
    Some(FileField { pointer, pattern, kind })
}

/// What a mapping says in which a model or a data set may be named.
pub(super) struct HubName<'a> {
    /// The field that names a directory instead of the model, or the files in the data set.
    pub(super) field: &'a str,
    pub(super) kind: FileKind,
    pub(super) name: Option<&'a str>,
    revision: Option<&'a str>,
}

pub(super) fn hub_name<'a>(value: &'a Json, slot: &'a Slot) -> Option<HubName<'a>> {
    let (Json::Object(map), Shape::Record(fields)) = (value, &slot.shape) else { return None };
    let Role::Hub(field) = &fields.get("hub")?.role else { return None };
    let kind = fields.get(field)?.role.file_kind()?;
    let text = |key: &str| map.get(key).and_then(Json::as_str);
    Some(HubName { field, kind, name: text("hub"), revision: text("revision") })
}

/// The stages that a stage builds on.
pub fn stage_fields(catalog: &Catalog, stage: &Stage) -> Vec<StageField> {
    let mut fields = Vec::new();
    visit_stage(catalog, stage, &mut |pointer, value, slot| {
        if let (Role::Stage(product), Some(name)) = (&slot.role, value.as_str()) {
            fields.push(StageField { pointer: pointer.into(), name: name.into(), product: *product });
        }
    });
    fields
}

/// The part of a spec that its output depends on, for hashing: without files' and stages' names (their content counts),
/// without what can't change the output, and without what equals its default (or is as
/// unsaid as that, where the default has changed).
pub fn canonical(catalog: &Catalog, stage: &Stage) -> Json {
    let (spec, slot) = spec_of(catalog, stage);
    kept(spec, slot, false)
}

/// As [`canonical`], but with defaults: what `pipe why` compares field by field.
pub fn described(catalog: &Catalog, stage: &Stage) -> Json {
    let (spec, slot) = spec_of(catalog, stage);
    kept(spec, slot, true)
}

/// The spec inside a stage, and its slot.
pub(super) fn spec_of<'c>(catalog: &'c Catalog, stage: &Stage) -> (Json, &'c Slot) {
    let slot = catalog.stage().child(&stage.kind).unwrap_or_else(|| catalog.stage());
    (stage.settings.clone(), slot)
}

fn visit_stage(catalog: &Catalog, stage: &Stage, found: &mut dyn FnMut(&str, &Json, &Slot)) {
    let (spec, slot) = spec_of(catalog, stage);
    visit(&spec, slot, &mut String::new(), found);
}

/// Calls `found` with the pointer, the value and the slot of everything below a value, itself first. What the schema
/// doesn't know is passed over.
pub(super) fn visit(value: &Json, slot: &Slot, pointer: &mut String, found: &mut dyn FnMut(&str, &Json, &Slot)) {
    let slot = slot.meant(value.is_string());
    found(pointer, value, slot);
    let mut below = |key: &str, value: &Json| {
        if let Some(slot) = slot.child(key) {
            let length = pointer.len();
            push(pointer, key);
            visit(value, slot, pointer, found);
            pointer.truncate(length);
        }
    };
    match value {
        Json::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Json::Array(items) => items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value)),
        _ => {}
    }
}

/// Goes one key down.
pub(super) fn push(pointer: &mut String, key: &str) {
    if !pointer.is_empty() {
        pointer.push('.');
    }
    pointer.push_str(key);
}

/// A spec without names of files and stages, free fields and, if asked for, defaults.
pub(super) fn kept(value: Json, slot: &Slot, defaults: bool) -> Json {
    let named = |role: &Role| role.is_name() || *role == Role::Free;
    let slot = slot.meant(value.is_string());
    match (value, &slot.shape) {
        // A variant whose payload is a name: the tag remains.
        (Json::Object(map), Shape::Choice(_)) => {
            let mut left = Map::new();
            for (tag, payload) in map {
                match slot.child(&tag) {
                    Some(slot) if named(&slot.role) => return Json::String(tag),
                    Some(slot) => left.insert(tag, kept(payload, slot, defaults)),
                    None => left.insert(tag, payload),
                };
            }
            Json::Object(left)
        }
        (Json::Object(map), _) => map
            .into_iter()
            .filter_map(|(key, value)| match slot.child(&key) {
                Some(field) if named(&field.meant(value.is_string()).role) => None,
                Some(field) if !defaults && field.is_unsaid(&value) => None,
                Some(field) => Some((key, kept(value, field, defaults))),
                None => Some((key, value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        (Json::Array(items), Shape::List { item, .. }) => {
            items.into_iter().map(|value| kept(value, item, defaults)).collect()
        }
        (value, _) => value,
    }
}
