//! Values of the language's open places: `{ name: settings }`. What names there are, and what settings they take, is
//! known to the catalog that a recipe is read with; here both are passed through.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

/// The type of an open place: its documentation, its name, and the name of the field that holds the entry's name.
///
/// It's written `{ name: settings }`, as a variant of an enum would be, and its definition in the schema is empty until a
/// catalog fills it.
macro_rules! open_place {
    ($(#[doc = $about:literal])+ $place:ident { $(#[doc = $field_about:literal])+ $field:ident }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $place {
            $(#[doc = $field_about])+
            pub $field: String,
            /// Its settings, with defaults filled in once the recipe is checked.
            pub settings: serde_json::Value,
        }

        impl serde::Serialize for $place {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::spec::open::serialize(&self.$field, &self.settings, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $place {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let ($field, settings) = crate::spec::open::deserialize(deserializer)?;
                Ok(Self { $field, settings })
            }
        }

        impl schemars::JsonSchema for $place {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($place).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::spec::open::schema(&[$($about),+])
            }
        }
    };
}

pub(super) use open_place;

/// Writes `{ name: settings }`.
pub(super) fn serialize<S: Serializer>(name: &str, settings: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    IndexMap::from([(name, settings)]).serialize(serializer)
}

/// Reads `{ name: settings }`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(String, Value), D::Error> {
    let entries = IndexMap::<String, Value>::deserialize(deserializer)?;
    let count = entries.len();
    let only = entries.into_iter().next().filter(|_| count == 1);
    only.ok_or_else(|| de::Error::custom(format!("expected a mapping with one key, and this has {count}")))
}

/// The definition of an open place before a catalog fills it.
pub(super) fn schema(about: &[&str]) -> schemars::Schema {
    let lines: Vec<&str> = about.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let about = lines.join("\n");
    let empty = json!({ "description": about.trim(), "oneOf": [] });
    schemars::Schema::try_from(empty).unwrap_or_default()
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro makes types for all of the program")]
mod tests {
    use super::*;

    open_place! {
        /// A place for toys,
        /// of two lines.
        Toy {
            /// Its name.
            kind
        }
    }

    #[test]
    fn a_value_is_a_mapping_with_one_key() {
        let toy: Toy = serde_json::from_value(json!({ "ball": { "size": 3 } })).expect("one key");
        assert_eq!(toy, Toy { kind: "ball".into(), settings: json!({ "size": 3 }) });
        assert_eq!(json!(toy), json!({ "ball": { "size": 3 } }));
        for wrong in [json!({}), json!({ "a": {}, "b": {} }), json!("ball")] {
            assert!(serde_json::from_value::<Toy>(wrong.clone()).is_err(), "{wrong}");
        }
        let about = schemars::schema_for!(Toy).to_value()["description"].clone();
        assert_eq!(about, json!("A place for toys,\nof two lines."));
    }
}
