//! From a checked recipe to the graph that the engine runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    engine::plan::{Graph, Length, Node, Trunk},
    hub::{self, Reference, Snapshot, Wanted},
    network::checkpoint,
    recipe::{
        Checked,
        paths::{fetch_data, resolve_path, resolve_place},
        walk::{FileField, FileKind, file_fields, stage_fields},
    },
    spec::Stage,
    stages::{TakenOver, TakenOverByStages, Training, kind_named},
};

/// The graph of a recipe's stages.
///
/// # Errors
/// If an input file vanished since the check.
pub fn graph(checked: &Checked) -> Result<Graph> {
    graph_of_cell(checked, &mut TakenOver::default())
}

/// The same of one of many cells; `taken_over` remembers what was looked at for those before.
pub(super) fn graph_of_cell(checked: &Checked, taken_over: &mut TakenOver) -> Result<Graph> {
    let mut nodes = IndexMap::new();
    let mut taken_over = taken_over.by_stages_of(checked);
    for name in &checked.order {
        let stage = checked.recipe.stages.get(name).with_context(|| format!("there is no stage `{name}`"))?;
        nodes.insert(name.clone(), node(checked, name, stage, &mut taken_over)?);
    }
    Ok(nodes.into())
}

fn node(checked: &Checked, name: &str, stage: &Stage, taken_over: &mut TakenOverByStages<'_>) -> Result<Node> {
    let (kind, catalog) = (kind_named(&stage.kind)?, checked.catalog());
    let facts = kind.facts(&stage.settings)?;
    let (mut files, mut parts, mut pinned) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for FileField { pointer, pattern, kind } in file_fields(catalog, stage) {
        let found = match kind {
            FileKind::Files => {
                if let Some((reference, snapshot)) = fetch_data(&pattern)? {
                    pinned.insert(pointer.clone(), pin(&reference, &snapshot));
                }
                resolve_path(&pattern, &checked.dir)?
            }
            FileKind::Checkpoint | FileKind::Tokenizer => {
                let place = match Reference::of_place(&pattern) {
                    Some(reference) => {
                        let reference = reference?;
                        let snapshot = hub::fetch(&reference, Wanted::Model)?;
                        pinned.insert(pointer.clone(), pin(&reference, &snapshot));
                        snapshot.directory
                    }
                    None => resolve_place(&pattern, &checked.dir)
                        .with_context(|| format!("there is no `{pattern}` any more"))?,
                };
                if kind == FileKind::Checkpoint {
                    if let Some((reference, snapshot)) = checkpoint::fetch_base(&place)? {
                        pinned.insert(format!("{pointer}.{}", checkpoint::BASE), pin(&reference, &snapshot));
                    }
                    parts.insert(pointer.clone(), checkpoint::files(&place));
                } else if place.is_dir() {
                    parts.insert(pointer.clone(), checkpoint::tokenizer(&place));
                }
                vec![place]
            }
        };
        files.insert(pointer, found);
    }
    // A model by name is here by now.
    let revision = taken_over.revision(name, &facts)?;
    let training = facts.training;
    let canonical = checked.canonical(name).unwrap_or_default();
    let own_seed = training.as_ref().and_then(|training| training.train.seed);
    let seed = own_seed.unwrap_or(checked.recipe.seed);
    Ok(Node {
        name: name.to_owned(),
        kind: stage.kind.clone(),
        version: kind.version(&stage.settings)? + revision,
        settings: stage.settings.clone(),
        trunk: training.and_then(|training| trunk(&training, &canonical)),
        canonical,
        described: checked.described(name).unwrap_or_default(),
        seed,
        key_seed: kind.is_random().then_some(seed),
        files,
        parts,
        pinned,
        needs: stage_fields(catalog, stage).into_iter().map(|field| (field.pointer, field.name)).collect(),
    })
}

/// Which commit a name on a hub stood for, as records have it.
fn pin(reference: &Reference, snapshot: &Snapshot) -> String {
    format!("{}@{}", reference.name, snapshot.commit)
}

/// What a training shares with longer ones, which can begin with it.
fn trunk(Training { train, settings, .. }: &Training, canonical: &Value) -> Option<Trunk> {
    let length = train.steps.map(Length::Steps).or(train.epochs.map(Length::Epochs));
    let length = length.filter(|_| train.begins_longer_ones())?;
    let mut canonical = canonical.clone();
    let settings = canonical.pointer_mut(&settings.json_pointer())?.as_object_mut()?;
    settings.remove("steps");
    settings.remove("epochs");
    Some(Trunk { canonical, length })
}
