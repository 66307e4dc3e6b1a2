//! The model that a stage begins with: where it comes from, and whether its sizes go together.

use std::{path::Path, sync::Arc};

use anyhow::Result;

use crate::{
    network::{
        checkpoint::{self, ADAPTER, BASE, CONFIG},
        model::{Family, Misfit, Outline, families},
    },
    recipe::{Checks, Diagnostic, Draft, Step},
    spec::{Adapter, Model, Tokenize},
    stages::{BaseModel, Facts, Field, kind_named},
    support::{Hinted, suggest},
};

/// Entries of a vocabulary that isn't there yet.
const VOCABULARY: usize = 64;

/// What is known of a model before it's there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) family: &'static Family,
    /// The longest sequence; none where the model takes any.
    pub(super) max_length: Option<usize>,
    /// Whether it has a table of positions.
    pub(super) has_positions: bool,
}

/// The model that stages begin with.
struct Beginning {
    /// The stage that makes or reads it.
    owner: String,
    known: Option<Known>,
    /// Its shapes.
    outline: Option<Outline>,
}

/// The model that a stage begins with, through all stages that it continues.
fn beginning(checks: &Checks<'_>, draft: &Draft) -> Option<Arc<Beginning>> {
    let step = |draft: &Draft| -> Option<Step<Beginning>> {
        let owner = draft.name.clone();
        let (known, outline) = match facts(draft)?.base_model? {
            BaseModel::Stage { name, .. } => return Some(Step::With(name)),
            BaseModel::New { model, .. } => {
                let family = families::of_spec(&model).ok()?;
                // No linear layer depends on the vocabulary.
                let outline = Outline::new(&model, VOCABULARY).ok();
                let has_positions =
                    outline.as_ref().is_some_and(|outline| outline.architecture().sizes().positions.is_some());
                let known = |max_length| Known { family, max_length: Some(max_length), has_positions };
                (family.max_length(&model.settings).ok().map(known), outline)
            }
            BaseModel::Checkpoint { directory, .. } => {
                let outline = Outline::of_directory(&checks.directory(&directory)?).ok();
                (outline.as_ref().map(known), outline)
            }
        };
        Some(Step::Here(Beginning { owner, known, outline }))
    };
    checks.beginning(draft, |draft| step(draft).unwrap_or(Step::Nowhere))
}

fn facts(draft: &Draft) -> Option<Facts> {
    kind_named(draft.kind.name()).ok()?.facts(draft.settings()?).ok()
}

/// The model that a stage begins with, through all stages that it continues, and the stage that makes or reads it.
pub(super) fn origin_of(checks: &Checks<'_>, draft: &Draft) -> Option<(String, Known)> {
    let beginning = beginning(checks, draft)?;
    Some((beginning.owner.clone(), beginning.known?))
}

/// How many tokens the prefix has that a stage trains, where it trains one.
pub(super) fn prefix_tokens(draft: &Draft) -> Option<usize> {
    match facts(draft)?.training?.adapter? {
        Adapter::PTuning(tuning) => Some(tuning.tokens),
        Adapter::Lora(_) => None,
    }
}

/// What the shapes of a checkpoint's model say of it.
fn known(outline: &Outline) -> Known {
    let sizes = outline.architecture().sizes();
    let has_positions = sizes.positions.is_some();
    Known { family: outline.family(), max_length: has_positions.then_some(sizes.max_length), has_positions }
}

/// What is wrong with the directory of a checkpoint, which is called so in messages. That its weights are there is seen to
/// when they're needed: to plan, its config is enough.
pub(in crate::stages) fn checkpoint(place: &Path, shown: &str) -> Result<(), Hinted> {
    if place.is_file() {
        return Err(Hinted::new(format!("`{shown}` is a file"), "name the directory that it lies in".to_owned()));
    }
    checkpoint::describe_base(place).map_err(|error| Hinted::of(&error))?;
    if place.join(ADAPTER).is_file() && !checkpoint::base(place).join(CONFIG).is_file() {
        let message = format!("`{shown}` is an adapter, and its {BASE} names no directory with a model");
        let hint = "write the path of one there, or put the model's files beside it".to_owned();
        return Err(Hinted::new(message, hint));
    }
    if !checkpoint::base(place).join(CONFIG).is_file() {
        let hint = "name a directory with a model in Hugging Face's layout".to_owned();
        return Err(Hinted::new(format!("`{shown}` has no {CONFIG}"), hint));
    }
    match Outline::of_directory(place) {
        Ok(_) => Ok(()),
        Err(error) => Err(Hinted::new(format!("the model in `{shown}` can't be made: {error:#}"), None)),
    }
}

/// A model comes from another stage or is new: one of the two.
pub(in crate::stages) fn origin(checks: &mut Checks<'_>, draft: &Draft, from: bool, model: bool) {
    if from && model {
        checks.add(
            Diagnostic::new("`from` and `model` are both given")
                .at(checks.key(&draft.pointer("model")))
                .label("a new model")
                .also(checks.key(&draft.pointer("from")), "one that exists")
                .hint("keep one of the two".to_owned()),
        );
    } else if !from && !model {
        checks.report(
            checks.key(&draft.pointer("")),
            "the stage has no model",
            "continue one with `from: STAGE`, or make a new one with `model`".to_owned(),
        );
    }
}

/// An adapter needs a model that exists (none does if it's `alone`), with the layers that it's for.
pub(in crate::stages) fn adapter(checks: &mut Checks<'_>, draft: &Draft, adapter: Option<&Adapter>, alone: bool) {
    let Some(adapter) = adapter else { return };
    if alone {
        return checks.report(
            checks.key(&draft.pointer("adapter")),
            "an adapter needs a model that exists: a new one has learned nothing yet",
            "start `from` a stage or a checkpoint, or take `adapter` out".to_owned(),
        );
    }
    let name = if matches!(adapter, Adapter::Lora(_)) { "lora" } else { "p_tuning" };
    let [new, old] = ["weights", "base_dtype"].map(|field| draft.pointer(&format!("adapter.{name}.{field}")));
    if checks.is_given(&new) && checks.is_given(&old) {
        checks.both(&new, &old);
    }
    let Adapter::Lora(lora) = adapter else { return };
    let beginning = beginning(checks, draft);
    let outline = beginning.as_ref().and_then(|beginning| beginning.outline.as_ref());
    let Some((target, names)) = outline.and_then(|outline| outline.unmet_target(&lora.targets)) else { return };
    let index = lora.targets.iter().position(|known| known == target).unwrap_or_default();
    let pointer = draft.pointer(&format!("adapter.lora.targets.{index}"));
    let near = suggest::nearest(target, names.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let message = format!("no linear layer of the model is called `{}`", checks.shown(&pointer));
    let names = suggest::list(names.iter().map(String::as_str));
    checks.report(checks.value(&pointer), message, format!("{near}there is {names}"));
}

pub(in crate::stages) fn has_corpus(checks: &mut Checks<'_>, draft: &Draft, tokens: &str, field: Field) {
    if let Some(spec) = checks.stage(tokens).and_then(Draft::settings_as::<Tokenize>)
        && spec.corpus.is_empty()
    {
        let pointer = draft.pointer(field.0);
        let message = format!("`{}` encodes no corpus", checks.shown(&pointer));
        checks.report(checks.value(&pointer), message, "name texts under its `corpus`".to_owned());
    }
}

/// The sizes of a new model have to go together.
pub(in crate::stages) fn model(checks: &mut Checks<'_>, draft: &Draft, model: Option<&Model>) {
    let Some(model) = model else { return };
    let sizes = families::of_spec(model).and_then(|family| family.attention_sizes(&model.settings));
    // What is no family or has other types was found before.
    for Misfit { field, message, hint } in sizes.map(|sizes| sizes.misfits()).unwrap_or_default() {
        let place = draft.pointer(&format!("model.{}.{field}", model.family));
        checks.report(checks.value(&place), message, hint);
    }
}
