//! The recipe's schema in the form that the program walks: what each field may hold, its role and its default.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::spec::Product;

/// Marks the definition of an open place, in the schema that the program works from.
pub(super) const OPEN: &str = "x-open";

/// Marks a field that is recorded in the clear, which can't hold a secret, with the reason.
pub(super) const RECORDED: &str = "x-recorded";

/// Marks a field with the values that keys leave out, where that isn't its default.
pub(super) const UNSAID: &str = "x-unsaid";

/// A place in the schema that holds a value.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) shape: Shape,
    pub(super) role: Role,
    pub(super) default: Option<Json>,
    /// The values that keys leave out, where that isn't the default.
    pub(super) unsaid: Option<Vec<Json>>,
    /// Whether `null` is allowed, and means that the field isn't set.
    pub(super) nullable: bool,
    pub(super) required: bool,
    /// What the field is, up to the first semicolon or full stop.
    pub(super) about: String,
    /// Why it must not hold a secret: where it, or what is below it, is recorded in the clear.
    pub(super) recorded: Option<String>,
    /// The name of the open place that it is, if it's one.
    pub(super) open: Option<String>,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) enum Shape {
    /// Anything
    Any,
    Bool,
    Integer(Bounds),
    Number(Bounds),
    /// Text; `max` characters at most
    Text {
        max: Option<u64>,
    },
    List {
        item: Box<Slot>,
        min: usize,
    },
    /// Free keys
    Map {
        value: Box<Slot>,
        min: usize,
    },
    /// Given keys
    Record(BTreeMap<String, Slot>),
    /// One of several variants: a bare word, or a key with a value
    Choice(Vec<(String, Option<Slot>)>),
    /// A text or a list, or a mapping instead
    Either {
        plain: Box<Slot>,
        mapping: Box<Slot>,
    },
}

/// The range of a number; the ends belong to it.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// What a field is for, from `x-role`.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Role {
    #[default]
    Plain,
    /// A file or a glob
    Path,
    /// A directory with a model
    Checkpoint,
    /// A tokenizer's file, or a directory with one
    Tokenizer,
    /// The name of a model on a hub, in place of the directory that the field of this name would name; or of a data set, where
    /// that field names files in it
    Hub(String),
    /// Which revision of it
    Revision,
    /// The name of a stage that makes this
    Stage(Product),
    /// A template over data rows
    Template,
    /// Can't change a stage's output
    Free,
}

/// What a field names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// Files, by path or glob
    Files,
    /// A directory with a model
    Checkpoint,
    /// A tokenizer's file, or a directory with one
    Tokenizer,
}

impl Role {
    /// What a field that names files names.
    pub(super) fn file_kind(&self) -> Option<FileKind> {
        match self {
            Self::Path => Some(FileKind::Files),
            Self::Checkpoint => Some(FileKind::Checkpoint),
            Self::Tokenizer => Some(FileKind::Tokenizer),
            _ => None,
        }
    }

    /// Whether the field names something whose content counts, and the name doesn't.
    pub(super) fn is_name(&self) -> bool {
        self.file_kind().is_some() || matches!(self, Self::Hub(_) | Self::Revision | Self::Stage(_))
    }
}

impl Slot {
    /// The slot that's meant for this value, where there is one for texts or lists and one for mappings.
    pub(super) fn meant(&self, is_plain: bool) -> &Self {
        match &self.shape {
            Shape::Either { plain, .. } if is_plain => plain,
            Shape::Either { mapping, .. } => mapping,
            _ => self,
        }
    }

    /// The slot of a key, of an index, or of a variant.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Record(fields) => fields.get(key),
            Shape::Map { value, .. } => Some(value),
            Shape::List { item, .. } => Some(item),
            Shape::Choice(variants) => {
                variants.iter().find(|(name, _)| name == key).and_then(|(_, payload)| payload.as_ref())
            }
            Shape::Any => Some(self),
            Shape::Either { plain, mapping } => mapping.child(key).or_else(|| plain.child(key)),
            _ => None,
        }
    }

    /// Whether keys have nothing of this value.
    pub(super) fn is_unsaid(&self, value: &Json) -> bool {
        match &self.unsaid {
            Some(values) => values.contains(value),
            None => self.default.as_ref() == Some(value),
        }
    }

    /// Whether a mapping that stands here has such a key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        match &self.shape {
            Shape::Record(fields) => fields.contains_key(key),
            Shape::Choice(variants) => variants.iter().any(|(variant, _)| variant == key),
            Shape::Either { mapping, .. } => mapping.has_key(key),
            _ => false,
        }
    }

    /// What a value should be, in words.
    pub(super) fn wanted(&self) -> String {
        match &self.shape {
            Shape::Any => "a value".into(),
            Shape::Bool => "`true` or `false`".into(),
            Shape::Integer(_) => "a whole number".into(),
            Shape::Number(_) => "a number".into(),
            Shape::Text { max: Some(1) } => "one character".into(),
            Shape::Text { .. } => "text".into(),
            Shape::List { .. } => "a list".into(),
            Shape::Map { .. } | Shape::Record(_) => "a mapping".into(),
            Shape::Either { plain, mapping } => format!("{} or {}", plain.wanted(), mapping.wanted()),
            Shape::Choice(variants) if variants.iter().all(|(_, payload)| payload.is_none()) => {
                format!("one of {}", super::suggest::list(variants.iter().map(|(name, _)| name.as_str())))
            }
            Shape::Choice(variants) => {
                format!(
                    "a mapping with one of {}",
                    super::suggest::list(variants.iter().map(|(name, _)| name.as_str()))
                )
            }
        }
    }
}

/// Reads a subschema of the kind that schemars makes of serde's types. The recipe's types are not recursive, so
/// references are simply followed.
pub(super) fn slot(schema: &Json, definitions: &Json) -> Slot {
    let mut slot = match reference(schema) {
        Some(name) => self::slot(&definitions[name], definitions),
        None => Slot {
            shape: shape(schema, definitions),
            role: Role::default(),
            default: None,
            unsaid: None,
            nullable: false,
            required: false,
            about: String::new(),
            recorded: None,
            open: None,
        },
    };
    if let Some(value) = option(schema) {
        slot = self::slot(value, definitions);
        slot.nullable = true;
    }
    slot.nullable |= types(schema).any(|name| name == "null");
    if let Some(default) = schema.get("default") {
        slot.default = Some(default.clone());
    }
    if let Some(values) = schema.get(UNSAID).and_then(Json::as_array) {
        slot.unsaid = Some(values.clone());
    }
    if let Some(text) = schema.get("description").and_then(Json::as_str) {
        slot.about = about(text);
    }
    if let Some(role) = schema.get("x-role").and_then(Json::as_str) {
        slot.role = self::role(role);
    }
    if let Some(reason) = schema.get(RECORDED).and_then(Json::as_str) {
        slot.recorded = Some(reason.to_owned());
    }
    if let Some(place) = schema.get(OPEN).and_then(Json::as_str) {
        slot.open = Some(place.to_owned());
    }
    slot
}

/// The first statement of a description, as it's said in the middle of a sentence.
fn about(text: &str) -> String {
    // A full stop within a word is a part of it, such as that of a file's name.
    let first = text.split([';', '(', '\n']).next().unwrap_or_default();
    let first = first.split(". ").next().unwrap_or_default().trim().trim_end_matches('.');
    let mut characters = first.chars();
    characters.next().map(|initial| initial.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn reference(schema: &Json) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// The other half of "this or null".
fn option(schema: &Json) -> Option<&Json> {
    let halves = schema.get("anyOf")?.as_array()?;
    let is_null = |half: &&Json| half.get("type").is_some_and(|name| name == "null");
    halves.iter().find(is_null).and_then(|_| halves.iter().find(|half| !is_null(half)))
}

fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let (one, many) = match schema.get("type") {
        Some(Json::Array(many)) => (None, many.as_slice()),
        Some(one) => (one.as_str(), [].as_slice()),
        None => (None, [].as_slice()),
    };
    one.into_iter().chain(many.iter().filter_map(Json::as_str))
}

fn shape(schema: &Json, definitions: &Json) -> Shape {
    if let Some(variants) = schema.get("oneOf").and_then(Json::as_array) {
        return Shape::Choice(variants.iter().flat_map(|variant| self::variants(variant, definitions)).collect());
    }
    if let Some([plain, mapping]) = schema.get("anyOf").and_then(Json::as_array).map(Vec::as_slice)
        && option(schema).is_none()
    {
        let [plain, mapping] = [plain, mapping].map(|half| Box::new(slot(half, definitions)));
        return Shape::Either { plain, mapping };
    }
    if schema.get("enum").is_some() {
        return Shape::Choice(variants(schema, definitions));
    }
    let count = |key| schema.get(key).and_then(Json::as_u64);
    let least = |key| count(key).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let limit = |key| schema.get(key).and_then(Json::as_f64);
    let bounds = || Bounds { min: limit("minimum"), max: limit("maximum") };
    match types(schema).find(|name| *name != "null") {
        Some("boolean") => Shape::Bool,
        Some("integer") => Shape::Integer(bounds()),
        Some("number") => Shape::Number(bounds()),
        Some("string") => Shape::Text { max: count("maxLength") },
        Some("array") => Shape::List { item: Box::new(slot(&schema["items"], definitions)), min: least("minItems") },
        Some("object") => match &schema["additionalProperties"] {
            Json::Bool(false) => Shape::Record(record(schema, definitions)),
            value => Shape::Map { value: Box::new(slot(value, definitions)), min: least("minProperties") },
        },
        _ => Shape::Any,
    }
}

fn record(schema: &Json, definitions: &Json) -> BTreeMap<String, Slot> {
    let required = schema.get("required").and_then(Json::as_array).map_or([].as_slice(), Vec::as_slice);
    let properties = schema.get("properties").and_then(Json::as_object);
    let field = |(name, field): (&String, &Json)| {
        let mut slot = slot(field, definitions);
        slot.required = required.iter().any(|required| required == name);
        (name.clone(), slot)
    };
    properties.into_iter().flatten().map(field).collect()
}

/// The variants of one branch of an enum: constants, or a key with its value.
fn variants(branch: &Json, definitions: &Json) -> Vec<(String, Option<Slot>)> {
    let words = branch.get("enum").and_then(Json::as_array).map_or([].as_slice(), Vec::as_slice);
    let unit = words.iter().chain(branch.get("const")).filter_map(Json::as_str).map(|word| (word.to_owned(), None));
    let keyed = branch.get("properties").and_then(Json::as_object).into_iter().flatten();
    unit.chain(keyed.map(|(name, payload)| (name.clone(), Some(slot(payload, definitions))))).collect()
}

fn role(text: &str) -> Role {
    match text.split_once(':') {
        Some(("hub", instead_of)) => Role::Hub(instead_of.to_owned()),
        Some(("stage", product)) => Product::named(product).map_or(Role::Plain, Role::Stage),
        _ => match text {
            "path" => Role::Path,
            "checkpoint" => Role::Checkpoint,
            "revision" => Role::Revision,
            "tokenizer" => Role::Tokenizer,
            "template" => Role::Template,
            "free" => Role::Free,
            _ => Role::Plain,
        },
    }
}
