//! What a language model is trained for: entries of a mix, open to whatever objectives there are. Which those are, and
//! what their settings mean, is known above; here they are names with JSON.

use std::{borrow::Cow, fmt};

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

use super::open;

/// The key under which objectives that generate text stand.
pub const GENERATIVE: &str = "generative";

/// Keys of an entry that have always been written, `null` where the entry doesn't have them: artifacts' digests depend
/// on it. Any other is written where it is there.
const ALWAYS_WRITTEN: [&str; 3] = ["masked_lm", "next_sentence", "sentence_order"];

/// An objective's settings by name, in the order of their declaration once their defaults are filled in.
pub type OpenSettings = IndexMap<String, Value>;

/// One entry of the mix: how often it's drawn, and the objectives that are computed on its examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// How often this entry is drawn, relative to the others.
    pub weight: f64,
    /// Its objectives.
    pub parts: Vec<Part>,
}

/// One objective of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The objective's name.
    pub name: String,
    /// Where in the entry it stands.
    pub section: Section,
    /// Its settings.
    pub settings: OpenSettings,
}

/// Where in an entry an objective stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// `NAME: {…}`
    Entry,
    /// `generative: {NAME: {…}}`
    Generative,
}

impl Section {
    /// The path to an objective from its entry, such as `generative.causal_lm`.
    pub fn pointer(self, name: &str) -> String {
        match self {
            Self::Entry => name.to_owned(),
            Self::Generative => format!("{GENERATIVE}.{name}"),
        }
    }

    /// The entry's key that an objective takes: its name, or `generative`.
    pub fn key(self, name: &str) -> &str {
        match self {
            Self::Entry => name,
            Self::Generative => GENERATIVE,
        }
    }
}

impl Part {
    /// The path to it from its entry.
    pub fn pointer(&self) -> String {
        self.section.pointer(&self.name)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |section: Section| self.parts.iter().filter(move |part| part.section == section);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("weight", &self.weight)?;
        for name in ALWAYS_WRITTEN {
            let part = of(Section::Entry).find(|part| part.name == name);
            map.serialize_entry(name, &part.map(|part| &part.settings))?;
        }
        let generative: IndexMap<&str, &OpenSettings> =
            of(Section::Generative).map(|part| (part.name.as_str(), &part.settings)).collect();
        map.serialize_entry(GENERATIVE, &(!generative.is_empty()).then_some(generative))?;
        for part in of(Section::Entry).filter(|part| !ALWAYS_WRITTEN.contains(&part.name.as_str())) {
            map.serialize_entry(&part.name, &part.settings)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

/// Reads an entry key by key.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Objective;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of objectives")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Objective, A::Error> {
        let mut objective = Objective { weight: one(), parts: Vec::new() };
        let mut add = |name, section, settings| objective.parts.push(Part { name, section, settings });
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "weight" => objective.weight = map.next_value()?,
                GENERATIVE => {
                    let Some(parts) = map.next_value::<Option<IndexMap<String, OpenSettings>>>()? else { continue };
                    if parts.len() != 1 {
                        return Err(de::Error::custom(format!("`{GENERATIVE}` takes one objective")));
                    }
                    parts.into_iter().for_each(|(name, settings)| add(name, Section::Generative, settings));
                }
                _ => {
                    if let Some(settings) = map.next_value()? {
                        add(key, Section::Entry, settings);
                    }
                }
            }
        }
        Ok(objective)
    }
}

/// One entry of the mix. Each step draws one entry by weight. `masked_lm` and one of `next_sentence` and
/// `sentence_order` may stand together: they're computed on the same pairs, and their losses are added.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it's there for its schema")]
struct Fields {
    /// How often this entry is drawn, relative to the others
    #[schemars(default = "one", range(min = 0.0))]
    weight: f64,
    /// Generate text
    #[schemars(default)]
    generative: Option<Generative>,
}

/// The generative objectives.
#[derive(Serialize)]
struct Generative;

impl JsonSchema for Generative {
    fn schema_name() -> Cow<'static, str> {
        "Generative".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        open::schema(&["The generative objectives."])
    }
}

/// What is the same whatever objectives there are; a catalog fills in these.
impl JsonSchema for Objective {
    fn schema_name() -> Cow<'static, str> {
        "Objective".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Fields::json_schema(generator)
    }
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What versions with a fixed list of objectives wrote: digests of models depend on every byte.
    #[test]
    fn entries_are_written_as_ever() {
        for (read, written) in [
            (
                r#"{"masked_lm": {"probability": 0.15, "mask": 0.8}, "weight": 2}"#,
                r#"{"weight":2.0,"masked_lm":{"probability":0.15,"mask":0.8},"next_sentence":null,"sentence_order":null,"generative":null}"#,
            ),
            (
                r#"{"generative": {"causal_lm": {}}, "sentence_order": null}"#,
                r#"{"weight":1.0,"masked_lm":null,"next_sentence":null,"sentence_order":null,"generative":{"causal_lm":{}}}"#,
            ),
            (
                r#"{"other": {"b": 1, "a": [2]}}"#,
                r#"{"weight":1.0,"masked_lm":null,"next_sentence":null,"sentence_order":null,"generative":null,"other":{"b":1,"a":[2]}}"#,
            ),
        ] {
            let objective: Objective = serde_json::from_str(read).unwrap();
            assert_eq!(serde_json::to_string(&objective).unwrap(), written);
            assert_eq!(serde_json::from_str::<Objective>(written).unwrap(), objective);
        }
        assert!(serde_json::from_str::<Objective>(r#"{"generative": {"a": {}, "b": {}}}"#).is_err());
        assert!(serde_json::from_str::<Objective>(r#"{"generative": {}}"#).is_err());
        assert!(serde_json::from_str::<Objective>(r#"{"weight": null}"#).is_err());
    }
}
