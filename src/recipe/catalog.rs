//! What recipes may name in the open places of the language.
//!
//! The language itself (keys, types, expressions, references, sweeps) is in `spec` and here. Which kinds of stages,
//! families of models, objectives and optimizers there are is not: whoever reads a recipe hands in a [`Catalog`] of them.
//! `stages::catalog` makes the one of this program out of its registries.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value as Json;

use super::{
    Extension, KindRules, OpenPlace,
    open_place::Form,
    shape::{self, Shape, Slot},
};
use crate::spec::{Recipe, Stage};
use crate::support::Hinted;

/// Tells what is wrong with the directory of a model; the second argument is what it's called in messages.
pub type CheckpointCheck = fn(&Path, &str) -> Result<(), Hinted>;

/// The open places of the language with all that may stand there, and the schema that follows from it.
///
/// Recipes are read with a catalog that lives as long as the program, and what was read points into it.
pub struct Catalog {
    kinds: Vec<&'static dyn KindRules>,
    places: BTreeMap<&'static str, OpenPlace>,
    check_checkpoint: CheckpointCheck,
    /// The schema of recipes, without expressions.
    schema: Json,
    /// The same in the form that the program walks.
    recipe: Slot,
}

impl Catalog {
    /// A catalog of these kinds of stages, and of what may stand in other open places.
    pub fn new(
        kinds: Vec<&'static dyn KindRules>,
        mut places: Vec<OpenPlace>,
        check_checkpoint: CheckpointCheck,
    ) -> Self {
        places.push(OpenPlace::one_of("Stage", kinds.iter().map(|kind| *kind as &dyn Extension).collect()));
        let mut generator = SchemaGenerator::default();
        let mut schemas = |place: &OpenPlace| -> Vec<Schema> {
            place.entries.iter().map(|entry| entry.schema(&mut generator)).collect()
        };
        let schemas: Vec<_> = places.iter().map(&mut schemas).collect();
        let mut schema = generator.into_root_schema_for::<Recipe>().to_value();
        for (place, schemas) in places.iter().zip(schemas) {
            if let Some(definition) = schema["$defs"].get_mut(place.definition) {
                place.fill(definition, schemas);
            }
        }
        let recipe = shape::slot(&schema, &schema["$defs"]);
        let places = places.into_iter().map(|place| (place.definition, place)).collect();
        Self { kinds, places, check_checkpoint, schema, recipe }
    }

    /// What is wrong with the directory of a model, which is shown so in messages.
    ///
    /// # Errors
    /// If there's anything wrong.
    pub(super) fn check_checkpoint(&self, place: &Path, shown: &str) -> Result<(), Hinted> {
        (self.check_checkpoint)(place, shown)
    }

    /// Why what stands at a pointer, such as `stages.base.pretrain.train.lr`, can't be a secret: it's recorded in the clear.
    /// None if it isn't.
    pub fn recorded(&self, pointer: &str) -> Option<&str> {
        let mut slot = &self.recipe;
        let mut reason = None;
        for part in pointer.split('.') {
            let Some(child) = slot.child(part) else { break };
            reason = child.recorded.as_deref().or(reason);
            slot = child;
        }
        // Names of files stay out of all records.
        reason.filter(|_| slot.role.file_kind().is_none())
    }

    /// The kinds of stages.
    pub fn kinds(&self) -> &[&'static dyn KindRules] {
        &self.kinds
    }

    /// The kind of this name.
    pub fn kind(&self, name: &str) -> Option<&'static dyn KindRules> {
        self.kinds.iter().copied().find(|kind| kind.name() == name)
    }

    /// The schema that the program works from: that of recipes, where no expression is left.
    pub fn schema(&self) -> &Json {
        &self.schema
    }

    /// What may stand in a recipe.
    pub(super) fn recipe(&self) -> &Slot {
        &self.recipe
    }

    /// What a stage may be, with the tag of its kind.
    pub(super) fn stage(&self) -> &Slot {
        match &self.recipe.shape {
            Shape::Record(fields) => match fields.get("stages").map(|slot| &slot.shape) {
                Some(Shape::Map { value, .. }) => value,
                _ => &self.recipe,
            },
            _ => &self.recipe,
        }
    }

    /// A stage, given as `{ kind: settings }`, with all defaults filled in.
    ///
    /// # Errors
    /// If a part of it doesn't fit its type.
    pub fn read_stage(&self, json: Json) -> Result<Stage> {
        let mut json = json;
        self.normalize(&mut json, self.stage())?;
        Ok(serde_json::from_value(json)?)
    }

    /// Fills in the defaults of all entries of open places below a value.
    ///
    /// # Errors
    /// If the settings of one don't fit.
    fn normalize(&self, value: &mut Json, slot: &Slot) -> Result<()> {
        let slot = slot.meant(value.is_string());
        match value {
            Json::Object(map) => {
                let place = slot.open.as_deref().and_then(|place| self.places.get(place));
                for (key, value) in &mut *map {
                    if let Some(entry) = place.and_then(|place| place.entry(key))
                        && !value.is_null()
                    {
                        *value = entry.normalize(value.take())?;
                    }
                    if let Some(slot) = slot.child(key) {
                        self.normalize(value, slot)?;
                    }
                }
                for entry in place.iter().filter(|place| place.form == Form::AnyOf).flat_map(|place| &place.entries) {
                    map.entry(entry.name()).or_insert(Json::Null);
                }
            }
            Json::Array(items) => {
                if let Some(slot) = slot.child("") {
                    items.iter_mut().try_for_each(|item| self.normalize(item, slot))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places = self.places.iter().map(|(definition, place)| {
            (definition, place.entries.iter().map(|entry| entry.name()).collect::<Vec<_>>())
        });
        f.debug_map().entries(places).finish()
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::{
        recipe::{Checks, DevMetrics, Draft, Kind, normalized, shape::Role},
        spec::{Adapter, EarlyStopping, Origin, Product, Task, Tokenizer, Train},
        support::Named,
    };

    #[derive(Deserialize, JsonSchema, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Toy {
        #[serde(default = "three")]
        size: usize,
    }

    fn three() -> usize {
        3
    }

    impl Named for Toy {
        fn name(&self) -> &'static str {
            "toy"
        }
    }

    impl Extension for Toy {
        fn about(&self) -> &'static str {
            "A toy"
        }

        fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
            generator.subschema_for::<Self>()
        }

        fn normalize(&self, settings: Json) -> Result<Json> {
            normalized::<Self>(settings)
        }
    }

    /// A kind of stage with a field of each role.
    struct Play;

    #[derive(Deserialize, JsonSchema, Serialize)]
    #[serde(deny_unknown_fields)]
    struct PlaySettings {
        #[schemars(extend("x-role" = "path"))]
        path: String,
        #[serde(default)]
        #[schemars(extend("x-role" = "stage:tokens"))]
        tokens: Option<String>,
        #[serde(default)]
        from: Option<Origin>,
        #[serde(default)]
        tokenizer: Option<Tokenizer>,
        #[serde(default)]
        adapter: Option<Adapter>,
        #[serde(default)]
        early_stopping: Option<EarlyStopping>,
        #[serde(default)]
        #[schemars(extend("x-recorded" = "tasks are told"))]
        task: Option<Task>,
        train: Train,
    }

    impl Named for Play {
        fn name(&self) -> &'static str {
            "play"
        }
    }

    impl Extension for Play {
        fn about(&self) -> &'static str {
            "Play"
        }

        fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
            generator.subschema_for::<PlaySettings>()
        }

        fn normalize(&self, settings: Json) -> Result<Json> {
            normalized::<PlaySettings>(settings)
        }
    }

    impl Kind for Play {
        fn products(&self) -> &'static [Product] {
            &[Product::Model]
        }

        fn dev_metrics(&self, _settings: &Json) -> Option<DevMetrics> {
            None
        }
    }

    impl KindRules for Play {
        fn check(&self, _stage: &Draft, _checks: &mut Checks<'_>) {}
    }

    /// A catalog with one kind, `play`, and a `toy` among the adapters and beside the keys of early stopping.
    fn catalog() -> Catalog {
        let places = vec![
            OpenPlace::one_of("Adapter", vec![&Toy { size: 0 }]),
            OpenPlace::any_of("EarlyStopping", vec![&Toy { size: 0 }]),
        ];
        Catalog::new(vec![&Play], places, |_, _| Ok(()))
    }

    #[test]
    fn entries_stand_in_the_schema_as_variants_of_an_enum_do_and_optional_fields() {
        let catalog = catalog();
        let definitions = &catalog.schema()["$defs"];
        assert_eq!(definitions["Toy"]["properties"]["size"]["default"], json!(3));
        let [lora, .., toy] = definitions["Adapter"]["oneOf"].as_array().map_or(&[][..], Vec::as_slice) else {
            panic!("no variants")
        };
        let like = |variant: &Json, name: &str, type_name: &str| {
            let text = variant.to_string().replace(variant["description"].as_str().unwrap_or_default(), "…");
            text.replace(name, "NAME").replace(type_name, "TYPE")
        };
        assert_eq!(like(toy, "\"toy\"", "Toy"), like(lora, "\"lora\"", "Lora"));
        let field = &definitions["EarlyStopping"]["properties"]["toy"];
        let mut option = definitions["PlaySettings"]["properties"]["adapter"].clone();
        option["description"] = json!("A toy");
        assert_eq!(field.to_string().replace("/Toy", "/Adapter"), option.to_string());
    }

    #[test]
    fn defaults_of_entries_are_filled_in_wherever_they_stand() {
        let catalog = catalog();
        let play = catalog.stage().child("play").expect("a kind");
        let fill = |field: &str, mut value: Json| {
            let slot = field.split('.').try_fold(play, |slot, key| slot.child(key)).expect("a field");
            catalog.normalize(&mut value, slot).map(|()| value).map_err(|error| error.to_string())
        };
        assert_eq!(fill("adapter", json!({ "toy": {} })), Ok(json!({ "toy": { "size": 3 } })));
        assert_eq!(fill("adapter", json!({ "lora": { "r": 1 } })), Ok(json!({ "lora": { "r": 1 } })));
        assert!(fill("adapter", json!({ "toy": { "length": 1 } })).is_err_and(|error| error.contains("length")));
        let stopping = fill("train.early_stopping", json!({ "metric": "loss" }));
        assert_eq!(stopping, Ok(json!({ "metric": "loss", "toy": null })), "as optional fields are");
        let stopping = fill("train.early_stopping", json!({ "toy": { "size": 1 } }));
        assert_eq!(stopping, Ok(json!({ "toy": { "size": 1 } })));
    }

    #[test]
    fn what_is_recorded_is_told_at_any_depth() {
        let catalog = catalog();
        let recorded = |field: &str| catalog.recorded(&format!("stages.a.play.{field}"));
        assert_eq!(recorded("task"), Some("tasks are told"));
        assert_eq!(recorded("task.classification.words.体育"), Some("tasks are told"));
        assert_eq!(recorded("train.seed"), Some("seeds are recorded with results"));
        assert_eq!((recorded("train.lr"), recorded("path"), recorded("nothing")), (None, None, None));
        assert!(catalog.recorded("sweep.grid.seed.0").is_some() && catalog.recorded("vars.a").is_none());
    }

    #[test]
    fn roles_reach_fields_options_and_variants() {
        let catalog = catalog();
        let field = |path: &[&str]| path.iter().try_fold(catalog.stage(), |slot, key| slot.child(key));
        let role = |path: &[&str]| field(path).map(|slot| &slot.role);
        assert_eq!(role(&["play", "path"]), Some(&Role::Path));
        assert_eq!(role(&["play", "tokenizer", "file"]), Some(&Role::Tokenizer));
        assert_eq!(role(&["play", "from", "checkpoint"]), Some(&Role::Checkpoint));
        let from = field(&["play", "from"]).map(|slot| &slot.meant(true).role);
        assert_eq!(from, Some(&Role::Stage(Product::Model)));
        assert_eq!(role(&["play", "tokens"]), Some(&Role::Stage(Product::Tokens)));
        assert_eq!(role(&["play", "task", "classification", "template"]), Some(&Role::Template));
        assert_eq!(role(&["play", "train", "log_every"]), Some(&Role::Free));
        assert!(field(&["play", "train", "steps"]).is_some_and(|slot| slot.nullable && !slot.required));
    }
}
