//! What a kind of stage is: one type with its settings, and everything that the program has to know of it.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    devices::{DeviceUse, Devices},
    facts::{Facts, Field},
    preflight::Preflight,
    training_feed::{Base, TrainingFeed},
};
use crate::{
    engine::executor::{Computed, Inputs, Job},
    network::batch::Layout,
    recipe::{Checks, DevMetrics, Draft, Extension, Kind, KindRules, Supplement, normalized},
    spec::{Product, Stage},
    support::Named,
};

/// Gives a stage of a recipe by its name.
pub type StageOf<'a> = &'a dyn Fn(&str) -> Option<&'a Stage>;

/// A kind of stage. The type that implements it is that of its settings; where they name files or other stages, `x-role`
/// says so (see [`spec`](crate::spec)).
///
/// A new one is a file with such a type and a line in [`KINDS`](super::KINDS): schema, checks, plan, keys, estimates and
/// reports come out of what stands here.
pub trait StageKind: DeserializeOwned + JsonSchema + Serialize + 'static {
    /// Its name in recipes.
    const NAME: &'static str;
    /// What it does, in half a sentence: its description in the schema.
    const ABOUT: &'static str;
    /// What its artifact has for other stages.
    const PRODUCTS: &'static [Product];
    /// The fields of its settings that name files and stages, and that its code asks the job for by name.
    const FIELDS: &'static [Field];
    /// Whether it draws random numbers, so that the seed is a part of its key.
    const IS_RANDOM: bool = false;
    /// Where it computes.
    const DEVICES: DeviceUse = DeviceUse::None;

    /// Version of its code. Raise it whenever the same input would give another output, so that an older artifact is never
    /// served for newer code.
    ///
    /// # Errors
    /// If it depends on something that isn't known.
    fn version(&self) -> Result<u32> {
        Ok(1)
    }

    /// Checks rules that the types can't say, as [`KindRules::check`].
    fn check(&self, _stage: &Draft, _checks: &mut Checks<'_>) {}

    /// What it says of itself before it runs: the model that it begins with, how it trains.
    ///
    /// # Errors
    /// If it depends on something that isn't known.
    fn facts(&self) -> Result<Facts> {
        Ok(Facts::default())
    }

    /// The stages that it needs and that no recipe has to write; `stage` gives others of the recipe by their names.
    ///
    /// # Errors
    /// Settings that don't fit each other.
    fn supplements(&self, _stage: StageOf<'_>) -> Result<Vec<Supplement>> {
        Ok(Vec::new())
    }

    /// The numbers that are recorded of it, as [`Kind::metrics`].
    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        None
    }

    /// Looks at what it will read, before anything runs.
    ///
    /// # Errors
    /// Data that can't be read. Mistakes in the recipe are reported.
    fn preflight(&self, _preflight: &mut Preflight<'_>) -> Result<()> {
        Ok(())
    }

    /// What it trains on, as its run gives it to the training loop in batches of this layout; nothing if it trains nothing.
    /// Beside what it reads itself it's given what is known of the model that it begins with, which needn't be there yet.
    ///
    /// # Errors
    /// Data that can't be read, or that there is nothing to learn from.
    fn feed(&self, _inputs: &Inputs<'_>, _base: &Base, _layout: Layout) -> Result<Option<TrainingFeed>> {
        Ok(None)
    }

    /// Does its work.
    ///
    /// # Errors
    /// Whatever keeps it from being done; [`Paused`](crate::engine::executor::Paused) where the rest is to be done later.
    fn run(&self, job: &Job<'_>, devices: &Devices) -> Result<Computed>;
}

/// A kind of stage in the registry, of whichever type its settings are. All settings that it's given have been checked, or
/// are an error.
pub trait AnyKind: KindRules {
    /// As [`StageKind::FIELDS`].
    fn fields(&self) -> &'static [Field];

    /// As [`StageKind::IS_RANDOM`].
    fn is_random(&self) -> bool;

    /// As [`StageKind::DEVICES`].
    fn devices(&self) -> DeviceUse;

    /// As [`StageKind::version`].
    ///
    /// # Errors
    /// Settings of another kind.
    fn version(&self, settings: &Value) -> Result<u32>;

    /// As [`StageKind::facts`].
    ///
    /// # Errors
    /// Settings of another kind.
    fn facts(&self, settings: &Value) -> Result<Facts>;

    /// As [`StageKind::supplements`].
    ///
    /// # Errors
    /// As [`StageKind::supplements`]; settings of another kind.
    fn supplements(&self, settings: &Value, stage: StageOf<'_>) -> Result<Vec<Supplement>>;

    /// As [`StageKind::preflight`].
    ///
    /// # Errors
    /// As [`StageKind::preflight`]; settings of another kind.
    fn preflight(&self, settings: &Value, preflight: &mut Preflight<'_>) -> Result<()>;

    /// As [`StageKind::feed`].
    ///
    /// # Errors
    /// As [`StageKind::feed`]; settings of another kind.
    fn feed(&self, settings: &Value, inputs: &Inputs<'_>, base: &Base, layout: Layout) -> Result<Option<TrainingFeed>>;

    /// As [`StageKind::run`].
    ///
    /// # Errors
    /// As [`StageKind::run`]; settings of another kind.
    fn run(&self, settings: &Value, job: &Job<'_>, devices: &Devices) -> Result<Computed>;
}

/// A kind as registries hold it: `Of::<Pretrain>::new()`.
#[derive(Debug)]
pub struct Of<K>(PhantomData<fn() -> K>);

impl<K> Of<K> {
    /// The kind whose settings are of this type.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Default for Of<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn read<K: StageKind>(settings: &Value) -> Result<K> {
    K::deserialize(settings).with_context(|| format!("these aren't the settings of {} stages", K::NAME))
}

impl<K: StageKind> Named for Of<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
}

impl<K: StageKind> Extension for Of<K> {
    fn about(&self) -> &'static str {
        K::ABOUT
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<K>()
    }

    fn normalize(&self, settings: Value) -> Result<Value> {
        normalized::<K>(settings)
    }
}

impl<K: StageKind> Kind for Of<K> {
    fn products(&self) -> &'static [Product] {
        K::PRODUCTS
    }

    fn dev_metrics(&self, settings: &Value) -> Option<DevMetrics> {
        read::<K>(settings).ok()?.facts().ok()?.training?.dev_metrics()
    }
}

impl<K: StageKind> KindRules for Of<K> {
    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        if let Some(settings) = stage.settings_as::<K>() {
            settings.check(stage, checks);
        }
    }

    fn metrics(&self, stage: &Draft, checks: &Checks<'_>) -> Option<Vec<String>> {
        stage.settings_as::<K>()?.metrics(checks)
    }
}

impl<K: StageKind> AnyKind for Of<K> {
    fn fields(&self) -> &'static [Field] {
        K::FIELDS
    }

    fn is_random(&self) -> bool {
        K::IS_RANDOM
    }

    fn devices(&self) -> DeviceUse {
        K::DEVICES
    }

    fn version(&self, settings: &Value) -> Result<u32> {
        read::<K>(settings)?.version()
    }

    fn facts(&self, settings: &Value) -> Result<Facts> {
        read::<K>(settings)?.facts()
    }

    fn supplements(&self, settings: &Value, stage: StageOf<'_>) -> Result<Vec<Supplement>> {
        read::<K>(settings)?.supplements(stage)
    }

    fn preflight(&self, settings: &Value, preflight: &mut Preflight<'_>) -> Result<()> {
        read::<K>(settings)?.preflight(preflight)
    }

    fn feed(&self, settings: &Value, inputs: &Inputs<'_>, base: &Base, layout: Layout) -> Result<Option<TrainingFeed>> {
        read::<K>(settings)?.feed(inputs, base, layout)
    }

    fn run(&self, settings: &Value, job: &Job<'_>, devices: &Devices) -> Result<Computed> {
        read::<K>(settings)?.run(job, devices)
    }
}
